"""From a source film to a finished one without decoding or upscaling: segments of made-up pictures, assembled."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from helpers.pictures import nearest_format, write_segments

from pipeline.assembly.containers import plan_streams
from pipeline.assembly.expected import Expected, expected_of_source
from pipeline.assembly.mux import assemble
from pipeline.encode import ENCODERS, EncodeSpec, tags_for
from pipeline.probe import probe_media

FAST = {"libx264": "veryfast", "libx265": "ultrafast", "libsvtav1": "10"}


def exact(value) -> Fraction:
    return Fraction(value.numerator, value.denominator)


def frame_times(path: Path) -> list[Fraction]:
    """Display times of the first video stream's pictures, seconds, in order."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sorted(packet.pts * exact(stream.time_base) for packet in container.demux(stream) if packet.size)


def first_times(path: Path) -> dict[int, Fraction]:
    """Time of the first packet of each stream, seconds."""
    starts = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                time = packet.pts * exact(packet.stream.time_base)
                starts[packet.stream_index] = min(time, starts.get(packet.stream_index, time))
    return starts


def source_pts(path: Path, time_base: Fraction) -> list[int]:
    pts = [time / time_base for time in frame_times(path)]
    assert all(time.denominator == 1 for time in pts)
    return [time.numerator for time in pts]


def spec_for(source: Path, encoder: str, *, bit_depth: int = 8, **changes: object) -> EncodeSpec:
    """A spec for pictures of 128x96 that carries on the source's clock, colour and pixel shape."""
    video = probe_media(source).video
    own = nearest_format(encoder, bit_depth=bit_depth)
    format = own if own.matrix == "rgb" else replace(own, matrix=video.format.matrix)
    return EncodeSpec(
        **{
            "encoder": ENCODERS[encoder],
            "height": 96,
            "width": 128,
            "format": format,
            "tags": tags_for(format, source=video.format, tags=video.tags),
            "time_base": video.time_base,
            "average_rate": video.average_rate,
            "sample_aspect": video.sample_aspect,
            "preset": FAST.get(encoder),
            "threads": 1,
            "mastering_display": video.mastering_display,
            "content_light": video.content_light,
            **changes,
        }  # type: ignore[arg-type]
    )


def make_film(
    source: Path, out: Path, *, encoder: str = "libx264", segment_frames: int = 4, spec: EncodeSpec | None = None
) -> Expected:
    """Encode one made-up picture for each of the source's frames and assemble the film ``out``."""
    info = probe_media(source)
    spec = spec_for(source, encoder) if spec is None else spec
    container = out.suffix[1:]
    plan = plan_streams(info, container=container, encoder=spec.encoder)
    assert plan.problems == ()
    work = out.with_name(f"{out.name}.work")
    work.mkdir()
    segments = write_segments(work, source_pts(source, spec.time_base), spec, segment_frames=segment_frames)
    assemble(segments, source=info, plan=plan, encode=spec, out=out)
    pts = tuple(time for segment in segments for time in segment.pts)
    expected = expected_of_source(info, streams=plan, encode=spec, container=container, pts=pts)
    return replace(expected, segments=segments)

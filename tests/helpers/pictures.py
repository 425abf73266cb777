"""Frames made without any codec, for tests of what comes after decoding."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.encode import ENCODERS, EncodeSpec, tags_for
from pipeline.frames import ColourTags, Frame, FrameStamp, SampleFormat
from pipeline.segments import CommittedSegment, SegmentWriter


def make_frame(
    index: int, *, pts: int, format: SampleFormat, height: int = 48, width: int = 64, duration: int = 0
) -> Frame:
    """A smooth picture that moves with its index; a function of the arguments. Rows are padded, as a decoder's are."""
    top = 2**format.bit_depth - 1
    planes = []
    for number, (rows, columns) in enumerate(format.plane_shapes(height=height, width=width)):
        y, x = np.mgrid[0:rows, 0:columns]
        wave = np.sin((x + 3 * index) / 11 + number) * np.cos((y + index) / 7 - number)
        padded = np.zeros((rows, columns + 5), dtype=format.dtype)
        padded[:, :columns] = np.round((0.5 + 0.35 * wave) * top)
        planes.append(padded[:, :columns])
    return Frame(
        stamp=FrameStamp(index=index, pts=pts, duration=duration),
        format=format,
        height=height,
        width=width,
        planes=(planes[0], planes[1], planes[2]),
    )


def make_frames(pts: Sequence[int], spec: EncodeSpec, *, first: int = 0) -> Iterator[Frame]:
    """One frame per pts, fit for the spec. The pictures depend on the index alone."""
    for index, time in enumerate(pts, first):
        yield make_frame(index, pts=time, format=spec.format, height=spec.height, width=spec.width)


def nearest_format(encoder: str, *, bit_depth: int = 8) -> SampleFormat:
    """A format that an encoder takes: the one with the least chroma at or above ``bit_depth``."""
    keys = [key for key in ENCODERS[encoder].pixel_formats if key.bit_depth >= bit_depth]
    key = min(keys, key=lambda key: (key.bit_depth, key.colour == "rgb", key.subsampling))
    return SampleFormat(
        matrix="rgb" if key.colour == "rgb" else "bt709",
        subsampling=key.subsampling,
        bit_depth=key.bit_depth,
        full_range=key.colour == "rgb",
    )


def make_spec(encoder: str, *, bit_depth: int = 8, tags: ColourTags | None = None, **changes: object) -> EncodeSpec:
    """A spec for small pictures, fast presets and one thread."""
    fast = {"libx264": "veryfast", "libx265": "ultrafast", "libsvtav1": "10", "png": "1"}
    changes.setdefault("format", nearest_format(encoder, bit_depth=bit_depth))
    changes.setdefault("preset", fast.get(encoder))
    changes.setdefault("average_rate", Fraction(24))
    changes.setdefault("time_base", Fraction(1, 15360))
    format = changes["format"]
    assert isinstance(format, SampleFormat)
    return EncodeSpec(
        **{"height": 48, "width": 64, "threads": 1, **changes},  # type: ignore[arg-type]
        encoder=ENCODERS[encoder],
        tags=tags_for(format, source=format, tags=tags or ColourTags()),
    )


def write_segments(
    folder: Path, pts: Sequence[int], spec: EncodeSpec, *, segment_frames: int
) -> tuple[CommittedSegment, ...]:
    """Encode one frame per pts into committed segments."""
    with SegmentWriter(folder, spec, segment_frames=segment_frames) as writer:
        for frame in make_frames(pts, spec):
            writer.write(frame)
        return writer.finish()

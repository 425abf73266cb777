"""Reads a finished file again and compares it with what was promised, before it gets its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.assembly.coded_pictures import CodedPictures
from pipeline.assembly.compare_streams import (
    Difference,
    FoundStream,
    compare_film,
    compare_others,
    is_attached_pic,
    ms,
)
from pipeline.assembly.expected import Expected, ExpectedStream
from pipeline.assembly.picture_folder import picture_name
from pipeline.assembly.source_streams import is_silence
from pipeline.decode.container import error_text, exact_fraction, open_container, to_fraction
from pipeline.decode.display_area import Orientation, read_orientation
from pipeline.errors import MediaError, VerificationFailed
from pipeline.frames import UNSPECIFIED
from pipeline.probe import probe_media

__all__ = ["Expected", "ExpectedStream", "verify_output"]

_MATROSKA_TICK_S = Fraction(1, 1000)
"""Matroska as libav writes it rounds every time to this."""
_RANGES = {0: None, 1: False, 2: True}
"""libavutil AVColorRange."""
_HDR_STEPS, _PEAK_STEPS = 1, 20
"""By how many of their steps numbers of HDR metadata may differ: AV1 keeps the peak in 1/256 cd/m2, which is 39 of
0.0001, and all else in steps closer to those of the texts. Source: AV1 specification 6.7.4."""
_MAX_DIFFERENCES = 8
"""More are not named; one that is everywhere (each frame late) is one."""
_HINT = "please report it with the log; output.keep_work keeps the segments, and a new run makes the film again"


def verify_output(path: Path, expected: Expected) -> dict[str, Any]:
    """Compare a finished output with what it must be.

    Args:
        path: The file or, for pictures, the folder.
        expected: What it must be.

    Returns:
        What was found, for the report: frame count, first and last time, streams, and so on.

    Raises:
        VerificationFailed: It is something else; names the differences.
    """
    if expected.container == "png":
        return _verify_pictures(path, expected)
    import av

    try:
        with open_container(path) as container:
            comparison = _Comparison(path, expected, container)
            differences = [str(difference) for difference in comparison.run()]
    except (av.FFmpegError, OSError) as exc:
        raise VerificationFailed(f"{path} cannot be read: {error_text(exc)}", path=path, hint=_HINT) from exc
    if differences:
        more = len(differences) - _MAX_DIFFERENCES
        text = "; ".join(differences[:_MAX_DIFFERENCES]) + (f" (and {more} more)" if more > 0 else "")
        raise VerificationFailed(f"{path} is not what was promised: {text}", path=path, hint=_HINT)
    return comparison.found


@dataclass(frozen=True, slots=True)
class _Times:
    """What reading all packets tells."""

    pictures: list[Fraction]
    """In display order, seconds."""
    firsts: dict[int, Fraction]
    """Of each other stream by index."""
    lasts: dict[int, Fraction]
    timeless: frozenset[int]
    """Streams with a packet that has no time."""
    first_other: int | None
    """The first coded picture that is not its segment's, in decoding order; None if there is none."""


class _Comparison:
    """One output file, opened, against what is expected of it."""

    def __init__(self, path: Path, expected: Expected, container: Any) -> None:
        self._path = path
        self._expected = expected
        self._container = container
        self.found: dict[str, Any] = {}

    def run(self) -> Iterator[Difference]:
        """Compare everything; see ``verify_output``. What it found is in ``found`` then."""
        expected, container = self._expected, self._container
        videos = [stream for stream in container.streams.video if not is_attached_pic(stream)]
        if not videos:
            yield Difference(what="video streams", found="none", promised="the film")
            return
        video = videos[0]
        yield from self._compare_header(video)
        yield from self._compare_picture()
        yield from self._compare_light()
        yield from compare_film(video, expected)
        others = [stream for stream in container.streams if stream.index != video.index]
        yield from _different("chapters", len(container.chapters()), expected.chapter_count)
        times = self._read_times(video)
        if times.timeless:
            yield Difference(what="packets without a time", found=f"in stream {min(times.timeless)}", promised="none")
            return
        yield from self._compare_times(times.pictures)
        if times.first_other is not None:
            yield Difference(what=f"coded picture {times.first_other}", found="another", promised="its segment's")
        if not times.pictures:
            return
        origin_s = times.pictures[0]
        streams = [
            FoundStream(
                stream=stream,
                first_s=None if stream.index not in times.firsts else times.firsts[stream.index] - origin_s,
                last_s=None if stream.index not in times.lasts else times.lasts[stream.index] - origin_s,
            )
            for stream in others
        ]
        yield from compare_others(streams, expected)
        self.found = {
            "frames": len(times.pictures),
            "first_s": float(origin_s),
            "last_s": float(times.pictures[-1]),
            "streams": 1 + len(others),
            "chapters": expected.chapter_count,
            "sound_offsets_s": [float(one.first_s or 0) for one in streams if one.stream.type == "audio"],
        }

    def _compare_header(self, video: Any) -> Iterator[Difference]:
        encode = self._expected.encode
        context = video.codec_context
        yield from _different("codec", context.codec.canonical_name, encode.encoder.codec)
        yield from _different("size", f"{context.width}x{context.height}", f"{encode.width}x{encode.height}")
        # Matroska keeps the pixel aspect as a display size in whole pixels
        aspect = exact_fraction(video.sample_aspect_ratio) or Fraction(1)
        if abs(aspect / encode.sample_aspect - 1) > Fraction(1, min(encode.width, encode.height)):
            yield Difference(what="pixel aspect", found=str(aspect), promised=str(encode.sample_aspect))
        tags = encode.tags
        yield from _different("colour matrix", int(context.colorspace), tags.matrix)
        yield from _different("colour primaries", int(context.color_primaries), tags.primaries)
        yield from _different("transfer", int(context.color_trc), tags.transfer)
        if tags.full_range is not None and not encode.encoder.limited_range_only:
            yield from _different("full range", _RANGES[int(context.color_range)], tags.full_range)

    def _compare_picture(self) -> Iterator[Difference]:
        """What the first picture itself says, which must be decodable: rotation, and colours where it has tags."""
        # opened anew: seeking back would skip packets before time 0
        with open_container(self._path) as container:
            video = next(stream for stream in container.streams.video if not is_attached_pic(stream))
            picture = next(container.decode(video), None)
        if picture is None:
            yield Difference(what="pictures that can be decoded", found="none", promised="the first")
            return
        turn = Orientation(rotation_deg=self._expected.rotation_deg, is_mirrored=self._expected.is_mirrored)
        yield from _different("rotation", read_orientation(picture).words, turn.words)
        tags = self._expected.encode.tags
        for what, found, promised in (
            ("colour matrix", int(picture.colorspace), tags.matrix),
            ("colour primaries", int(picture.color_primaries), tags.primaries),
            ("transfer", int(picture.color_trc), tags.transfer),
        ):
            if found != UNSPECIFIED:
                yield from _different(f"{what} of the pictures", found, promised)

    def _compare_light(self) -> Iterator[Difference]:
        """Mastering display and content light, where the encoder can write them."""
        encode = self._expected.encode
        display = encode.mastering_display if encode.encoder.mastering_param else ""
        light = encode.content_light if encode.encoder.light_param else ""
        if not display and not light:
            return
        try:
            video = probe_media(self._path).video
        except MediaError as exc:
            yield Difference(what="the film", found=str(exc), promised="one that can be decoded")
            return
        for what, found, promised in (
            ("mastering display", video.mastering_display, display),
            ("content light", video.content_light, light),
        ):
            if promised and not _is_close(found, promised):
                yield Difference(what=what, found=found or "none", promised=promised)

    def _read_times(self, video: Any) -> _Times:
        units = {stream.index: to_fraction(stream.time_base) for stream in self._container.streams if stream.time_base}
        pictures: list[Fraction] = []
        firsts: dict[int, Fraction] = {}
        lasts: dict[int, Fraction] = {}
        timeless = set()
        timed = [one for one in self._container.streams if one.type in {"video", "audio", "subtitle"}]
        wanted = [one for one in timed if not is_attached_pic(one)]
        coded = CodedPictures(self._expected.segments)
        for packet in self._container.demux(wanted):
            index = packet.stream.index
            if not packet.size or is_silence(packet.stream, packet):
                continue
            if index == video.index and self._expected.segments:
                coded.take(bytes(packet))
            if packet.pts is None:
                timeless.add(index)
                continue
            time = packet.pts * units[index]
            if index == video.index:
                pictures.append(time)
            else:
                firsts.setdefault(index, time)
                lasts[index] = max(time, lasts.get(index, time))
        return _Times(sorted(pictures), firsts, lasts, frozenset(timeless), coded.first_other)

    def _compare_times(self, times: list[Fraction]) -> Iterator[Difference]:
        expected = self._expected
        yield from _different("frames", len(times), len(expected.pts))
        if not times:
            return
        unit = expected.encode.time_base
        is_rounded = expected.container == "mkv"
        first_s = expected.pts[0] * unit
        # all times move by whole seconds, if at all (see mux): then each is rounded to the tick that is nearest to it
        moved_s = round(times[0] - first_s)
        is_known = abs(times[0] - first_s - moved_s) <= _MATROSKA_TICK_S / 2
        for index, (time, pts) in enumerate(zip(times, expected.pts, strict=False)):
            found, promised = time - times[0], (pts - expected.pts[0]) * unit
            if not is_rounded:
                is_right = found == promised
            elif is_known:
                is_right = abs(time - pts * unit - moved_s) <= _MATROSKA_TICK_S / 2
            else:
                is_right = abs(found - promised) < _MATROSKA_TICK_S
            if not is_right:
                yield Difference(what=f"frame {index}: time after the first", found=ms(found), promised=ms(promised))
                break
        duration = self._container.duration
        if duration is not None and Fraction(duration, 1_000_000) < times[-1] - times[0]:
            at_least = f"at least {float(times[-1] - times[0]):.3f} s"
            yield Difference(what="duration", found=f"{duration / 1e6:.3f} s", promised=at_least)


def _different(what: str, found: object, promised: object) -> Iterator[Difference]:
    if found != promised:
        yield Difference(what=what, found=str(found), promised=str(promised))


def _is_close(found: str, promised: str) -> bool:
    """Whether two texts state the same light, as closely as bitstreams keep it."""
    numbers = [[int(number) for number in re.findall(r"\d+", text)] for text in (found, promised)]
    steps = [_HDR_STEPS if "L(" in promised else 0] * len(numbers[1])  # content light is whole cd/m2 everywhere
    if "L(" in promised:
        steps[-2] = _PEAK_STEPS
    return len(numbers[0]) == len(numbers[1]) and all(
        abs(one - other) <= step for one, other, step in zip(*numbers, steps, strict=True)
    )


def _verify_pictures(folder: Path, expected: Expected) -> dict[str, Any]:
    """Every frame is there under its number, and the first one is a picture of the right size."""
    import av

    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for index in range(len(expected.pts)):
        if picture_name(index) not in names:
            raise VerificationFailed(f"{folder} lacks {picture_name(index)}", path=folder, hint=_HINT)
    if len(names) != len(expected.pts):
        raise VerificationFailed(f"{folder} holds {len(names)} files, not {len(expected.pts)}", path=folder, hint=_HINT)
    first = folder / picture_name(0)
    try:
        with open_container(first) as container:
            picture = next(container.decode(video=0))
    except (av.FFmpegError, OSError, StopIteration) as exc:
        raise VerificationFailed(f"{first} is not a picture: {exc}", path=folder, hint=_HINT) from exc
    encode = expected.encode
    if (picture.height, picture.width) != (encode.height, encode.width):
        raise VerificationFailed(
            f"{first} is {picture.width}x{picture.height}, not {encode.width}x{encode.height}", path=folder, hint=_HINT
        )
    return {"frames": len(names), "streams": 1}

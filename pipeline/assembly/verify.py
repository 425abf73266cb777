"""Reads a finished file again and compares it with what was promised, before it gets its name."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from pipeline.assembly.expected import Expected, ExpectedStream, flags_of, plain_language
from pipeline.assembly.picture_folder import picture_name
from pipeline.decode.container import error_text, exact_fraction, open_container, to_fraction
from pipeline.decode.display_area import Orientation, read_orientation
from pipeline.decode.sidedata import content_light_text, mastering_display_text
from pipeline.errors import VerificationFailed
from pipeline.frames import UNSPECIFIED

__all__ = ["Expected", "ExpectedStream", "verify_output"]

_MATROSKA_TICK_S = Fraction(1, 1000)
"""Matroska as libav writes it rounds every time to this."""
_START_TOLERANCE_S = Fraction(1, 1000)
"""How far the start of a sound track may move against the picture: one Matroska tick."""
_PEAK_STEPS = 20
"""AV1 keeps the peak in 1/256 cd/m2, which is 39 steps of 0.0001; all else in steps closer to those of the texts.
Source: AV1 specification 6.7.4."""
_RANGES = {0: None, 1: False, 2: True}
"""libavutil AVColorRange."""
_HINT = "this is a defect of the program; please report it with the log (output.keep_work keeps the segments)"


def verify_output(path: Path, expected: Expected) -> dict[str, Any]:
    """Compare a finished output with what it must be.

    Args:
        path: The file or, for pictures, the folder.
        expected: What it must be.

    Returns:
        What was found, for the report: frame count, first and last time, streams, and so on.

    Raises:
        VerificationFailed: It is something else; names the first difference.
    """
    if expected.container == "png":
        return _verify_pictures(path, expected)
    import av

    try:
        with open_container(path) as container:
            return _Comparison(path, expected, container).run()
    except (av.FFmpegError, OSError) as exc:
        raise VerificationFailed(f"{path} cannot be read: {error_text(exc)}", path=path, hint=_HINT) from exc


class _Comparison:
    """One output file, opened, against what is expected of it."""

    def __init__(self, path: Path, expected: Expected, container: Any) -> None:
        self._path = path
        self._expected = expected
        self._container = container

    def run(self) -> dict[str, Any]:
        """Compare everything; see ``verify_output``."""
        expected, container = self._expected, self._container
        videos = [stream for stream in container.streams.video if not _is_attached_pic(stream)]
        self._demand("a video stream", bool(videos), True)
        video = videos[0]
        self._compare_header(video)
        others = [stream for stream in container.streams if stream.index != video.index]
        self._compare_streams(others)
        self._demand("chapters", len(container.chapters()), expected.chapter_count)
        picture = self._read_first()
        turn = Orientation(rotation_deg=expected.rotation_deg, is_mirrored=expected.is_mirrored)
        self._demand("rotation", read_orientation(picture).words, turn.words)
        self._compare_light(picture)
        self._compare_colour(picture)
        sounds = [stream.index for stream in others if stream.type == "audio"]
        times, starts = self._read_times(video, sounds)
        self._compare_times(times)
        offsets = [starts[index] - times[0] if index in starts else Fraction(0) for index in sounds]
        for number, (found, promised) in enumerate(zip(offsets, expected.start_offsets_s, strict=True)):
            if abs(found - promised) > _START_TOLERANCE_S:
                self._fail(f"sound track {number}: start after the first frame", _ms(found), _ms(promised))
        return {
            "frames": len(times),
            "first_s": float(times[0]),
            "last_s": float(times[-1]),
            "streams": 1 + len(others),
            "chapters": expected.chapter_count,
            "sound_offsets_s": [float(offset) for offset in offsets],
        }

    def _compare_header(self, video: Any) -> None:
        encode = self._expected.encode
        context = video.codec_context
        self._demand("codec", context.codec.canonical_name, encode.encoder.codec)
        self._demand("size", f"{context.width}x{context.height}", f"{encode.width}x{encode.height}")
        self._compare_aspect(video)
        tags = encode.tags
        self._demand("colour matrix", int(context.colorspace), tags.matrix)
        self._demand("colour primaries", int(context.color_primaries), tags.primaries)
        self._demand("transfer", int(context.color_trc), tags.transfer)
        if tags.full_range is not None and not encode.encoder.limited_range_only:
            self._demand("full range", _RANGES[int(context.color_range)], tags.full_range)

    def _read_first(self) -> Any:
        """The first picture, which must be decodable."""
        # opened anew: seeking back would skip packets before time 0
        with open_container(self._path) as container:
            video = next(stream for stream in container.streams.video if not _is_attached_pic(stream))
            picture = next(container.decode(video), None)
        if picture is None:
            self._fail("pictures that can be decoded", "none", "the first")
        return picture

    def _compare_colour(self, picture: Any) -> None:
        """What the pictures say of their colours, where they say it: the container's word was compared before."""
        tags = self._expected.encode.tags
        for what, found, promised in (
            ("colour matrix", int(picture.colorspace), tags.matrix),
            ("colour primaries", int(picture.color_primaries), tags.primaries),
            ("transfer", int(picture.color_trc), tags.transfer),
        ):
            if found != UNSPECIFIED:
                self._demand(f"{what} of the pictures", found, promised)

    def _compare_light(self, picture: Any) -> None:
        """HDR metadata, where the encoder can write it."""
        encode = self._expected.encode
        for what, side_data, text_of, promised, param in (
            (
                "mastering display",
                "MASTERING_DISPLAY_METADATA",
                mastering_display_text,
                encode.mastering_display,
                encode.encoder.mastering_param,
            ),
            (
                "content light level",
                "CONTENT_LIGHT_LEVEL",
                content_light_text,
                encode.content_light,
                encode.encoder.light_param,
            ),
        ):
            if not promised or not param:
                continue
            payload = picture.side_data.get(side_data)
            found = "" if payload is None else text_of(bytes(payload))
            if not _is_same_light(found, promised):
                self._fail(what, found or "none", promised)

    def _compare_aspect(self, video: Any) -> None:
        """Pixel aspect; Matroska keeps it as a display size in whole pixels."""
        encode = self._expected.encode
        found = exact_fraction(video.sample_aspect_ratio) or Fraction(1)
        if abs(found / encode.sample_aspect - 1) > Fraction(1, min(encode.width, encode.height)):
            self._fail("pixel aspect", str(found), str(encode.sample_aspect))

    def _compare_streams(self, others: list[Any]) -> None:
        found = Counter(_describe_stream(stream) for stream in others if stream.type != "data")
        promised = Counter(_kind_of(stream) for stream in self._expected.streams)
        for stream, count in (promised - found).items():
            self._fail(
                f"{stream.kind} streams with codec {stream.codec or '-'} and language {stream.language or '-'}",
                str(found[stream]),
                str(found[stream] + count),
            )
        for stream in found - promised:
            self._fail(
                f"{stream.kind} streams with codec {stream.codec or '-'} and language {stream.language or '-'}",
                str(found[stream]),
                str(promised[stream]),
            )
        for kind in promised:
            self._compare_alike(kind, others)

    def _compare_alike(self, kind: ExpectedStream, others: list[Any]) -> None:
        """Titles and flags of streams that are otherwise alike, in the order of the streams."""
        wanted = [stream for stream in self._expected.streams if _kind_of(stream) == kind]
        found = [stream for stream in others if stream.type != "data" and _describe_stream(stream) == kind]
        for stream, wish in zip(found, wanted, strict=True):
            title = stream.metadata.get("title") or stream.metadata.get("name", "")
            if wish.title is not None:
                self._demand(f"title of a {kind.kind} stream", repr(title), repr(wish.title))
            if wish.flags is not None:
                self._demand(
                    f"flags of a {kind.kind} stream",
                    " ".join(flags_of(stream)) or "none",
                    " ".join(wish.flags) or "none",
                )

    def _read_times(self, video: Any, sounds: list[int]) -> tuple[list[Fraction], dict[int, Fraction]]:
        """Times of all pictures in display order, and of the first packet of each sound track."""
        units = {stream.index: to_fraction(stream.time_base) for stream in self._container.streams}
        pictures: list[Fraction] = []
        starts: dict[int, Fraction] = {}
        wanted = [self._container.streams[index] for index in (video.index, *sounds)]
        for packet in self._container.demux(wanted):
            index = packet.stream.index
            if not packet.size:
                continue
            if packet.pts is None:
                self._fail("a time for every packet", f"none in stream {index}", "one")
            time = packet.pts * units[index]
            if index == video.index:
                pictures.append(time)
            else:
                starts[index] = min(time, starts.get(index, time))
        return sorted(pictures), starts

    def _compare_times(self, times: list[Fraction]) -> None:
        expected = self._expected
        self._demand("frames", len(times), len(expected.pts))
        unit = expected.encode.time_base
        is_rounded = expected.container == "mkv"
        first_s = expected.pts[0] * unit
        # all times move by whole seconds, if at all (see mux): then each is rounded to the tick that is nearest to it
        moved_s = round(times[0] - first_s)
        is_known = abs(times[0] - first_s - moved_s) <= _MATROSKA_TICK_S / 2
        for index, (time, pts) in enumerate(zip(times, expected.pts, strict=True)):
            found, promised = time - times[0], (pts - expected.pts[0]) * unit
            if not is_rounded:
                is_right = found == promised
            elif is_known:
                is_right = abs(time - pts * unit - moved_s) <= _MATROSKA_TICK_S / 2
            else:
                is_right = abs(found - promised) < _MATROSKA_TICK_S
            if not is_right:
                self._fail(f"frame {index}: time after the first", _ms(found), _ms(promised))
        duration = self._container.duration
        if duration is not None and Fraction(duration, 1_000_000) < times[-1] - times[0]:
            self._fail("duration", f"{duration / 1e6:.3f} s", f"at least {float(times[-1] - times[0]):.3f} s")

    def _demand(self, what: str, found: object, promised: object) -> None:
        if found != promised:
            self._fail(what, str(found), str(promised))

    def _fail(self, what: str, found: str, promised: str) -> NoReturn:
        raise VerificationFailed(
            f"{self._path} is not what was promised: {what}: {found}, not {promised}", path=self._path, hint=_HINT
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


def _is_same_light(found: str, promised: str) -> bool:
    """Whether two texts state the same light, as closely as bitstreams keep it."""
    numbers = [[int(number) for number in re.findall(r"\d+", text)] for text in (found, promised)]
    steps = [1] * len(numbers[1])
    if "L(" in promised:
        steps[-2] = _PEAK_STEPS
    else:
        steps = [0] * len(steps)  # content light is whole cd/m2 everywhere
    return len(numbers[0]) == len(numbers[1]) and all(
        abs(one - other) <= step for one, other, step in zip(*numbers, steps, strict=True)
    )


def _kind_of(stream: ExpectedStream) -> ExpectedStream:
    """What tells streams apart, whatever their order."""
    return replace(stream, title=None, flags=None)


def _describe_stream(stream: Any) -> ExpectedStream:
    context = stream.codec_context
    return ExpectedStream(
        kind=stream.type,
        codec=context.codec.canonical_name if context is not None else "",
        language=plain_language(stream.metadata.get("language", "")),
        is_attached_pic=_is_attached_pic(stream),
    )


def _is_attached_pic(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _ms(value: Fraction) -> str:
    return f"{float(value) * 1000:.3f} ms"

"""What libav says of a media file, read without this project's code, and how two such descriptions differ.

A description is flat: a name such as ``audio 1 language`` and a value. Times are seconds after the first picture: two
files agree if all their streams lie alike, wherever their clocks begin.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from helpers.media import read_counter

GONE = "not there"
"""Value of a name that a description lacks."""
MATROSKA_TICK_S = Fraction(1, 1000)

_OF_THE_FILE = frozenset(
    {
        *("encoder", "software", "major_brand", "minor_version", "compatible_brands", "duration", "creation_time"),
        *("handler_name", "vendor_id", "filename", "mimetype"),
    }
)
"""Tags that describe the file and its writer, not the film; an attachment's name and type are compared as such."""
_COMPARED_ALONE = frozenset({"language", "title", "name"})


@dataclass(frozen=True, slots=True)
class Times:
    """Times of a stream's pictures or packets, seconds after the first picture."""

    seconds: tuple[Fraction, ...]
    tick_s: Fraction
    """Unit in which the file keeps them."""

    def agrees(self, other: Times) -> bool:
        """Whether all are the same but for the rounding of a file that keeps whole milliseconds."""
        coarse = max(self.tick_s, other.tick_s)
        tolerance = MATROSKA_TICK_S if coarse >= MATROSKA_TICK_S else coarse
        return len(self.seconds) == len(other.seconds) and all(
            abs(one - two) <= tolerance for one, two in zip(self.seconds, other.seconds, strict=True)
        )


Facts = dict[str, Any]


def describe_film(path: Path) -> Facts:
    """Everything of a film that must outlive upscaling."""
    with av.open(str(path)) as container:
        film = _main_video(container)
        facts, first_s = _describe_pictures(container, film)
        facts |= _describe_file(container, first_s)
        packets = _read_packets(path, film.index)
        lines = _read_lines(path)
        numbers: Counter[str] = Counter()
        for stream in container.streams:
            kind = _kind(stream)
            if stream.index == film.index or kind == "data":
                continue
            name = f"{kind} {numbers[kind]}"
            numbers[kind] += 1
            facts |= _describe_stream(name, stream, packets.get(stream.index, []), first_s)
            if stream.index in lines:
                facts[f"{name} lines"] = tuple(
                    (round((start_s - first_s) * 1000), round(length_s * 1000), text)
                    for start_s, length_s, text in lines[stream.index]
                )
        facts |= {f"{kind} streams": numbers[kind] for kind in ("video", "audio", "subtitle", "attachment", "cover")}
    return facts


def differences(source: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Names whose values differ, each with what the source and what the result has."""
    found = {}
    for name in sorted({*source, *result}):
        before, after = source.get(name, GONE), result.get(name, GONE)
        if isinstance(before, Times) and isinstance(after, Times):
            if not before.agrees(after):
                found[name] = (_in_ms(before), _in_ms(after))
        elif before != after:
            found[name] = (before, after)
    return found


def _main_video(container: Any) -> Any:
    """The largest picture that is no cover."""
    films = [stream for stream in container.streams.video if _kind(stream) == "video"]
    return max(films, key=lambda stream: (stream.height * stream.width, -stream.index))


def _kind(stream: Any) -> str:
    is_cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
    if stream.type == "video":
        return "cover" if is_cover else "video"
    return str(stream.type)


def _describe_pictures(container: Any, film: Any) -> tuple[Facts, Fraction]:
    unit = _exact(film.time_base)
    times: list[Fraction] = []
    counters = []
    first: Any = None
    for frame in container.decode(film):
        first = frame if first is None else first
        previous = times[-1] if times else Fraction(0)
        times.append(frame.pts * unit if frame.pts is not None else previous)
        counters.append(read_counter(_brightness(frame)))
    first_s = times[0]
    context = film.codec_context
    return {
        "pictures": len(times),
        "counters": tuple(counters),
        "picture times": Times(tuple(time - first_s for time in times), unit),
        "height": first.height,
        "width": first.width,
        "pixel aspect": Fraction(*_pair(film.sample_aspect_ratio)),
        "rotation": int(first.rotation) % 360,
        "display matrix": bytes(first.side_data.get("DISPLAYMATRIX") or b"")[:20].hex(),
        "matrix": int(first.colorspace) if int(first.colorspace) != 2 else int(context.colorspace),
        "primaries": int(first.color_primaries),
        "transfer": int(first.color_trc),
        "range": int(first.color_range) or int(context.color_range),
        "bit depth": first.format.components[0].bits,
        "chroma": _chroma(first),
        "picture language": _language(film),
        "picture title": _title(film),
        "picture tags": _tags(film.metadata, but=_COMPARED_ALONE),
        "picture dispositions": _dispositions(film),
        "hdr": tuple(sorted(_hdr(first).items())),
    }, first_s


def _brightness(frame: Any) -> Any:
    name = "gray16le" if frame.format.components[0].bits > 8 else "gray"
    return frame.reformat(format=name).to_ndarray()


def _chroma(frame: Any) -> str:
    components = frame.format.components
    if frame.format.is_rgb:
        return "rgb"
    if len(components) < 3:
        return "grey"
    wide = -(-frame.width // components[1].width)
    high = -(-frame.height // components[1].height)
    return {(1, 1): "444", (2, 1): "422", (2, 2): "420"}[wide, high]


def _hdr(frame: Any) -> dict[str, bytes]:
    side_data = frame.side_data
    kinds = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
    return {kind: bytes(side_data.get(kind)) for kind in kinds if side_data.get(kind) is not None}


def _describe_file(container: Any, first_s: Fraction) -> Facts:
    chapters = tuple(
        (round((chapter["start"] * _exact(chapter["time_base"]) - first_s) * 1000), chapter["metadata"].get("title"))
        for chapter in container.chapters()
    )
    return {"chapters": chapters, "tags": _tags(container.metadata)}


def _read_packets(path: Path, film: int) -> dict[int, list[tuple[Fraction | None, str]]]:
    """(time, digest of the content) of every packet of all streams but the film's picture."""
    found: dict[int, list[tuple[Fraction | None, str]]] = {}
    with av.open(str(path)) as container:
        units = {stream.index: _exact(stream.time_base) for stream in container.streams}
        for packet in container.demux():
            if not packet.size or packet.stream.index == film:
                continue
            time = None if packet.pts is None else packet.pts * units[packet.stream.index]
            digest = hashlib.sha256(bytes(packet)).hexdigest()[:16]
            found.setdefault(packet.stream.index, []).append((time, digest))
    return found


def _read_lines(path: Path) -> dict[int, list[tuple[Fraction, Fraction, str]]]:
    """(start, duration, text without styling) of every line of all text subtitles."""
    found: dict[int, list[tuple[Fraction, Fraction, str]]] = {}
    with av.open(str(path)) as container:
        texts = [stream for stream in container.streams.subtitles if _is_text(stream)]
        units = {stream.index: _exact(stream.time_base) for stream in texts}
        for packet in container.demux(texts) if texts else ():
            unit = units[packet.stream.index]
            for line in packet.decode() if packet.size else ():
                text = re.sub(
                    r"\{[^}]*\}", "", line.dialogue.decode() if isinstance(line.dialogue, bytes) else line.dialogue
                )
                if text:
                    entry = (packet.pts * unit, (packet.duration or 0) * unit, text.strip())
                    found.setdefault(packet.stream.index, []).append(entry)
    return found


def _is_text(stream: Any) -> bool:
    return stream.codec_context.codec.canonical_name in {"ass", "mov_text", "subrip", "webvtt"}


def _describe_stream(name: str, stream: Any, packets: list[tuple[Fraction | None, str]], first_s: Fraction) -> Facts:
    if stream.type == "attachment":
        digest = hashlib.sha256(stream.data).hexdigest()[:16]
        return {
            f"{name} name": stream.name,
            f"{name} type": stream.mimetype,
            f"{name} title": _title(stream),
            f"{name} content": digest,
        }
    facts: Facts = {
        f"{name} codec": stream.codec_context.codec.canonical_name,
        f"{name} language": _language(stream),
        f"{name} title": _title(stream),
        f"{name} tags": _tags(stream.metadata, but=_COMPARED_ALONE),
        f"{name} packets": tuple(digest for _, digest in packets),
    }
    if not name.startswith("cover"):
        times = tuple(time - first_s for time, _ in packets if time is not None)
        facts |= {
            f"{name} dispositions": _dispositions(stream),
            f"{name} times": Times(times, _exact(stream.time_base)),
        }
    return facts


def _tags(metadata: Mapping[str, str], *, but: frozenset[str] = frozenset()) -> dict[str, str]:
    """Tags of a film or stream. Matroska writes names in capitals, so case is no difference."""
    named = {key.lower(): value for key, value in metadata.items()}
    return {key: value for key, value in named.items() if key not in _OF_THE_FILE | but}


def _title(stream: Any) -> str:
    """A stream's title; libav calls what mp4 and mov have of it ``name``."""
    return str(stream.metadata.get("title") or stream.metadata.get("name", ""))


def _language(stream: Any) -> str:
    language = stream.metadata.get("language", "")
    return "" if language == "und" else str(language)


def _dispositions(stream: Any) -> tuple[str, ...]:
    return tuple(sorted(str(flag.name) for flag in stream.disposition))


def _exact(value: Any) -> Fraction:
    return Fraction(value.numerator, value.denominator)


def _pair(value: Any) -> tuple[int, int]:
    return (value.numerator, value.denominator) if value and value.denominator and value.numerator > 0 else (1, 1)


def _in_ms(times: Times) -> str:
    shown = [f"{float(time) * 1000:.2f}" for time in times.seconds[:12]]
    return f"{len(times.seconds)} at {' '.join(shown)} ms"

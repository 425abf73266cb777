"""Compares the streams of a finished file with those that were promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipeline.assembly.expected import HELD_DISPOSITIONS, Expected, ExpectedStream
from pipeline.assembly.source_streams import dispositions_of, plain_language, title_of

START_TOLERANCE_S = Fraction(1, 1000)
"""How far the start of a stream may move against the picture: one Matroska tick."""
END_TOLERANCE_S = Fraction(1, 10)
"""How far the time of a sound track's last packet may: a few packets. Muxers leave out broken ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One way in which a file is not what was promised."""

    what: str
    found: str
    promised: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found}, not {self.promised}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStream:
    """A stream of a finished file."""

    stream: Any
    """libav's."""
    first_s: Fraction | None
    """Time of its first packet, seconds after the first frame; None if it has none."""
    last_s: Fraction | None
    """Of its last packet."""

    @property
    def identity(self) -> tuple[str, str, str, bool]:
        """As ``ExpectedStream.identity``."""
        stream = self.stream
        context = stream.codec_context
        return (
            stream.type,
            context.codec.canonical_name if context is not None else "",
            plain_language(stream.metadata.get("language", "")),
            is_attached_pic(stream),
        )


def is_attached_pic(stream: Any) -> bool:
    """Whether a stream is a cover."""
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def compare_film(stream: Any, expected: Expected) -> Iterator[Difference]:
    """Compare what the main video's stream says beside its format.

    Args:
        stream: libav's, of the main video.
        expected: Of the file.
    """
    if expected.film is None:
        return
    wanted = expected.film
    language = plain_language(stream.metadata.get("language", ""))
    # mp4 and mov hold three letters
    if language != wanted.language and (expected.container == "mkv" or len(wanted.language) == 3):
        yield Difference(what="language of the film", found=language or "none", promised=wanted.language or "none")
    is_alone = "default" not in (wanted.dispositions or ())
    yield from _compare_words(stream, wanted, name="the film", container=expected.container, is_alone=is_alone)


def compare_others(found: Sequence[FoundStream], expected: Expected) -> Iterator[Difference]:
    """Compare all streams but the main video: which there are, in which order, what they say, and when they begin.

    Args:
        found: In the order of the file; data streams are no promise of ours.
        expected: Of the file.
    """
    found = [one for one in found if one.stream.type != "data"]
    counts = Counter(one.identity for one in found), Counter(one.identity for one in expected.streams)
    if counts[0] != counts[1]:
        yield from _compare_counts(*counts)
        return
    for kind in ("video", "audio", "subtitle"):
        theirs = [one for one in found if one.stream.type == kind and not is_attached_pic(one.stream)]
        wanted = [one for one in expected.streams if one.kind == kind and not one.is_attached_pic]
        # of the videos, the film is the first
        is_alone = kind != "video" and not any("default" in (one.dispositions or ()) for one in wanted)
        for number, (one, promise) in enumerate(zip(theirs, wanted, strict=True)):
            name = f"{kind} stream {number}" if kind != "audio" else f"sound track {number}"
            if one.identity != promise.identity:
                yield Difference(what=name, found=_words(one.identity), promised=_words(promise.identity))
                continue
            yield from _compare_words(
                one.stream, promise, name=name, container=expected.container, is_alone=is_alone and number == 0
            )
            yield from _compare_span(one, promise, name=name)


def _compare_counts(
    found: Mapping[tuple[str, str, str, bool], int], promised: Mapping[tuple[str, str, str, bool], int]
) -> Iterator[Difference]:
    for identity in dict.fromkeys([*promised, *found]):
        if found.get(identity, 0) != promised.get(identity, 0):
            yield Difference(
                what=f"streams of {_words(identity)}",
                found=str(found.get(identity, 0)),
                promised=str(promised.get(identity, 0)),
            )


def _compare_words(
    stream: Any, wanted: ExpectedStream, *, name: str, container: str, is_alone: bool
) -> Iterator[Difference]:
    """Title and disposition.

    Args:
        stream: libav's.
        wanted: What it must be.
        name: What to call it.
        container: Of the file.
        is_alone: Whether mp4 and mov make it the default one, as no other one of its kind is.
    """
    if wanted.title is not None and title_of(stream) != wanted.title:
        yield Difference(what=f"title of {name}", found=repr(title_of(stream)), promised=repr(wanted.title))
    if wanted.dispositions is None:
        return
    found, promised = dispositions_of(stream) & HELD_DISPOSITIONS[container], wanted.dispositions
    if is_alone and container != "mkv":
        promised |= {"default"}
    if found != promised:
        yield Difference(what=f"disposition of {name}", found=_flags(found), promised=_flags(promised))


def _compare_span(one: FoundStream, wanted: ExpectedStream, *, name: str) -> Iterator[Difference]:
    for what, found_s, promised_s, tolerance_s in (
        ("start", one.first_s, wanted.start_s, START_TOLERANCE_S),
        ("last packet", one.last_s, wanted.end_s, END_TOLERANCE_S),
    ):
        if promised_s is None:
            continue
        if found_s is None:
            yield Difference(what=f"{name}: packets", found="none", promised="some")
            return
        if abs(found_s - promised_s) > tolerance_s:
            yield Difference(what=f"{name}: {what} after the first frame", found=ms(found_s), promised=ms(promised_s))


def ms(value: Fraction) -> str:
    """A time in words."""
    return f"{float(value) * 1000:.3f} ms"


def _words(identity: tuple[str, str, str, bool]) -> str:
    kind, codec, language, is_cover = identity
    return f"{'cover' if is_cover else kind} with codec {codec or '-'} and language {language or '-'}"


def _flags(dispositions: frozenset[str]) -> str:
    return "+".join(sorted(dispositions)) or "none"

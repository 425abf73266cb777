"""The picture check of a plan's result: opens what it needs, chooses the frames and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.assembly.picture_folder import picture_name
from pipeline.decode import DecoderKind, open_decoder
from pipeline.decode.deinterlace_plan import Deinterlacing
from pipeline.decode.frame_index import FrameIndex, build_frame_index
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.errors import MediaError, VerificationFailed
from pipeline.media import MediaInfo
from pipeline.probe import probe_media
from pipeline.show.wording import format_count
from pipeline.verify.film import MAX_FINDINGS, PictureCheck, compare_films
from pipeline.verify.floors import floors_for
from pipeline.verify.reading import DecodedFrames, PictureFrames
from pipeline.verify.sample import sample_frames

SEEK_FROM_FRAMES = 1000
"""Shorter films are decoded from their beginning, and so to their end: looking for a frame means decoding half a key
interval (libx264's is 250 frames), and a sample has 10 places and more."""
HINT = "look at the result beside the source; with --restart the film is made anew; please report it with the log"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTerms:
    """What a picture check needs to know of a film."""

    source: MediaInfo
    """The film as its frames leave the decoder."""
    model: str
    """Name of the network; empty if unknown."""
    frame_count: int
    """Of the result."""
    is_full: bool
    """Whether all frames are compared."""
    seams: Sequence[int] = ()
    """First frame of each segment but the first one."""
    deinterlacing: Deinterlacing | None = None
    is_damaged: bool = False
    """Whether the source is: then its frames have their numbers only for a decoder that comes from its beginning, and
    what is made of the damaged ones is not the same each time."""
    reads_all: bool = False
    """Whether the result is decoded to its end even if few of its frames are compared."""
    threads: int = 0
    """Of each decoder; 0 for as many as there are cores."""
    picture_names: Sequence[str] = ()
    """Of the result's pictures, in order, if they are not numbered; one if the result is that picture."""


def check_pictures(result: Path, terms: CheckTerms, *, tick: Callable[[], None] = lambda: None) -> PictureCheck:
    """Compare frames of a result with the source's.

    Args:
        result: A film, a picture, or a folder of pictures.
        terms: What is known of the film.
        tick: Called before each frame; may raise to end the check.

    Raises:
        MediaError: The source cannot be read.
        VerificationFailed: The result cannot be read.
    """
    frames = range(terms.frame_count)
    chosen = frames if terms.is_full else sample_frames(terms.frame_count, seams=terms.seams)
    with ExitStack() as opened:
        source = _open_source(terms, opened)
        made = _open_result(result, terms, opened)
        check = compare_films(
            source,
            made,
            frames=chosen,
            floors=floors_for(terms.model),
            time_base=terms.source.video.time_base,
            max_findings=len(chosen) if terms.is_damaged else MAX_FINDINGS,
            tick=tick,
        )
        damage = made.finish() if isinstance(made, DecodedFrames) else None
        return replace(check, damage=damage, source_damage=source.damage)


def require_pictures(check: PictureCheck, *, path: Path, is_damaged: bool) -> dict[str, Any]:
    """Turn a check with findings into an error.

    Args:
        check: What was found.
        path: Of the result, for the message.
        is_damaged: Whether the source is known to be; the check may have seen it too. Then findings are an error only
            if more than half of the frames have some: decoders conceal damage each in its own way.

    Returns:
        What was measured, for the report; with ``differences`` if the source is damaged and there are findings.

    Raises:
        VerificationFailed: The result cannot be decoded without errors, or there are findings; names the first, and
            how many follow.
    """
    if check.damage is not None:
        raise VerificationFailed(f"{path} cannot be decoded without errors: {check.damage}", path=path, hint=HINT)
    is_damaged = is_damaged or check.source_damage is not None
    if check.findings and not (is_damaged and 2 * len(check.findings) <= check.compared):
        more = len(check.findings) - 1
        rest = "at least " if len(check.findings) >= MAX_FINDINGS else ""
        raise VerificationFailed(
            f"{path} does not show its film: {check.findings[0]}"
            + (f" (and {rest}{format_count(more, 'other frame')} of {check.compared} compared)" if more else ""),
            path=path,
            hint=HINT,
        )
    worst = check.worst
    measured: dict[str, Any] = {
        "frames_compared": check.compared,
        "luma_psnr_db_min": None if worst is None else round(worst.luma_db, 2),
        "chroma_psnr_db_min": None if worst is None else round(worst.chroma_db, 2),
        "block_difference_max": None if worst is None else round(worst.block, 4),
    }
    return measured | ({"differences": [str(finding) for finding in check.findings]} if check.findings else {})


def source_index(info: MediaInfo, *, deinterlacing: Deinterlacing | None, threads: int) -> FrameIndex | None:
    """Where the frames of a film are; None for a computed one and for pictures.

    Raises:
        MediaError: The file cannot be read.
    """
    if _kind_of(info) != "libav":
        return None
    if deinterlacing is None:
        return build_frame_index(info, threads=threads)
    from pipeline.decode.deinterlacing import index_fields

    return index_fields(build_frame_index(deinterlacing.source, threads=threads), deinterlacing=deinterlacing)


def _is_read_through(terms: CheckTerms) -> bool:
    return terms.is_full or terms.frame_count < SEEK_FROM_FRAMES


def _kind_of(info: MediaInfo) -> DecoderKind:
    if info.pictures is not None:
        return "images"
    return "synthetic" if info.container == SYNTHETIC_CONTAINER else "libav"


def _open_source(terms: CheckTerms, opened: ExitStack) -> DecodedFrames:
    info = terms.source
    index = None
    if not terms.is_damaged and not _is_read_through(terms):
        index = source_index(info, deinterlacing=terms.deinterlacing, threads=terms.threads)
    decoder = open_decoder(
        _kind_of(info),
        info,
        threads=terms.threads,
        index=index,
        deinterlacing=terms.deinterlacing,
    )
    return DecodedFrames(opened.enter_context(decoder), index=index)


def _open_result(result: Path, terms: CheckTerms, opened: ExitStack) -> DecodedFrames | PictureFrames:
    if result.is_dir() or terms.picture_names:
        return _open_pictures(result, terms)
    try:
        info = probe_media(result)
        index = None if terms.reads_all or _is_read_through(terms) else build_frame_index(info, threads=terms.threads)
        decoder = open_decoder("libav", info, threads=terms.threads, index=index)
    except MediaError as exc:  # of a source, it would be an error of the input
        raise VerificationFailed(str(exc), path=result, hint=HINT) from exc
    return DecodedFrames(opened.enter_context(decoder), index=index)


def _open_pictures(result: Path, terms: CheckTerms) -> PictureFrames:
    names, pictures = terms.picture_names, terms.source.pictures

    def path_of(index: int) -> Path | None:
        if not names:
            return result / picture_name(index)
        if index >= len(names):
            return None
        return result / names[index] if result.is_dir() else result

    return PictureFrames(path_of, is_paired=bool(names) and pictures is not None and pictures.is_paired)

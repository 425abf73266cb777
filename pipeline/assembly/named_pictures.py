"""Results that are pictures of pictures: under their sources' names, with their alpha, greyness and colour profile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.atomic import fsync_folder
from pipeline.assembly.join import open_segment
from pipeline.assembly.png_file import (
    Codes,
    colour_chunks,
    decode_png,
    encode_png,
    profile_chunk,
    replace_colour,
)
from pipeline.decode.container import error_text
from pipeline.decode.picture_file import read_picture
from pipeline.decode.transparency import hold_flat
from pipeline.errors import OutputError, VerificationFailed
from pipeline.inputs.picture_header import read_header
from pipeline.picture_plan import PictureForm
from pipeline.segments import CommittedSegment

_HINT = "this is a defect of the program; please report it with the log (output.keep_work keeps the segments)"


def write_named_pictures(
    segments: Sequence[CommittedSegment], *, form: PictureForm, out: Path, is_single: bool
) -> None:
    """Write each picture of the segments as a file.

    Args:
        segments: In order, of PNG; with ``form.is_paired`` alpha follows colours.
        form: What the pictures are like.
        out: Folder to make, or file to write; not there yet. Its name is no final one.
        is_single: Whether it is a file.

    Raises:
        OutputError: A segment is missing or damaged, holds another number of pictures, or the disk is full.
        MediaError: A source with alpha can no longer be read.
    """
    import av

    try:
        if not is_single:
            out.mkdir()
        contents = _contents(segments)
        for name, source in zip(form.names, form.sources, strict=True):
            colours = next(contents, None)
            alpha = next(contents, None) if form.is_paired else None
            if colours is None or (form.is_paired and alpha is None):
                raise OutputError(f"{out}: there is no picture {name}", path=out, hint=_HINT)
            _write(out if is_single else out / name, _finish(colours, alpha, form, source=source))
        if next(contents, None) is not None:
            raise OutputError(f"{out}: there are more than {len(form.names)} pictures", path=out, hint=_HINT)
        fsync_folder(out.parent if is_single else out)
    except av.FFmpegError as exc:
        raise OutputError(f"cannot make pictures for {out}: {error_text(exc)}", path=out, hint=_HINT) from exc
    except OSError as exc:
        raise OutputError(
            f"cannot write pictures into {out}: {exc.strerror or exc}",
            path=out,
            hint=f"make room on the disk of {out.parent} and start again",
        ) from exc


def verify_named_pictures(path: Path, form: PictureForm, *, is_single: bool) -> dict[str, Any]:
    """Read finished pictures again: all are there, none besides, each has its size, the first and last can be decoded.

    Args:
        path: The folder or file.
        form: What they must be.
        is_single: Whether it is a file.

    Returns:
        What was found, for the report.

    Raises:
        VerificationFailed: Something else; names the first difference.
    """
    import av

    files = [path] if is_single else [path / name for name in form.names]
    if not is_single and {entry.name for entry in path.iterdir()} != set(form.names):
        raise VerificationFailed(f"{path} does not hold the pictures that were promised", path=path, hint=_HINT)
    for file in files:
        header = read_header(file)
        if header is None or (header.height, header.width) != (form.height, form.width):
            found = "no picture" if header is None else f"{header.width}x{header.height}"
            raise VerificationFailed(f"{file} is {found}, not {form.width}x{form.height}", path=path, hint=_HINT)
        if header.profile != form.profile:
            raise VerificationFailed(f"{file} has another colour profile than its source", path=path, hint=_HINT)
    for file in {files[0], files[-1]}:
        try:
            with av.open(f"file:{file}") as container:
                picture = next(container.decode(video=0))
        except (av.FFmpegError, OSError, StopIteration) as exc:
            raise VerificationFailed(f"{file} is not a picture: {error_text(exc)}", path=path, hint=_HINT) from exc
        channels = len(picture.format.components)
        promised = (1 if form.is_grey else 3) + form.is_paired
        if channels != promised:
            raise VerificationFailed(f"{file} has {channels} channels, not {promised}", path=path, hint=_HINT)
    return {"frames": len(files), "streams": 1, "alpha": form.is_paired, "colour_profile_bytes": len(form.profile)}


def _contents(segments: Sequence[CommittedSegment]) -> Iterator[bytes]:
    for segment in segments:
        with open_segment(segment) as reader:
            yield from reader.contents()


def _finish(colours: bytes, alpha: bytes | None, form: PictureForm, *, source: Path) -> bytes:
    """The file of one picture."""
    chunks = profile_chunk(form.profile) if form.profile else colour_chunks(colours)
    content = colours
    if alpha is not None or form.is_grey:
        pixels = decode_png(colours)
        layers = [_grey(pixels) if form.is_grey else pixels]
        if alpha is not None:
            layers.append(_alpha(_grey(decode_png(alpha)), source=source))
        joined: Any = np.concatenate(layers, axis=2)
        content = encode_png(joined, level=form.compression)
    return replace_colour(content, chunks)


def _grey(pixels: Codes) -> Codes:
    """(H, W, 1): the mean of the channels, which a network leaves almost equal where they were equal."""
    mean = pixels.astype(np.float32).mean(axis=2, keepdims=True)
    grey: Codes = np.rint(mean).astype(pixels.dtype)
    return grey


def _alpha(enlarged: Codes, *, source: Path) -> Codes:
    """(H, W, 1): the alpha that was made, flat where the source's is."""
    before = read_picture(source).upright_alpha()
    peak = np.iinfo(enlarged.dtype).max
    if before is None:  # of a sequence with alpha, an opaque picture
        return np.full_like(enlarged, peak)
    held = hold_flat(enlarged[..., 0].astype(np.float32) / np.float32(peak), before)
    codes: Codes = np.rint(held * np.float32(peak)).astype(enlarged.dtype)[..., None]
    return codes


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

"""The result as a folder of numbered pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from engines.atomic import fsync_folder
from pipeline.assembly.join import open_segment
from pipeline.errors import OutputError
from pipeline.segments import CommittedSegment


def picture_name(index: int, *, suffix: str = "png") -> str:
    """File name of one frame: its 0-based index, in as many digits as the longest films need."""
    return f"{index:08d}.{suffix}"


def write_pictures(segments: Sequence[CommittedSegment], *, out: Path) -> None:
    """Write each coded picture of the segments as a file.

    Args:
        segments: In order, written by an encoder whose product is ``pictures``.
        out: Folder to make; it must not be there yet. Its name is no final one.

    Raises:
        OutputError: A segment is missing or damaged, or the disk is full.
    """
    try:
        out.mkdir()
        for segment in segments:
            _write_segment(segment, out)
        fsync_folder(out)
    except OSError as exc:
        raise OutputError(
            f"cannot write pictures into {out}: {exc.strerror or exc}",
            path=out,
            hint=f"make room on the disk of {out.parent} and start again",
        ) from exc


def _write_segment(segment: CommittedSegment, out: Path) -> None:
    count = 0
    with open_segment(segment) as reader:
        for index, content in enumerate(reader.contents(), segment.start):
            with (out / picture_name(index)).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            count += 1
    if count != segment.frame_count:
        raise OutputError(
            f"{segment.path} holds {count} pictures of {segment.frame_count}",
            path=segment.path or out,
            hint="remove the work folder and start again",
        )

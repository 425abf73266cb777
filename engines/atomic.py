"""Files that are either whole or not there: written beside their final name, flushed to disk, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_file(temporary: Path, final: Path) -> None:
    """Flush a finished file to disk and give it its final name, replacing what is there.

    Args:
        temporary: The whole file; on the same file system as ``final``.
        final: Its name from now on.

    Raises:
        OSError: The disk is full or a path is not writable; ``final`` is then as it was before.
    """
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(final)
    fsync_folder(final.parent)


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that readers see the old file or the new one, never a part.

    Raises:
        OSError: The disk is full or the path is not writable; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        commit_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

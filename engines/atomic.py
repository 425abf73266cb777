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

    Where the file system can do that, the file has no name while it is written: a process that is killed in the long
    while in which the disk takes it leaves nothing behind.

    Raises:
        OSError: The disk is full or the path is not writable; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if _write_unnamed(temporary, content):
            temporary.replace(path)
            fsync_folder(path.parent)
        else:
            temporary.write_bytes(content)
            commit_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_unnamed(path: Path, content: bytes) -> bool:
    """Write a file that gets its name when it is on disk.

    Args:
        path: The name; a file that has it goes.
        content: What to write.

    Returns:
        Whether that can be done here: it needs ``O_TMPFILE``, which network file systems do not have, and ``/proc``.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except (OSError, AttributeError):  # AttributeError: not Linux; whatever else is wrong shows itself without it too
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
        path.unlink(missing_ok=True)
        try:
            # As open(2) tells to. Python follows the link in /proc only if a folder is given, which counts for nothing
            # beside an absolute path.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        except FileNotFoundError:  # no /proc
            return False
    return True

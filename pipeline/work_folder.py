"""The folder in which a result grows, beside its final place, owned by one process at a time.

Ownership is a lock on the folder itself, which the kernel gives back when its holder dies: a run that was killed leaves
a folder that the next run may clear, a run that is alive keeps others out.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputError

logger = logging.getLogger(__name__)


@contextmanager
def open_work_folder(output: Path, *, keep: bool = False) -> Iterator[Path]:
    """Make an empty folder for the work on ``output``, on the same file system, and remove it in the end.

    Args:
        output: The result's final path; its folder exists.
        keep: Leave the folder and what is in it.

    Yields:
        The folder.

    Raises:
        OutputError: Another run is working on the same output, or the folder cannot be made.
    """
    work = output.with_name(f".{output.name}.work")
    try:
        lock = _lock_folder(work, output=output)
    except OSError as exc:
        raise OutputError(
            f"cannot make the work folder {work}: {exc.strerror}", path=work, hint="check rights and free space"
        ) from exc
    try:
        yield work
    finally:
        if keep:
            logger.info("the segments are kept in %s", work)
        else:
            shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


def _lock_folder(work: Path, *, output: Path) -> int:
    """Make the folder if it is missing, own it, and clear what a dead run left in it."""
    while True:
        work.mkdir(exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_folder_behind(work, descriptor):
                for entry in work.iterdir():
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink()
                return descriptor
        except BlockingIOError as exc:
            os.close(descriptor)
            raise OutputError(
                f"another run is working on {output}", path=output, hint="wait for it, or set another output.name"
            ) from exc
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner removed it between our two calls: make it anew


def _is_folder_behind(work: Path, descriptor: int) -> bool:
    """Whether the path still leads to the folder that was locked."""
    try:
        return os.path.samestat(work.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False

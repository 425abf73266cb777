"""The folder in which a result grows, beside its final place, owned by one process at a time.

Ownership is a lock on the folder itself, which the kernel gives back when its holder dies: a run that was killed leaves
a folder that the next run may go on with, a run that is alive keeps others out. Who holds it is written into it, for
the message alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from engines.atomic import fsync_folder
from pipeline.errors import OutputError, OutputHeld
from pipeline.work_holder import HOLDER_NAME, Holder, read_holder

logger = logging.getLogger(__name__)

REPLACED_NAME = "replaced"
"""The older result of an output that is a folder, between the two renames that replace it (``pipeline.job``)."""
KEPT_NAMES = frozenset({HOLDER_NAME, REPLACED_NAME})
"""What belongs to the folder itself, and not to the film."""

ENDING_S = 30.0
"""How long a holder that is ending may take to give the folder back before others are kept out: ``run.join_deadline_s``
as it is unless set, which is what a film's process takes at most when its run was killed."""
_LOOK_S = 0.02
"""How often it is looked whether it has."""

MOST_NAME_BYTES = 225
"""Longest name of a work folder: 255 (NAME_MAX of Linux), less what setting it aside adds."""
SEGMENT_NAME = r"seg-\d{5,}\.\w+"
"""Names of committed segments (``pipeline.segments.segment_file_name``), whole."""


def work_folder_of(output: Path) -> Path:
    """Where the work on an output lies: ``.{name}.work`` beside it, shortened where no file could be called that."""
    name = f".{output.name}.work"
    if len(os.fsencode(name)) <= MOST_NAME_BYTES:
        return output.with_name(name)
    ending = f"~{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:16]}.work"
    shown = output.name
    while len(os.fsencode(shown)) > MOST_NAME_BYTES - len(ending) - 1:
        shown = shown[:-1]
    return output.with_name(f".{shown}{ending}")


@contextmanager
def open_work_folder(
    output: Path, *, keep: bool = False, resumable: bool = False, run_folder: Path | None = None
) -> Iterator[Path]:
    """Own the folder for the work on ``output``, on the same file system.

    Args:
        output: The result's final path; its folder exists.
        keep: Leave the folder and what is in it.
        resumable: What an earlier run left stays there, for ``pipeline.journal.find_done`` to judge. The folder goes
            when the work is done; when an exception ends it (or a signal), it stays if a segment was finished.
            Otherwise it is cleared in the beginning and goes in the end, whatever the end is.
        run_folder: Of the run that the work belongs to, for the message to those who are kept out.

    Yields:
        The folder.

    Raises:
        OutputError: Another run is working on the same output, or the folder cannot be made or written.
    """
    work = work_folder_of(output)
    try:
        lock = _own_folder(work, output=output, clear=not resumable, run_folder=run_folder)
    except OSError as exc:
        raise OutputError(
            f"cannot make the work folder {work}: {exc.strerror}", path=work, hint="check rights and free space"
        ) from exc
    is_done = False
    try:
        yield work
        is_done = True
    finally:
        if keep or (resumable and not is_done and _has_segments(work)):
            with suppress(OSError):
                (work / HOLDER_NAME).unlink()
            logger.info("the segments are kept in %s", work)
        else:
            shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


def set_work_aside(output: Path) -> Path | None:
    """Give the work on an output another name, ``.{name}.work.old-{UTC time}``, so that it is begun anew.

    Returns:
        Where it lies now; None if there was none.

    Raises:
        OutputError: A run is working on it, or it cannot be renamed.
    """
    work = work_folder_of(output)
    try:
        lock = _lock_existing(work, output=output)
        if lock is None:
            return None
        try:
            aside = work.with_name(f"{work.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
            base = aside.name
            for count in itertools.count(2):
                if not os.path.lexists(aside):
                    break
                aside = work.with_name(f"{base}-{count}")
            _restore_replaced(work, output=output)
            work.rename(aside)
            fsync_folder(work.parent)
        finally:
            os.close(lock)
    except OSError as exc:
        raise OutputError(
            f"cannot move {work} aside: {exc.strerror}", path=work, hint="check rights, or move it yourself"
        ) from exc
    logger.info("the earlier work is now in %s", aside)
    return aside


def clear_work(output: Path) -> bool:
    """Remove what is left of the work on an output that is finished, as where its run was killed while it tidied up.

    Returns:
        Whether there was something.

    Raises:
        OutputError: A run is working on it, or it cannot be removed.
    """
    work = work_folder_of(output)
    try:
        lock = _lock_existing(work, output=output)
        if lock is None:
            return False
        try:
            _restore_replaced(work, output=output)
            shutil.rmtree(work)
        finally:
            os.close(lock)
    except OSError as exc:
        raise OutputError(
            f"cannot remove {work}: {exc.strerror}", path=work, hint="check rights, or remove it yourself"
        ) from exc
    return True


def _own_folder(work: Path, *, output: Path, clear: bool, run_folder: Path | None) -> int:
    """Make the folder if it is missing, own it, and see to what a dead run left in it."""
    while True:
        work.mkdir(exist_ok=True)
        descriptor = _lock_existing(work, output=output)
        if descriptor is None:
            continue  # its owner removed it between our two calls: make it anew
        try:
            _restore_replaced(work, output=output)
            if clear:
                _clear(work)
            Holder.this_process(run_folder).write(work)
            fsync_folder(work.parent)  # what is committed in it must be found after a power cut
        except BaseException:
            with suppress(OSError):
                work.rmdir()  # on a full disk, not even an empty folder is left; one with something in it stays
            os.close(descriptor)
            raise
        return descriptor


def _lock_existing(work: Path, *, output: Path) -> int | None:
    """Own a folder; None if there is none."""
    try:
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not _take_lock(descriptor, work=work):
            holder = read_holder(work)
            raise OutputHeld(
                f"another run is working on {output}{'' if holder is None else holder.words()}",
                path=output,
                hint="wait for it, or set another output.name",
            )
        if _is_folder_behind(work, descriptor):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _take_lock(descriptor: int, *, work: Path) -> bool:
    """Lock a folder; False if another run has it.

    Waits for a while where that one is ending, or does not say who it is: then it has just come, or is removing the
    folder.
    """
    until_s = time.monotonic() + ENDING_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_holder(work)
            if (holder is not None and not holder.is_ending()) or time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_S)
        else:
            return True


def _is_folder_behind(work: Path, descriptor: int) -> bool:
    """Whether the path still leads to the folder that was locked."""
    try:
        return os.path.samestat(work.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _clear(work: Path) -> None:
    for entry in work.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _restore_replaced(work: Path, *, output: Path) -> None:
    """Give an older result its name back, if a run died after it took that and before the new one had it."""
    replaced = work / REPLACED_NAME
    if not replaced.exists():
        return
    if output.exists():
        shutil.rmtree(replaced)
    else:
        replaced.rename(output)
        fsync_folder(output.parent)


def _has_segments(work: Path) -> bool:
    try:
        return any(re.fullmatch(SEGMENT_NAME, entry.name) for entry in work.iterdir())
    except OSError:
        return True  # a folder that cannot be looked at is not removed

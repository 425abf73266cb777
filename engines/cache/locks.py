"""Locks between processes and threads that the kernel gives back when their holder dies.

A lock is a file that its holder has locked (``flock``); the file names the holder for those who wait. It is removed
while it is still locked, so whoever gets a lock looks whether the path still leads to the file that was locked.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def hold_lock(path: Path, *, waiting_for: str = "") -> Iterator[None]:
    """Hold a lock; blocks until nobody else, in this process or another, holds it. Not re-entrant.

    Args:
        path: The lock's file; its folder exists.
        waiting_for: What the holder does, for the one line that is logged when this has to wait; empty to wait in
            silence.

    Raises:
        OSError: The file cannot be made, or its file system knows no locks.
    """
    descriptor = _acquire(path)
    if descriptor is None:
        if waiting_for:
            logger.warning("waiting for %s, which %s is doing", waiting_for, _holder(path))
        while descriptor is None:
            descriptor = _acquire(path, blocking=True)
    try:
        yield
    finally:
        _release(path, descriptor)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold a lock if it is free; never blocks.

    Args:
        path: The lock's file; its folder exists.

    Yields:
        Whether the lock is held now.

    Raises:
        OSError: The file cannot be made, or its file system knows no locks.
    """
    descriptor = _acquire(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _release(path, descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock at this moment; makes nothing.

    Raises:
        OSError: The file is there but cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _acquire(path: Path, *, blocking: bool = False) -> int | None:
    """Lock the file at ``path``.

    Returns:
        Its descriptor; None if another holds it, or its holder removed it between our calls.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(descriptor)):
            with suppress(OSError):  # on a full disk the lock is held without a name: pruning needs it most then
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # it is held, or was given back and removed just now
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _release(path: Path, descriptor: int) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        logger.debug("the lock file %s stays: %s", path, exc)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    """Who holds the lock, as its file says."""
    try:
        return path.read_text(errors="replace").strip() or "another process"
    except OSError:
        return "another process"

"""A folder of checked files: every change under one lock, every failure in words.

The lock of the folder is held for single changes of files, so what lies there in the middle of a change while the lock
is free was left by a crash. Reading takes no lock.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from engines.atomic import write_atomic
from engines.cache.locks import hold_lock
from engines.cache.sealed import DamagedFile, Header, Kind, read_sealed, seal
from engines.errors import CacheFailed

logger = logging.getLogger(__name__)

FOLDER_LOCK = ".lock"
"""Name of the lock that who changes files holds."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})


class CacheFolder:
    """The files of a cache.

    Args:
        path: Made when it is first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def changing(self, action: str, *, needed_bytes: int = 0) -> Iterator[None]:
        """Be the only one who changes files; blocks while another does, which never takes long.

        Args:
            action: What is done, for the error: ``store x.engine``.
            needed_bytes: Space that it takes.

        Raises:
            CacheFailed: The folder cannot be made or locked, or the body raised an ``OSError``.
        """
        with self.failing(action, needed_bytes=needed_bytes):
            self.path.mkdir(parents=True, exist_ok=True)
            with hold_lock(self.path / FOLDER_LOCK):
                yield

    @contextmanager
    def locking(self, name: str, *, waiting_for: str) -> Iterator[None]:
        """Hold a lock for as long as it takes; blocks, after one line about it, while another holds it.

        Args:
            name: File name of the lock.
            waiting_for: What its holder does.

        Raises:
            CacheFailed: The folder cannot be written to or knows no locks. What the body raises passes through.
        """
        with ExitStack() as stack:
            with self.failing(f"lock {name}"):
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(hold_lock(self.path / name, waiting_for=waiting_for))
            yield

    @contextmanager
    def failing(self, action: str, *, needed_bytes: int = 0) -> Iterator[None]:
        """Turn an ``OSError`` of the body into words.

        Raises:
            CacheFailed: The body raised one.
        """
        try:
            yield
        except OSError as exc:
            hint = "choose another folder for compiled engines (--cache-dir, or infer.engine.cache_dir in a config)"
            if exc.errno in _FULL:
                needed_mb = max(1, -(-needed_bytes // 10**6))
                hint = f"free {needed_mb} MB there, for instance with `python -m engines prune`, or {hint}"
            elif exc.errno in _NO_LOCKS:
                hint = f"its file system has no locks: {hint}"
            reason = exc.strerror or str(exc)
            raise CacheFailed(
                f"cannot {action} in the engine cache {self.path}: {reason}", folder=self.path, hint=hint
            ) from exc

    def open_sealed(self, name: str, *, kind: Kind, owner_sha256: str) -> tuple[Header, bytes] | None:
        """Read a file and check every byte of it.

        Returns:
            Its header and its content; None if it is not there.

        Raises:
            DamagedFile: It is not what it should be or cannot be read.
            CacheFailed: The folder is something else or may not be entered.
        """
        try:
            with (self.path / name).open("rb") as stream:
                length = os.fstat(stream.fileno()).st_size
                return read_sealed(stream, file_bytes=length, kind=kind, owner_sha256=owner_sha256)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if isinstance(exc, NotADirectoryError) or not os.access(self.path, os.X_OK):
                with self.failing(f"read {name}"):
                    raise
            raise DamagedFile(f"it cannot be read: {exc.strerror}") from exc

    def load_sealed(self, name: str, *, kind: Kind, owner_sha256: str) -> bytes | None:
        """Read the content of a file that can be done without.

        Returns:
            None if it is not there. A damaged one is removed, with one warning that says why.

        Raises:
            CacheFailed: The folder is something else or may not be entered.
        """
        try:
            found = self.open_sealed(name, kind=kind, owner_sha256=owner_sha256)
            return None if found is None else found[1]
        except DamagedFile as exc:
            logger.warning("%s is removed: %s", self.path / name, exc)
        with suppress(CacheFailed), self.changing(f"remove {name}"):
            try:
                self.open_sealed(name, kind=kind, owner_sha256=owner_sha256)
            except DamagedFile:
                (self.path / name).unlink(missing_ok=True)
        return None

    def save_sealed(self, name: str, content: bytes, *, kind: Kind, owner_sha256: str) -> bool:
        """Store a file that can be done without.

        Returns:
            False, after a warning, if it cannot be written.
        """
        sealed = seal(content, kind=kind, owner_sha256=owner_sha256)
        try:
            with self.changing(f"store {name} ({len(sealed)} bytes)", needed_bytes=len(sealed)):
                write_atomic(self.path / name, sealed)
                return True
        except CacheFailed as exc:
            logger.warning("%s", exc)
            return False

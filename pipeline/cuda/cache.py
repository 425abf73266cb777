"""Compiled kernels on disk, so that only the first run on a machine compiles them. Losing any of it only costs time."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from engines.atomic import write_atomic

_LOG = logging.getLogger(__name__)

_DIGEST_BYTES = hashlib.sha256().digest_size


def default_kernel_folder() -> Path | None:
    """``$XDG_CACHE_HOME/nightscale/kernels``, or the same under ``~/.cache``; None if the user has no home folder.

    Source: XDG Base Directory Specification: a path there that is not absolute is ignored.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            return None
    return base / "nightscale" / "kernels"


class KernelCache:
    """A folder of compiled kernels; several processes may use one at the same time.

    Args:
        folder: Made when it is first written to. None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, key: str) -> bytes | None:
        """The kernel of that key; None if there is none, or a damaged one, which the log then names."""
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            _LOG.warning("compiling a kernel anew: %s cannot be read: %s", path, exc)
            return None
        digest, binary = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(binary).digest() != digest:
            _LOG.warning("compiling a kernel anew: %s is damaged", path)
            return None
        return binary

    def write(self, key: str, binary: bytes) -> None:
        """Keep a kernel if the folder can be written."""
        if self._folder is None:
            return
        path = self._path(self._folder, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, hashlib.sha256(binary).digest() + binary)
        except OSError as exc:
            _LOG.warning("a compiled kernel is not kept for the next run: %s cannot be written: %s", path, exc)

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / f"{key}.bin"

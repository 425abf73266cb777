"""Which file it is: its size, its time, and what stands at both of its ends."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import MediaError
from pipeline.inputs.pictures import is_sequence, list_pictures

END_BYTES = 2**20
"""Bytes that are read at each end. A container has its headers and its index there, which differ between any two films;
a film of 50 GB is told from another in milliseconds. What is changed in the middle alone shows in the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """What tells a file, or a sequence of pictures, from another one that has the same name."""

    size_bytes: int
    """Of a sequence: of all its pictures together."""
    mtime_ns: int
    """Time of the last change, nanoseconds since 1970. Of a sequence: of the picture that was changed last."""
    sha256_ends: str
    """SHA-256, lower-case hex, of the first and the last MiB, or of the whole file where these overlap. Of a sequence:
    of the names, sizes and times of all its pictures, and of both ends of the first and the last one."""

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Look at a file or a sequence of pictures.

        Raises:
            MediaError: It is missing, cannot be read, or is neither.
        """
        try:
            return _identify(path)
        except OSError as exc:
            raise MediaError(
                f"cannot read {path}: {exc.strerror or exc}", path=path, hint="check the file and your rights"
            ) from exc

    def changes(self, path: Path) -> tuple[str, ...]:
        """Say what tells the file that is there now from this one, a clause each; empty if nothing does.

        Cheap where size or time differ: then nothing is read.
        """
        try:
            if path.is_file():
                status = path.stat()
                changed = self._differences(size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
                if changed:
                    return changed
            now = _identify(path)
        except FileNotFoundError:
            return ("it is gone",)
        except OSError as exc:
            return (f"it cannot be read: {exc.strerror or exc}",)
        changed = self._differences(size_bytes=now.size_bytes, mtime_ns=now.mtime_ns)
        return changed or (("its content is another",) if now.sha256_ends != self.sha256_ends else ())

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {"size_bytes": self.size_bytes, "mtime_ns": self.mtime_ns, "sha256_ends": self.sha256_ends}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FileIdentity:
        """The opposite of ``as_json``.

        Raises:
            KeyError, TypeError, ValueError: They are something else.
        """
        return cls(
            size_bytes=int(values["size_bytes"]),
            mtime_ns=int(values["mtime_ns"]),
            sha256_ends=str(values["sha256_ends"]),
        )

    def _differences(self, *, size_bytes: int, mtime_ns: int) -> tuple[str, ...]:
        found = []
        if size_bytes != self.size_bytes:
            found.append(f"it has {size_bytes} bytes, not {self.size_bytes}")
        if mtime_ns != self.mtime_ns:
            found.append("it was changed at another time")
        return tuple(found)


def check_unchanged(path: Path, *, identity: FileIdentity) -> None:
    """Make sure that a film is still the one that a run began with.

    Args:
        path: The film.
        identity: What it was.

    Raises:
        MediaError: It was replaced or changed meanwhile, or is gone.
    """
    changes = identity.changes(path)
    if changes:
        raise MediaError(
            f"{path} was changed while it was read: {', '.join(changes)}",
            path=path,
            hint="start again with --restart when nothing writes to it any more",
        )


def _identify(path: Path) -> FileIdentity:
    if is_sequence(path):
        return _identify_pictures(path)
    digest = hashlib.sha256()
    # Without blocking: a named pipe would wait for a writer that never comes.
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        digest.update(file.read(END_BYTES))
        if status.st_size > END_BYTES:
            file.seek(max(END_BYTES, status.st_size - END_BYTES))
            digest.update(file.read(END_BYTES))
    return FileIdentity(size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256_ends=digest.hexdigest())


def _identify_pictures(source: Path) -> FileIdentity:
    pictures = list_pictures(source)
    if not pictures:
        raise FileNotFoundError(errno.ENOENT, "it holds no picture")
    digest = hashlib.sha256()
    size_bytes, mtime_ns = 0, 0
    for path in sorted(pictures):
        name, status = os.fsencode(path.name), path.stat()
        digest.update(b"%s\0%d\0%d\n" % (name, status.st_size, status.st_mtime_ns))
        size_bytes += status.st_size
        mtime_ns = max(mtime_ns, status.st_mtime_ns)
    for path in (pictures[0], pictures[-1])[: len(pictures)]:
        digest.update(_identify(path).sha256_ends.encode("ascii"))
    return FileIdentity(size_bytes=size_bytes, mtime_ns=mtime_ns, sha256_ends=digest.hexdigest())


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)

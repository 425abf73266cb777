"""The journal of a work folder: append-only lines, each on disk before the call that wrote it returns.

The first line is the key of the run. A line counts if it and all before it are what was written; what follows the first
one that is not, counts for nothing. A process that dies while it writes leaves at most one torn line at the end.

Lanes commit from several threads. A line goes into the file under a lock on the file itself, taken through a descriptor
that belongs to this one call: it holds between threads and between processes, and dies with its holder. Appending
alone (O_APPEND) would keep lines apart, but not a line that a full disk cut short, which has to go before the next one
comes, nor the chain of checks. A commit happens every few seconds, so that nobody waits there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.atomic import write_atomic
from pipeline.errors import OutputError, ResumeRefused
from pipeline.journal.key import RunKey
from pipeline.journal.lines import open_line, seal_line
from pipeline.journal.records import RECORDS, Record, SegmentCommitted
from pipeline.segments import CommittedSegment

logger = logging.getLogger(__name__)

JOURNAL_NAME = "journal.jsonl"
VERSION = 1
"""Of the format; another one is refused, never guessed at."""

_KINDS = {kind.kind: kind for kind in RECORDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContent:
    """What of a journal can be trusted."""

    key: RunKey | None
    """None if there is no journal, or nothing of it can be trusted."""
    records: tuple[Record, ...]
    """In the order in which they were written."""
    trusted_bytes: int
    """Length of the trusted beginning."""
    check: str
    """Of its last line."""
    damage: str
    """What is not trusted, one sentence; empty if that is nothing, or only a last line that was never finished."""


def read_journal(path: Path) -> JournalContent:
    """Read a journal as far as it can be trusted. Changes nothing, and may be called while a run writes.

    Raises:
        OutputError: It cannot be read.
        ResumeRefused: Another version of the program wrote it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as exc:
        raise OutputError(f"cannot read {path}: {exc.strerror}", path=path, hint="check the disk and rights") from exc
    key: RunKey | None = None
    records: list[Record] = []
    position, check, damage = 0, "", ""
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line feed was never finished
        opened = open_line(line, previous=check)
        if opened is None:
            damage = f"{path}: line {number} of {len(lines) - 1} is damaged; it and what follows are not trusted"
            break
        values, line_check = opened
        try:
            if key is None:
                key = _read_head(values, path=path)
            else:
                records.append(_KINDS[values["kind"]].from_json(values))
        except (KeyError, TypeError, ValueError):
            damage = f"{path}: line {number} of {len(lines) - 1} cannot be understood; it and what follows do not count"
            break
        position, check = position + len(line) + 1, line_check
    return JournalContent(key=key, records=tuple(records), trusted_bytes=position, check=check, damage=damage)


class Journal:
    """The end of a journal at which it grows. Made by whoever owns the work folder; safe for use by several threads.

    Args:
        path: The file.
        size_bytes: Its length.
        check: Of its last line.
    """

    def __init__(self, path: Path, *, size_bytes: int, check: str) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._check = check
        self._began_s = time.monotonic()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @classmethod
    def create(cls, path: Path, key: RunKey) -> Journal:
        """Begin a journal, whole or not at all, in the place of one that nothing of can be trusted.

        Raises:
            OutputError: It cannot be written.
        """
        line, check = seal_line({"kind": "begin", "version": VERSION, "key": key.as_json()}, previous="")
        try:
            write_atomic(path, line)
        except OSError as exc:
            raise _failed(path, exc) from exc
        return cls(path, size_bytes=len(line), check=check)

    @classmethod
    def reopen(cls, path: Path, content: JournalContent) -> Journal:
        """Go on with a journal behind its trusted beginning; the rest is cut off.

        Args:
            path: The file.
            content: From ``read_journal``, with a key.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_size > content.trusted_bytes:
                    os.ftruncate(descriptor, content.trusted_bytes)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise _failed(path, exc) from exc
        return cls(path, size_bytes=content.trusted_bytes, check=content.check)

    def append(self, record: Record) -> None:
        """Write a line; it is on disk when this returns. Blocks while another thread writes one.

        Raises:
            OutputError: It cannot be written, as where the disk is full. The journal is then as it was before.
        """
        values = {"kind": record.kind, **record.as_json()}
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._append(descriptor, values)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise _failed(self._path, exc) from exc

    def commit(self, segment: CommittedSegment) -> None:
        """Write that a segment is on disk: what ``SegmentWriter(committed=...)`` calls.

        Raises:
            OutputError: The line cannot be written, or the segment's file is not what was written.
        """
        self.append(SegmentCommitted.of(segment, seconds=time.monotonic() - self._began_s))

    def _append(self, descriptor: int, values: Mapping[str, Any]) -> None:
        """With the lock held."""
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes != self._size_bytes:
            raise OutputError(
                f"{self._path} has {size_bytes} bytes where this run wrote {self._size_bytes}: another program "
                "changed it",
                path=self._path,
                hint="see that nothing else writes into the work folder, and start again",
            )
        line, check = seal_line(values, previous=self._check)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):  # what stays is a torn line, which readers know
                os.ftruncate(descriptor, self._size_bytes)
                os.fsync(descriptor)
            raise
        self._size_bytes += len(line)
        self._check = check


def _read_head(values: Mapping[str, Any], *, path: Path) -> RunKey:
    """The first line's key."""
    version = values["version"]
    if values["kind"] != "begin":
        raise ValueError(f"a journal does not begin with {values['kind']}")
    if version != VERSION:
        raise ResumeRefused(
            f"{path} has format {version}; this version of the program knows format {VERSION}",
            path=path,
            hint="go on with the version that began, or move the work aside with --restart",
        )
    return RunKey.from_json(values["key"])


def _failed(path: Path, exc: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {exc.strerror or exc}",
        path=path,
        hint="make room on its disk and see that it can be written; what was finished is kept",
    )

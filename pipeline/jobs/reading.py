"""Reads the messages of a film's process as they come, without waiting and without falling behind."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from pipeline.jobs.messages import BrokenMessage, Message, decode_message, is_progress

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
"""The size of a pipe. Source: pipe(7)."""

_BURST_BYTES = 1 << 22
"""Read at once at most, so that a process that never stops talking does not keep its reader from everything else."""


class MessageReader:
    """The receiving end of a pipe of messages.

    Args:
        pipe: Its descriptor, which stays the caller's; it is made non-blocking.
    """

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._pending = b""
        self.is_over = False
        """Whether nobody has the other end any more."""

    def read(self) -> Iterator[Message]:
        """All messages that are there. Of several that say how far the film is, the last: the others are history.

        What is no message is logged and left out.
        """
        lines = self._read_lines()
        latest = max((index for index, line in enumerate(lines) if is_progress(line)), default=None)
        for index, line in enumerate(lines):
            if index != latest and is_progress(line):
                continue
            try:
                yield decode_message(line)
            except BrokenMessage as exc:
                logger.warning("%s", exc)

    def _read_lines(self) -> list[bytes]:
        chunks = [self._pending]
        size_bytes = 0
        while size_bytes < _BURST_BYTES:
            try:
                chunk = os.read(self._pipe, _CHUNK_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                self.is_over = True
                break
            chunks.append(chunk)
            size_bytes += len(chunk)
        if size_bytes == 0 and not self.is_over:
            return []
        *lines, self._pending = b"".join(chunks).split(b"\n")
        if self.is_over and self._pending:
            lines.append(self._pending)  # torn: whoever wrote it died
            self._pending = b""
        return lines

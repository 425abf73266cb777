"""Whether the coded pictures of a finished film are those of its segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.assembly.join import open_segment
from pipeline.segments import CommittedSegment


class CodedPictures:
    """Compares packets with the segments' byte for byte, as they come.

    So nothing was lost or changed on the way from the encoder's files to the finished one, without decoding anything.

    Args:
        segments: All of the film, in order.
    """

    def __init__(self, segments: Sequence[CommittedSegment]) -> None:
        self._wanted = _contents(segments)
        self._taken = 0
        self._first_other: int | None = None

    def take(self, content: bytes) -> None:
        """Compare the next packet, in decoding order.

        Raises:
            OutputError: A segment cannot be read any more.
        """
        if next(self._wanted, None) != content and self._first_other is None:
            self._first_other = self._taken
        self._taken += 1

    @property
    def first_other(self) -> int | None:
        """Number, in decoding order, of the first packet that is not the segments'; None if there is none so far."""
        return self._first_other


def _contents(segments: Sequence[CommittedSegment]) -> Iterator[bytes]:
    for segment in segments:
        with open_segment(segment) as reader:
            yield from reader.contents()

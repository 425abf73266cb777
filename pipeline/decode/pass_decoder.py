"""What decoders that read a film in passes share: one pass at a time, entered where the index says.

A pass that does not find what the index has at its entry is given up, and the film decoded from its beginning.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from pipeline.decode.film_pass import EntryMissed
from pipeline.decode.frame_index import EntryPoint, FrameIndex
from pipeline.frames import Frame
from pipeline.media import MediaInfo

logger = logging.getLogger(__name__)


class DecodingPass(Protocol):
    """One run through a film or a part of it, as ``pipeline.decode.film_pass.FilmPass``."""

    decoded_count: int
    """Frames that the decoder gave, those that were dropped included."""

    @property
    def damage(self) -> str | None:
        """See ``Decoder.damage``."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        ...

    def frames(self, start: int, stop: int | None, *, entry: EntryPoint | None = None) -> Generator[Frame]:
        """Yield frames; ``EntryMissed`` before the first one if the film cannot be entered at ``entry``."""
        ...


P = TypeVar("P", bound=DecodingPass)


class PassDecoder(ABC, Generic[P]):
    """A ``Decoder`` over passes.

    Args:
        info: Of the film.
        index: From ``build_frame_index``; None: every pass is from the film's beginning.

    Raises:
        ValueError: The index is of another film.
    """

    def __init__(self, info: MediaInfo, *, index: FrameIndex | None) -> None:
        if index is not None and not index.belongs_to(info):
            raise ValueError(f"the frame index is not of {info.path}, or the file has changed since it was read")
        self.info = info
        self._index = index
        self._pass: P | None = None
        self._running: Generator[Frame] | None = None
        self._spent_count = 0  # frames decoded by a pass that was given up
        self._is_closed = False

    @abstractmethod
    def _begin_pass(self) -> P:
        """A pass that has read nothing yet."""

    @property
    def damage(self) -> str | None:
        """See ``Decoder.damage``."""
        return self._pass.damage if self._pass is not None else None

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        return self._pass.notes if self._pass is not None else ()

    @property
    def decoded_count(self) -> int:
        """Frames that the latest iteration decoded so far, those dropped before its start included."""
        return self._spent_count + (self._pass.decoded_count if self._pass is not None else 0)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See ``Decoder.frames``."""
        if start < 0 or (stop is not None and stop < 0):
            raise ValueError(f"frame range must not be negative, got {start}:{stop}")
        if self._is_closed:
            raise ValueError("the decoder is closed")
        self._end_pass()
        self._spent_count = 0
        self._pass = self._begin_pass()
        self._running = self._iterate(self._pass, start, stop)
        return self._running

    def close(self) -> None:
        """See ``Decoder.close``."""
        self._is_closed = True
        self._end_pass()

    def _entry_before(self, start: int) -> EntryPoint | None:
        """Where to enter the film for the frames from ``start`` on; None: at its beginning."""
        return self._index.entry_before(start) if self._index is not None else None

    def _iterate(self, film_pass: P, start: int, stop: int | None) -> Generator[Frame]:
        entry = self._entry_before(start)
        if entry is not None:
            try:
                yield from film_pass.frames(start, stop, entry=entry)
                return
            except EntryMissed as exc:  # always before the first frame
                logger.warning("%s: %s; decoding from the beginning to frame %d", self.info.path, exc, start)
            self._spent_count = film_pass.decoded_count
            self._pass = film_pass = self._begin_pass()
        yield from film_pass.frames(start, stop)

    def _end_pass(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""Software decoding with libav through PyAV: any codec, on several cores, with the GIL released.

Damage never stops the film: what cannot be decoded is skipped, counted, and its first time kept for ``damage``. That
includes libav's "cannot allocate memory", which is what a broken length in a file leads to. Times are the source's own
(``pipeline.decode.timeline``), samples its own memory (``pipeline.decode.planes``).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self

from pipeline.decode.base import check_progressive
from pipeline.decode.film_pass import EntryMissed, FilmPass
from pipeline.decode.frame_index import FrameIndex
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.frames import Frame, MediaInfo

logger = logging.getLogger(__name__)


class LibavDecoder:
    """Decodes one film with libav. See ``Decoder`` for the protocol.

    ``frames(start)`` decodes and drops what comes before ``start``: all of it without an index, with one only what
    follows the last entry point before ``start``. Numbers, times and pictures are those of a pass from the beginning
    either way; ``damage`` and ``notes`` are of what was decoded.

    Args:
        info: What ``probe_media`` found; ``info.path`` is opened anew by every ``frames`` call.
        threads: Decoder threads, frame-parallel where the codec can; 0 for as many as there are cores.
        index: From ``build_frame_index``; may be shared with other decoders of the film.
        takes_fields: Whoever takes the frames looks after their fields: ``notes`` says nothing of them.

    Raises:
        UnsupportedMedia: The film is interlaced.
        ValueError: ``info`` is of a computed film, or ``index`` of another one.
    """

    def __init__(
        self, info: MediaInfo, *, threads: int = 0, index: FrameIndex | None = None, takes_fields: bool = False
    ) -> None:
        if info.container == SYNTHETIC_CONTAINER:
            raise ValueError("a computed film is no file; decode it with kind synthetic")
        check_progressive(info)
        self.info = info
        if index is not None and not index.belongs_to(info):
            raise ValueError(f"the frame index is not of {info.path}, or the file has changed since it was read")
        self._threads = threads
        self._index = index
        self._takes_fields = takes_fields
        self._pass: FilmPass | None = None
        self._running: Generator[Frame] | None = None
        self._spent_count = 0  # frames decoded by a pass that was given up
        self._is_closed = False

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

    @property
    def first_deviation(self) -> int | None:
        """Number of the first frame of the latest iteration that is not where the index has it; None if there is none.

        The frames of this iteration are right nevertheless. But a picture before it was lost in decoding, which no
        index can know: iterations that entered the film behind it counted it, and their numbers are too high.
        """
        return self._pass.first_deviation if self._pass is not None else None

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See ``Decoder.frames``; planes are read-only views of the decoder's memory, kept alive by ``Frame.owner``."""
        if start < 0 or (stop is not None and stop < 0):
            raise ValueError(f"frame range must not be negative, got {start}:{stop}")
        if self._is_closed:
            raise ValueError("the decoder is closed")
        self._end_pass()
        self._spent_count = 0
        self._pass = self._begin_pass()
        self._running = self._iterate(self._pass, start, stop)
        return self._running

    def _begin_pass(self) -> FilmPass:
        return FilmPass(self.info, threads=self._threads, index=self._index, takes_fields=self._takes_fields)

    def _iterate(self, film_pass: FilmPass, start: int, stop: int | None) -> Generator[Frame]:
        entry = self._index.entry_before(start) if self._index is not None else None
        if entry is not None:
            try:
                yield from film_pass.frames(start, stop, entry=entry)
                return
            except EntryMissed as exc:  # always before the first frame
                logger.warning("%s: %s; decoding from the beginning to frame %d", self.info.path, exc, start)
            self._spent_count = film_pass.decoded_count
            self._pass = film_pass = self._begin_pass()
        yield from film_pass.frames(start, stop)

    def close(self) -> None:
        """See ``Decoder.close``."""
        self._is_closed = True
        self._end_pass()

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

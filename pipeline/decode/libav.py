"""Software decoding with libav through PyAV: any codec, on several cores, with the GIL released.

Damage never stops the film: what cannot be decoded is skipped, counted, and its first time kept for ``damage``. That
includes libav's "cannot allocate memory", which is what a broken length in a file leads to. Times are the source's own
(``pipeline.decode.timeline``), samples its own memory (``pipeline.decode.planes``).
"""

from __future__ import annotations

from pipeline.decode.base import check_progressive
from pipeline.decode.film_pass import FilmPass
from pipeline.decode.frame_index import FrameIndex
from pipeline.decode.pass_decoder import PassDecoder
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.media import MediaInfo


class LibavDecoder(PassDecoder[FilmPass]):
    """Decodes one film with libav. See ``Decoder`` for the protocol.

    ``frames(start)`` decodes and drops what comes before ``start``: all of it without an index, with one only what
    follows the last entry point before ``start``. Numbers, times and pictures are those of a pass from the beginning
    either way; ``damage`` and ``notes`` are of what was decoded. Planes are read-only views of the decoder's memory,
    kept alive by ``Frame.owner``.

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
        super().__init__(info, index=index)
        self._threads = threads
        self._takes_fields = takes_fields

    @property
    def first_deviation(self) -> int | None:
        """Number of the first frame of the latest iteration that is not where the index has it; None if there is none.

        The frames of this iteration are right nevertheless. But a picture before it was lost in decoding, which no
        index can know: iterations that entered the film behind it counted it, and their numbers are too high.
        """
        return self._pass.first_deviation if self._pass is not None else None

    def _begin_pass(self) -> FilmPass:
        return FilmPass(self.info, threads=self._threads, index=self._index, takes_fields=self._takes_fields)

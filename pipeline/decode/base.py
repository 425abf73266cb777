"""The decoder protocol."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from pipeline.errors import UnsupportedMedia
from pipeline.frames import Frame
from pipeline.media import MediaInfo


class Decoder(Protocol):
    """Frames of one film in display order. Used by one thread; owns what it opened until ``close``."""

    info: MediaInfo
    """What is known about the film before the first frame."""

    @property
    def damage(self) -> str | None:
        """First loss of the latest iteration, with its time, as one sentence; None while everything was readable.

        Complete once the iterator is exhausted: a missing end is only seen there.
        """
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the latest iteration had to repair without losing a frame (timestamps), one sentence each."""
        ...

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield the decodable frames ``start <= index < stop`` with strictly increasing pts.

        Every call starts anew; a call ends the iterator of the call before. Frames belong to the receiver and stay
        valid after the decoder is closed.

        Args:
            start: First index, 0-based; frames before it may be decoded and dropped.
            stop: First index not wanted; None for all. A film that ends before it simply ends.

        Raises:
            UnsupportedMedia: The image size or sample layout changes within the film.
            MediaError: The file can no longer be read.
            ValueError: ``start`` or ``stop`` is negative, or the decoder is closed.
        """
        ...

    def close(self) -> None:
        """Free everything but the frames already given out. May be called more than once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_progressive(info: MediaInfo) -> None:
    """Refuse a film whose frames are made of fields of two moments.

    Raises:
        UnsupportedMedia: It is flagged interlaced; the hint has the key and the command that deinterlace it.
    """
    if info.video.is_interlaced:
        raise UnsupportedMedia(
            f"{info.path} is interlaced",
            path=info.path,
            hint=f"set decode.deinterlace: auto, or deinterlace it first: ffmpeg -i '{info.path}' -vf bwdif -c:v ffv1 "
            "-c:a copy progressive.mkv",
        )

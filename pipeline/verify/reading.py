"""Reading frames by number, forwards: by seeking where an index tells where, else by decoding on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.decode import Decoder
from pipeline.decode.container import error_text, open_container
from pipeline.decode.frame_index import FrameIndex
from pipeline.errors import MediaError
from pipeline.frames import Frame, FrameStamp, SampleFormat


class FrameReader(Protocol):
    """Gives frames of one film, each number once, in ascending order."""

    def frame(self, index: int) -> Frame | None:
        """A frame in host memory; None if the film ends before it.

        Raises:
            MediaError: It cannot be read.
        """
        ...


class DecodedFrames:
    """Frames of a decoder. See ``FrameReader``.

    Args:
        decoder: Open; stays the caller's. Frames in host memory.
        index: The decoder's own, if it has one.
    """

    def __init__(self, decoder: Decoder, *, index: FrameIndex | None) -> None:
        self._decoder = decoder
        self._index = index
        # where two frames are made of each one, entry points count the film's own
        self._per_frame = 1 if index is None or index.of_frames is None else 2
        self._running: Iterator[Frame] | None = None
        self._reached = 0
        self._damage: str | None = None  # of iterations that were left

    @property
    def damage(self) -> str | None:
        """What could not be decoded so far; None if nothing."""
        return self._damage or self._decoder.damage

    def frame(self, index: int) -> Frame | None:
        """See ``FrameReader.frame``."""
        entry = None if self._index is None else self._index.entry_before(index // self._per_frame)
        if self._running is None or (entry is not None and entry.frame * self._per_frame > self._reached):
            self._damage = self.damage
            self._running = self._decoder.frames(index if entry is not None else 0)
        for frame in self._running:
            self._reached = frame.stamp.index + 1
            if frame.stamp.index == index:
                return frame
            frame.release()
        return None

    def finish(self) -> str | None:
        """Decode to the end; what could not be decoded on the way there, None if nothing."""
        if self._running is None:
            self._running = self._decoder.frames(0)
        for frame in self._running:
            frame.release()
        return self.damage


class PictureFrames:
    """Frames of pictures. See ``FrameReader``.

    Args:
        path_of: Where the n-th picture is; None if there are fewer.
        is_paired: Whether each picture is two frames: its colours, and its alpha in grey.
    """

    def __init__(self, path_of: Callable[[int], Path | None], *, is_paired: bool = False) -> None:
        self._path_of = path_of
        self._per_picture = 2 if is_paired else 1

    def frame(self, index: int) -> Frame | None:
        """See ``FrameReader.frame``."""
        path = self._path_of(index // self._per_picture)
        if path is None or not path.exists():
            return None
        pixels = _read_pixels(path, has_alpha=self._per_picture == 2)
        channels = (3, 3, 3) if index % self._per_picture else (0, 1, 2)
        bits = 8 * pixels.dtype.itemsize
        return Frame(
            stamp=FrameStamp(index=index, pts=index),
            format=SampleFormat(matrix="rgb", subsampling="444", bit_depth=bits, full_range=True),
            height=pixels.shape[0],
            width=pixels.shape[1],
            planes=tuple(np.ascontiguousarray(pixels[..., channel]) for channel in channels),
        )


def _read_pixels(path: Path, *, has_alpha: bool) -> NDArray[Any]:
    """(H, W, 3) or, with alpha, (H, W, 4) codes of 8 or 16 bits.

    Raises:
        MediaError: It cannot be read.
    """
    import av

    kinds = {(False, False): "rgb24", (False, True): "rgba", (True, False): "rgb48le", (True, True): "rgba64le"}
    try:
        with open_container(path) as container:
            picture = next(container.decode(video=0))
            return picture.to_ndarray(format=kinds[picture.format.components[0].bits > 8, has_alpha])
    except (av.FFmpegError, OSError, StopIteration) as exc:
        raise MediaError(f"{path} cannot be read: {error_text(exc)}", path=path) from exc

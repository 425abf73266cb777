"""A film that is computed, not read: for tests, benchmarks and machines without a file at hand.

The upper half of every frame shows its index as 16 black or white blocks, 2 rows of 8, bit 0 first; the lower half is a
gradient that moves to the left. Positions are fractions of the image, so the index survives coding and scaling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import ColourTags, Frame, FrameStamp, SampleFormat
from pipeline.media import MediaInfo, StreamEntry, VideoTrack

CONTAINER = "synthetic"
"""``MediaInfo.container`` of a film that is no file."""

COUNTER_BITS = 16
_BLOCK_ROWS, _BLOCK_COLUMNS = 4, 8  # of the whole image; the upper two rows of blocks carry the 16 bits
_GRADIENT_PERIOD_FRAMES = 32
_MATRIX_CODES = {"rgb": 0, "bt709": 1, "bt601": 6, "bt2020nc": 9}


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticFilm:
    """What the generated film is like."""

    height: int = 180
    """Pixels, >= 1; the index is readable from 4 up."""
    width: int = 320
    """Pixels, >= 1; the index is readable from 8 up."""
    frame_count: int = 100
    """Frames, >= 0; indices beyond 65535 wrap in the picture."""
    rate: Fraction = Fraction(25)
    """Frames per second."""
    format: SampleFormat = field(default_factory=lambda: SampleFormat(matrix="bt709"))
    """Of the planes."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a film needs at least 1x1 pixels, not {self.height}x{self.width}")
        if self.frame_count < 0:
            raise ValueError(f"frame_count must not be negative, got {self.frame_count}")
        if self.rate <= 0:
            raise ValueError(f"rate must be positive, got {self.rate}")


class SyntheticDecoder:
    """Computes the frames of a ``SyntheticFilm``; same film, same frames, on every machine.

    Args:
        info: From ``describe_film``; everything about the film is in it.

    Raises:
        ValueError: ``info`` describes a file.
    """

    def __init__(self, info: MediaInfo) -> None:
        if info.container != CONTAINER:
            raise ValueError(f"{info.path} is a file; the synthetic decoder reads none")
        video = info.video
        self.info = info
        self._frame_count = video.frame_count_from_header or 0
        self._is_closed = False
        self._gradient = _gradient(video.format, height=video.height, width=video.width)

    @property
    def damage(self) -> str | None:
        """Always None: nothing is read."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Always empty."""
        return ()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield the frames ``start <= index < stop``; pts counts frames. See ``Decoder.frames``."""
        if start < 0 or (stop is not None and stop < 0):
            raise ValueError(f"frame range must not be negative, got {start}:{stop}")
        if self._is_closed:
            raise ValueError("the decoder is closed")
        end = self._frame_count if stop is None else min(stop, self._frame_count)
        return (self._make_frame(index) for index in range(start, end))

    def close(self) -> None:
        """Refuse further iterations."""
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_frame(self, index: int) -> Frame:
        film = self.info.video
        black, white = _luma_ends(film.format)
        shift = index * film.width // _GRADIENT_PERIOD_FRAMES % film.width
        luma = np.roll(self._gradient, -shift, axis=1)
        bits = (index >> np.arange(COUNTER_BITS).reshape(2, 8)) & 1
        top = _block_numbers(film.height, _BLOCK_ROWS)
        rows = top[top < 2]
        columns = _block_numbers(film.width, _BLOCK_COLUMNS)
        luma[: rows.size] = np.where(bits[rows][:, columns] == 1, white, black)
        if film.format.matrix == "rgb":
            planes: tuple[Any, Any, Any] = (luma, luma.copy(), luma.copy())
        else:
            planes = (luma, *self._chroma(index))
        return Frame(
            stamp=FrameStamp(index=index, pts=index, duration=1),
            format=film.format,
            height=film.height,
            width=film.width,
            planes=planes,
        )

    def _chroma(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Slow opposite ramps over the middle two thirds of the chroma range, turning with time."""
        film = self.info.video
        (rows, columns), _ = film.format.plane_shapes(height=film.height, width=film.width)[1:]
        middle = 1 << (film.format.bit_depth - 1)
        across = (np.arange(columns) / columns + index / _GRADIENT_PERIOD_FRAMES) % 1.0 - 0.5
        down = (np.arange(rows) / rows + index / _GRADIENT_PERIOD_FRAMES) % 1.0 - 0.5
        scale = middle * 2 / 3
        blue = np.broadcast_to(np.rint(middle + across * scale), (rows, columns)).astype(film.format.dtype, order="C")
        red = np.broadcast_to(np.rint(middle + down * scale)[:, None], (rows, columns)).astype(
            film.format.dtype, order="C"
        )
        return blue, red


def describe_film(film: SyntheticFilm) -> MediaInfo:
    """The ``MediaInfo`` of a computed film; its path is the word ``synthetic`` and names no file."""
    layout = film.format
    depth = "" if layout.bit_depth == 8 else f"{layout.bit_depth}le"
    stem = "gbrp" if layout.matrix == "rgb" else f"yuv{layout.subsampling}p"
    duration_s = float(film.frame_count / film.rate)
    time_base = 1 / film.rate
    return MediaInfo(
        path=Path("synthetic"),
        container=CONTAINER,
        size_bytes=0,
        start_s=0.0,
        duration_s=duration_s,
        video=VideoTrack(
            index=0,
            codec="synthetic",
            height=film.height,
            width=film.width,
            pixel_format=stem + depth,
            format=layout,
            tags=ColourTags(
                matrix=_MATRIX_CODES[layout.matrix],
                full_range=layout.full_range,
                chroma_location=layout.chroma_location,
            ),
            time_base=time_base,
            average_rate=film.rate,
            start_pts=0,
            duration_s=duration_s,
            frame_count_from_header=film.frame_count,
        ),
        streams=(StreamEntry(index=0, kind="video", codec="synthetic", time_base=time_base),),
    )


def _luma_ends(layout: SampleFormat) -> tuple[int, int]:
    # Source: ITU-T H.273 8.3
    if layout.full_range:
        return 0, (1 << layout.bit_depth) - 1
    return 16 << (layout.bit_depth - 8), 235 << (layout.bit_depth - 8)


def _gradient(layout: SampleFormat, *, height: int, width: int) -> NDArray[Any]:
    black, white = _luma_ends(layout)
    down = (np.arange(height) / height / 2)[:, None]
    across = (np.arange(width) / width)[None, :]
    return np.rint(black + (across + down) % 1.0 * (white - black)).astype(layout.dtype)


def _block_numbers(length_px: int, blocks: int) -> NDArray[np.int64]:
    """Block that holds each pixel's centre."""
    return ((np.arange(length_px) + 0.5) * blocks / length_px).astype(np.int64)

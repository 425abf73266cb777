"""What the GPU forms of the stages need of kernels; ``pipeline.cuda.FrameKernels`` is it on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engines.gpu import Stream

if TYPE_CHECKING:
    from pipeline.cuda import DevicePicture


class Kernels(Protocol):
    """The pixel work of one film, compiled, with its tables on the GPU. Every call is enqueued and returns at once."""

    @property
    def canvas_bytes(self) -> int:
        """Memory in which the tiles of a frame are joined; 0 where a frame is one tile."""
        ...

    def cut(self, picture: DevicePicture, *, tile: int, count: int = 1, out: int, stream: Stream) -> None:
        """Make tiles of a frame.

        Args:
            picture: The frame's integer planes.
            tile: Index of the first into ``TileGrid.tiles``.
            count: Number of tiles, >= 1, in the grid's order.
            out: Address of (count, 3, tile height, tile width) R'G'B' in the engine's type; written whole.
            stream: Where it is enqueued.
        """
        ...

    def blend(self, tile_pointer: int, *, tile: int, count: int = 1, canvas: int, stream: Stream) -> None:
        """Put enlarged tiles on the canvas; the tiles of a frame come in the grid's order.

        Args:
            tile_pointer: Address of (count, 3, s * tile height, s * tile width).
            tile: Index of the first into ``TileGrid.tiles``.
            count: Number of tiles, >= 1.
            canvas: Address of ``canvas_bytes``.
            stream: Where it is enqueued.
        """
        ...

    def finish(self, image: int, *, is_canvas: bool, out: DevicePicture, stream: Stream) -> None:
        """Resample an enlarged frame to the output size and round it to integer planes.

        Args:
            image: Address of the whole canvas, or of the only tile.
            is_canvas: Which of the two.
            out: Planes to write.
            stream: Where it is enqueued; the same one for all calls of ``blend`` and ``finish``.
        """
        ...

    def close(self) -> None:
        """Give the tables and scratch memory back; nothing may be in flight. Can be called twice."""
        ...

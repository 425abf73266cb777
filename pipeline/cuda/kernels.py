"""All kernels of one film behind three calls, one per step: cut, blend, finish."""

from __future__ import annotations

from engines.gpu import Device, Stream
from engines.spec import FloatType
from pipeline.blending import BlendPlan
from pipeline.cuda.blend import BlendStep
from pipeline.cuda.cut import CutStep
from pipeline.cuda.finish import FinishStep
from pipeline.cuda.finish_terms import ImageLayout
from pipeline.cuda.launcher import CudaLauncher, Launcher
from pipeline.cuda.picture import DevicePicture
from pipeline.cuda.tables import DeviceTables
from pipeline.frames import SampleFormat
from pipeline.resample import ResamplePlan
from pipeline.seen import SeenCurve
from pipeline.tiling import TileGrid


class FrameKernels:
    """Everything compiled and every table uploaded for one film; owned by whoever made it.

    Results agree with the CPU path (``pipeline.colour``, ``pipeline.cpu``, ``pipeline.resample``) within one code, and
    tiles within the rounding of their type. No call waits for the device. One thread may cut while another blends and
    finishes. ``finish`` uses scratch memory of this object: calls of it on different streams need an event in between.

    Args:
        device: Opened; stays the caller's.
        source: Format of the film's pictures.
        grid: The tiles.
        blend: Where the enlarged tiles go.
        resample: From the enlarged picture to the output size; None if they are the same.
        target: Format of the pictures made.
        height, width: Their size in pixels.
        dither: Dither when quantising.
        io_dtype: Of the network's tiles, in and out.
        stream: Used while this object is made, and waited for.
        seen: What the network sees of the codes: tiles hold that, and the enlarged picture; None: the codes.
        launcher: Compiles and loads kernels, and stays the caller's; None: a ``CudaLauncher`` of the device.

    Raises:
        ValueError: The plans do not fit each other.
        SetupError: The kernels cannot be compiled on this machine.
        OutOfDeviceMemory: There is no memory for tables or scratch.
    """

    def __init__(
        self,
        device: Device,
        *,
        source: SampleFormat,
        grid: TileGrid,
        blend: BlendPlan,
        resample: ResamplePlan | None,
        target: SampleFormat,
        height: int,
        width: int,
        dither: bool,
        io_dtype: FloatType,
        stream: Stream,
        seen: SeenCurve | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        if resample is not None and resample.is_identity:
            resample = None
        _check_fit(grid, blend=blend, resample=resample, height=height, width=width)
        self._own_launcher: CudaLauncher | None = None
        if launcher is None:
            launcher = self._own_launcher = CudaLauncher(device)
        self._tables = DeviceTables(device)
        self._finish: FinishStep | None = None
        self._blend: BlendStep | None = None
        try:
            self._cut = CutStep(launcher, source=source, grid=grid, io_dtype=io_dtype, seen=seen)
            if len(grid.tiles) > 1:
                self._blend = BlendStep(launcher, plan=blend, io_dtype=io_dtype, tables=self._tables)
            self._finish = FinishStep(
                device,
                launcher=launcher,
                image=_image_layout(blend, self._blend, io_dtype=io_dtype),
                resample=resample,
                target=target,
                height=height,
                width=width,
                dither=dither,
                tables=self._tables,
                seen=seen,
            )
            self._tables.upload(stream)
        except BaseException:
            self.close()
            raise

    @property
    def canvas_bytes(self) -> int:
        """Length of the canvas that ``blend`` writes; 0 where a frame is one tile and needs none."""
        return 0 if self._blend is None else self._blend.canvas_bytes

    def cut(self, picture: DevicePicture, *, tile: int, count: int = 1, out: int, stream: Stream) -> None:
        """Enqueue the conversion of tiles of a picture, reflected where they reach past the frame.

        Several tiles at once take little longer than one: a launch alone takes as long as a small tile's pixels.

        Args:
            picture: Of the source format and the grid's frame size; only read, until the stream is past this.
            tile: Index of the first into ``TileGrid.tiles``.
            count: Number of tiles, >= 1, in the grid's order.
            out: Address of (count, 3, tile_height, tile_width) ``io_dtype``, contiguous; R'G'B', nominally [0, 1].
            stream: Where to.

        Raises:
            ValueError: ``picture`` is of another format, size or layout, or there are not as many tiles.
        """
        self._cut.launch(picture, tile=tile, count=count, out=out, stream=stream)

    def blend(self, tile_pointer: int, *, tile: int, count: int = 1, canvas: int, stream: Stream) -> None:
        """Enqueue the blending of enlarged tiles, as ``pipeline.cpu.blend.TileBlender.add`` does it one by one.

        All tiles of a frame at once take three quarters of the time that they take one by one; see NOTES.md.

        Args:
            tile_pointer: Address of (count, 3, tile height, tile width) ``io_dtype`` in output pixels, contiguous; only
                read.
            tile: Index of the first in ``TileGrid.tiles``. Tiles of a frame come in that order, all of them.
            count: Number of tiles, >= 1.
            canvas: Address of ``canvas_bytes`` bytes, a multiple of 16; what they hold before the first tile does not
                matter.
            stream: Where to.

        Raises:
            ValueError: A frame is one tile, which needs no canvas, or there are not as many tiles.
        """
        if self._blend is None:
            raise ValueError("a frame of one tile has no canvas to blend on: give the tile to finish()")
        self._blend.launch(tile_pointer, tile=tile, count=count, canvas=canvas, stream=stream)

    def finish(self, image: int, *, is_canvas: bool, out: DevicePicture, stream: Stream) -> None:
        """Enqueue a change of size, if there is one, and the conversion to integer planes.

        Args:
            image: Address of a whole canvas, or of the enlarged tile that is the whole frame; only read.
            is_canvas: Which of the two; must be what ``canvas_bytes`` says.
            out: Of the target format and size; written.
            stream: Where to.

        Raises:
            ValueError: ``out`` is of another format, size or layout, or ``is_canvas`` is wrong.
        """
        if is_canvas != (self._blend is not None):
            raise ValueError(f"is_canvas must be {self._blend is not None} for these tiles")
        assert self._finish is not None
        self._finish.launch(image, out=out, stream=stream)

    def close(self) -> None:
        """Give memory and kernels back; no stream may still have work of them. Can be called twice."""
        if self._finish is not None:
            self._finish.close()
        self._tables.close()
        if self._own_launcher is not None:
            self._own_launcher.close()


def _image_layout(blend: BlendPlan, step: BlendStep | None, *, io_dtype: FloatType) -> ImageLayout:
    """How the picture to finish lies: on the canvas, or as the top left part of its one tile."""
    if step is not None:
        return ImageLayout(
            dtype="float32",
            height=blend.height,
            width=blend.width,
            pitch=step.canvas_pitch,
            plane=blend.height * step.canvas_pitch,
        )
    return ImageLayout(
        dtype=io_dtype,
        height=blend.height,
        width=blend.width,
        pitch=blend.tile_width,
        plane=blend.tile_height * blend.tile_width,
    )


def _check_fit(grid: TileGrid, *, blend: BlendPlan, resample: ResamplePlan | None, height: int, width: int) -> None:
    if len(blend.rows) * len(blend.columns) != len(grid.tiles):
        raise ValueError(f"a blend of {len(blend.rows)}x{len(blend.columns)} tiles is not one of {len(grid.tiles)}")
    if resample is None:
        if (blend.height, blend.width) != (height, width):
            raise ValueError(f"{blend.width}x{blend.height} does not become {width}x{height} without resampling")
        return
    sizes = (resample.height, resample.width), (resample.out_height, resample.out_width)
    if sizes != ((blend.height, blend.width), (height, width)):
        raise ValueError(
            f"resampling {resample.width}x{resample.height} to {resample.out_width}x{resample.out_height} does not fit "
            f"{blend.width}x{blend.height} and {width}x{height}"
        )

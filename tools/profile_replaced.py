"""Stages that take no time, with the results that the real ones had for the first frames: what would the run make then?

What follows such a stage gets pictures of the film, over and over, so that its own work stays what it is. For frames in
the host's memory; on a GPU the network (`tools.profile_kept_gpu`), the decoder and the encoder can be replaced, its
kernels cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Any, Self

import numpy as np

from engines import Runner
from pipeline.encode.table import ENCODERS
from pipeline.frames import Frame, FrameStamp, TileBatch, TileSlot
from pipeline.graph.stage import Stage
from pipeline.host import available_memory_bytes
from pipeline.instruments import DecoderOpener
from pipeline.media import MediaInfo
from pipeline.plan import JobPlan
from pipeline.stages import DecodeSource
from pipeline.wiring import open_transforms, planned_decoder
from tools.profile_kept_gpu import FirstTimeRunner, KeptRunner, KeptTiles

KEPT_FRAMES = 6
"""Least number whose results are used over and over: an encoder must not find the picture before last."""
KEPT_BYTES = 1 << 31
"""Most that may be kept of more, if a quarter of the free memory is not less. What an encoder takes for a frame depends
on the picture: the first six of a film that begins with a still one were coded in half the time of all 132."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What came out of the stages for the first frames, in memory of its own; on a GPU, of the decoder alone."""

    decoded: tuple[Frame, ...]
    cut: tuple[TileBatch, ...] = ()
    upscaled: tuple[TileBatch, ...] = ()
    finished: tuple[Frame, ...] = ()


def count_kept(plan: JobPlan, *, frame_count: int) -> int:
    """Of how many frames results are kept for runs of ``frame_count``: of all, as far as memory goes."""
    video = plan.info.video
    planes = video.format.plane_shapes(height=video.height, width=video.width)
    frame_bytes = np.dtype(video.format.dtype).itemsize * sum(height * width for height, width in planes)
    if not plan.is_on_gpu:
        finished = plan.encode.format.plane_shapes(height=plan.height, width=plan.width)
        frame_bytes += np.dtype(plan.encode.format.dtype).itemsize * sum(height * width for height, width in finished)
        frame_bytes += 3 * np.dtype(np.float32).itemsize * plan.grid.computed_px * (1 + plan.engine_scale**2)
    most_bytes = min(KEPT_BYTES, available_memory_bytes() // 4)
    return min(frame_count, max(KEPT_FRAMES, most_bytes // frame_bytes))


def keep_results(plan: JobPlan, runner: Runner, *, frame_count: int = KEPT_FRAMES) -> Kept:
    """Run the stages for the first frames, one after the other in this thread.

    Args:
        plan: What to run.
        runner: Opened for it, idle.
        frame_count: Frames at most.
    """
    decoder = replace(plan, lanes=1, decoder=replace(plan.decoder, kind=_host_decoder(plan)))
    with closing(_iterate(DecodeSource(planned_decoder(decoder)).run())) as frames:
        decoded = tuple(_copy_frame(frame) for frame in islice(frames, frame_count))
    if plan.is_on_gpu:
        return Kept(decoded=decoded)
    with open_transforms(replace(plan, lanes=1), runner) as transforms:
        cut = _run_alone(transforms.tiler, decoded, _copy_batch)
        upscaled = _run_alone(transforms.upscaler, cut, _copy_batch)
        finished = _run_alone(transforms.stitcher, upscaled, _copy_frame)
    return Kept(decoded=decoded, cut=cut, upscaled=upscaled, finished=finished)


def _host_decoder(plan: JobPlan) -> Any:
    return "libav" if plan.decoder.kind == "nvdec" else plan.decoder.kind


def _iterate(items: Any) -> Any:
    """A stage's results, which can be closed."""
    return items


def _run_alone(stage: Any, items: Sequence[Any], copy: Callable[[Any], Any]) -> tuple[Any, ...]:
    with closing(_iterate(stage.run(iter(items)))) as results:
        return tuple(copy(result) for result in results)


def _copy_frame(frame: Frame) -> Frame:
    """A frame outside the pool; the original goes back."""
    planes = tuple(np.array(plane) for plane in frame.planes)
    frame.release()
    return replace(frame, planes=planes, lease=None, owner=None, ready=None)


def _copy_batch(batch: TileBatch) -> TileBatch:
    """A batch outside the pool; the original goes back."""
    copy = TileBatch(tiles=np.array(batch.tiles), slots=batch.slots)
    batch.release()
    return copy


class KeptDecoder:
    """Kept frames over and over, at even times, without an end. See ``pipeline.decode.base.Decoder``."""

    damage: str | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, kept: Kept, *, info: MediaInfo) -> None:
        self.info = info
        self._frames = kept.decoded
        self._step = max(1, round(1 / ((info.video.average_rate or 25) * info.video.time_base)))

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See ``Decoder``."""
        index = start
        while stop is None or index < stop:
            stamp = FrameStamp(index=index, pts=index * self._step, duration=self._step)
            yield replace(self._frames[index % len(self._frames)], stamp=stamp)
            index += 1

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> Self:
        """Return the decoder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to free."""


class KeptTiler:
    """Kept batches for the frames that come."""

    name = "tile"
    lookahead = 0

    def __init__(self, kept: Kept, *, tiles_per_frame: int) -> None:
        self._batches = kept.cut
        self._tiles_per_frame = tiles_per_frame

    def run(self, items: Iterator[Frame]) -> Iterator[TileBatch]:
        """Yield a batch whenever one is full, and the rest at the end."""
        rows = len(self._batches[0].tiles)
        slots: list[TileSlot] = []
        count = 0
        for frame in items:
            for tile in range(self._tiles_per_frame):
                slots.append(TileSlot(stamp=frame.stamp, tile=tile))
                if len(slots) == rows:
                    yield TileBatch(tiles=self._batches[count % len(self._batches)].tiles, slots=tuple(slots))
                    slots = []
                    count += 1
            frame.release()
        if slots:
            yield TileBatch(tiles=self._batches[count % len(self._batches)].tiles, slots=tuple(slots))


class KeptUpscaler:
    """Kept results for the batches that come."""

    name = "upscale"
    lookahead = 0

    def __init__(self, kept: Kept) -> None:
        self._batches = kept.upscaled

    def run(self, items: Iterator[TileBatch]) -> Iterator[TileBatch]:
        """Yield one result for each batch."""
        for count, batch in enumerate(items):
            batch.release()
            yield TileBatch(tiles=self._batches[count % len(self._batches)].tiles, slots=batch.slots)


class KeptStitcher:
    """Kept finished frames for the tiles that come."""

    name = "stitch"
    lookahead = 0

    def __init__(self, kept: Kept, *, tiles_per_frame: int) -> None:
        self._frames = kept.finished
        self._tiles_per_frame = tiles_per_frame

    def run(self, items: Iterator[TileBatch]) -> Iterator[Frame]:
        """Yield a frame whenever its last tile has arrived."""
        for batch in items:
            for slot in batch.slots:
                if slot.tile == self._tiles_per_frame - 1:
                    yield replace(self._frames[slot.stamp.index % len(self._frames)], stamp=slot.stamp)
            batch.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A run with one stage replaced."""

    stage: str
    words: str
    """What stands in its place."""
    plan: JobPlan
    runner: Runner
    wrap_decoder: Callable[[DecoderOpener], DecoderOpener] | None = None
    wrap_stages: Callable[[Sequence[Stage], int], Sequence[Stage]] | None = None


def replacements(
    plan: JobPlan, runner: Runner, kept: Kept, *, tiles_kept: KeptTiles | None = None
) -> list[Replacement]:
    """One for each stage that can be replaced, in order.

    Args:
        plan: The run.
        runner: Opened for it.
        kept: From `keep_results`.
        tiles_kept: From `keep_tiles`, for frames on a GPU.
    """
    tiles = len(plan.grid.tiles)
    same = f"the results of the first {len(kept.finished or kept.decoded)} frames"

    def in_place(stage: Callable[[], Stage], place: int) -> Callable[[Sequence[Stage], int], Sequence[Stage]]:
        return lambda stages, lane: (*stages[:place], stage(), *stages[place + 1 :])  # noqa: ARG005 - all lanes alike

    def wrap_decoder(_: DecoderOpener) -> DecoderOpener:
        return lambda: KeptDecoder(kept, info=plan.info)

    silent = replace(plan, encode=replace(plan.encode, encoder=ENCODERS["null"]), container="", streams=None)
    found = [
        Replacement(stage="decode", words="frames from memory", plan=plan, runner=runner, wrap_decoder=wrap_decoder)
    ]
    if tiles_kept is not None:
        words = f"the results of the first {len(tiles_kept.buffers)} frames, copied"
        network = KeptRunner(runner, tiles_kept)
        found.append(
            Replacement(
                stage="upscale",
                words=words,
                plan=plan,
                runner=network,
                wrap_stages=lambda stages, lane: (*stages[:2], network.told(stages[2]), *stages[3:]),  # noqa: ARG005
            )
        )
    elif plan.is_on_gpu:
        found.append(
            Replacement(stage="upscale", words="what its buffers held once", plan=plan, runner=FirstTimeRunner(runner))
        )
    else:
        stages: list[tuple[str, Callable[[], Stage]]] = [
            ("tile", lambda: KeptTiler(kept, tiles_per_frame=tiles)),
            ("upscale", lambda: KeptUpscaler(kept)),
            ("stitch", lambda: KeptStitcher(kept, tiles_per_frame=tiles)),
        ]
        found += [
            Replacement(
                stage=name,
                words=same,
                plan=plan,
                runner=runner,
                wrap_stages=in_place(stage, place),
            )
            for place, (name, stage) in enumerate(stages, start=1)
        ]
    if plan.encode.encoder.codec:
        found.append(Replacement(stage="encode", words="an encoder that writes nothing", plan=silent, runner=runner))
    return found

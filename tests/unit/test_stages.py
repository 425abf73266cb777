"""The stages as plain generators: no thread, no channel. What they promise about order, content and leases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers import media

from engines import open_runner
from pipeline.blending import plan_blend
from pipeline.decode import open_decoder, probe_synthetic
from pipeline.decode.synthetic import SyntheticFilm, describe_film
from pipeline.encode import ENCODERS, EncodeSpec
from pipeline.frames import ColourTags, Frame, TileBatch
from pipeline.graph.pool import BufferPool
from pipeline.segments import SegmentWriter
from pipeline.stages import DecodeSource, EncodeSink, Stitcher, Tiler, Upscaler, planes_in
from pipeline.tiling import TileGrid, plan_tiles

HEIGHT, WIDTH, COUNT = 24, 40, 5
INFO = describe_film(SyntheticFilm(height=HEIGHT, width=WIDTH, frame_count=COUNT))
FORMAT = INFO.video.format


def frames() -> list[Frame]:
    return list(DecodeSource(lambda: open_decoder("synthetic", info=INFO)).run())


def tiles_pool(grid: TileGrid, *, batch: int, scale: int = 1, count: int = 2) -> BufferPool:
    shape = (batch, 3, grid.tile_height * scale, grid.tile_width * scale)
    return BufferPool("tiles", shape=shape, dtype=np.float32, count=count)


def small_tiles() -> TileGrid:
    return plan_tiles(height=HEIGHT, width=WIDTH, tile_height=16, tile_width=16, overlap_px=4)


def test_the_source_gives_every_frame_and_what_the_decoder_says() -> None:
    source = DecodeSource(lambda: open_decoder("synthetic", info=INFO))
    assert [frame.stamp.index for frame in source.run()] == list(range(COUNT))
    assert source.damage is None
    assert source.notes == ()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_batches_hold_tiles_of_several_frames_in_film_order(batch: int) -> None:
    grid = small_tiles()
    pool = tiles_pool(grid, batch=batch, count=100)
    batches = list(Tiler(grid, pool=pool).run(iter(frames())))
    order = [(slot.stamp.index, slot.tile) for batch in batches for slot in batch.slots]
    assert order == [(index, tile) for index in range(COUNT) for tile in range(len(grid.tiles))]
    assert all(len(one.slots) == batch for one in batches[:-1])
    assert 1 <= len(batches[-1].slots) <= batch


@pytest.mark.parametrize("batch", [1, 3])
def test_tiler_and_stitcher_undo_each_other_to_the_last_code(batch: int) -> None:
    grid = small_tiles()
    originals = frames()
    tiles_in = tiles_pool(grid, batch=batch)
    frames_out = BufferPool("frames", shape=(FORMAT.frame_bytes(height=HEIGHT, width=WIDTH),), dtype=np.uint8, count=1)
    stitcher = Stitcher(
        plan_blend(grid, scale=1), resample=None, format=FORMAT, height=HEIGHT, width=WIDTH, pool=frames_out
    )
    found = 0
    for frame in stitcher.run(Tiler(grid, pool=tiles_in).run(iter(originals))):
        original = originals[frame.stamp.index]
        assert frame.stamp == original.stamp
        assert np.abs(frame.planes[0].astype(int) - original.planes[0]).max() <= 1
        assert media.read_counter(frame) == frame.stamp.index
        frame.release()
        found += 1
    assert found == COUNT
    assert (tiles_in.free_count, frames_out.free_count) == (2, 1)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_stage_that_is_closed_early_gives_its_buffers_back(taken: int) -> None:
    grid = small_tiles()
    with open_runner(model="nearest-x2", backend="resize", height=16, width=16, batch=2) as runner:
        pool_in = tiles_pool(grid, batch=2, count=4)
        pool_out = tiles_pool(grid, batch=2, scale=2, count=4)
        stage = Upscaler(runner, pool=pool_out).run(Tiler(grid, pool=pool_in).run(iter(frames())))
        for _ in range(taken):
            next(stage).release()
        stage.close()
    del stage
    assert (pool_in.free_count, pool_out.free_count) == (4, 4)


def test_the_engine_sees_each_batch_once_and_in_order() -> None:
    grid = small_tiles()
    seen: list[float] = []
    with open_runner(model="nearest-x1", backend="resize", height=16, width=16) as runner:

        def batches() -> Iterator[TileBatch]:
            pool = tiles_pool(grid, batch=1, count=3)
            for number in range(10):
                lease = pool.acquire()
                lease.array[...] = number
                yield TileBatch(tiles=lease.array, slots=(), lease=lease)

        for batch in Upscaler(runner, pool=tiles_pool(grid, batch=1, count=3)).run(batches()):
            seen.append(float(batch.tiles.mean()))
            batch.release()
    assert seen == list(range(10))


def test_the_sink_commits_segments_and_nothing_of_a_run_that_fails(tmp_path: Path) -> None:
    spec = EncodeSpec(
        encoder=ENCODERS["ffv1"],
        height=HEIGHT,
        width=WIDTH,
        format=FORMAT,
        tags=ColourTags(matrix=1),
        time_base=INFO.video.time_base,
    )

    def sink(folder: Path) -> EncodeSink:
        folder.mkdir()
        return EncodeSink(lambda: SegmentWriter(folder, spec, segment_frames=2))

    whole = sink(tmp_path / "whole")
    whole.run(iter(frames()))
    assert [(segment.start, segment.stop) for segment in whole.segments] == [(0, 2), (2, 4), (4, 5)]

    def broken() -> Iterator[Frame]:
        yield from frames()[:3]
        raise RuntimeError("the stage before failed")

    failed = sink(tmp_path / "failed")
    with pytest.raises(RuntimeError):
        failed.run(broken())
    assert failed.segments == ()
    assert not list((tmp_path / "failed").glob("*.part"))


def test_the_decoder_is_closed_when_the_run_is_cut() -> None:
    closed: list[bool] = []

    @contextmanager
    def opened():  # type: ignore[no-untyped-def]
        try:
            with open_decoder("synthetic", info=INFO) as decoder:
                yield decoder
        finally:
            closed.append(True)

    source = DecodeSource(opened).run()
    next(source)
    source.close()
    assert closed == [True]


def test_planes_lie_in_one_buffer_without_gaps() -> None:
    buffer = np.arange(FORMAT.frame_bytes(height=3, width=5), dtype=np.uint8)
    luma, blue, red = planes_in(buffer, FORMAT, height=3, width=5)
    assert [plane.shape for plane in (luma, blue, red)] == [(3, 5), (2, 3), (2, 3)]
    assert np.array_equal(np.concatenate([luma.ravel(), blue.ravel(), red.ravel()]), buffer)


def test_a_synthetic_film_is_what_its_settings_say() -> None:
    from pipeline.config import SyntheticSection

    info = probe_synthetic(SyntheticSection(height=30, width=50, frame_count=7))
    assert (info.video.height, info.video.width, info.video.frame_count_from_header) == (30, 50, 7)

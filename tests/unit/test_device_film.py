"""A film from NVDEC to finished frames without leaving the GPU, over doubles of both: the bytes of the way by host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import media
from helpers.device_runs import assert_same, copies, gpu_plan, host_pictures, open_stages
from helpers.gpu_double import FakeGpu
from helpers.nvdec_double import NvdecLibrary

from pipeline.config.load import make_config
from pipeline.decode import DecoderChoice
from pipeline.decode.nvdec import NvdecDecoder
from pipeline.plan import plan_film, probe_film
from pipeline.pool_plan import plan_pools


@pytest.mark.parametrize("tile", [{}, {"max_px": 48}], ids=["whole", "tiles"])
def test_frames_of_nvdec_stay_on_the_gpu_and_end_as_those_of_software_decoding(
    tmp_path: Path, tile: dict[str, int]
) -> None:
    film = media.write_counter_video(tmp_path / "film.mp4", frames=9, height=54, width=66)
    config = make_config(
        {
            "input": {"paths": [str(film)]},
            "infer": {"model": "nearest-x2"},
            "encode": {"kind": "null"},
            "tile": tile,
        },
        folder=tmp_path,
    )
    host = plan_film(config, probe_film(config, film))
    plan = plan_pools(replace(gpu_plan(host), decoder=DecoderChoice(kind="nvdec", reason="")))
    gpu = FakeGpu()
    with open_stages(plan, gpu) as stages:
        assert stages.surfaces is not None
        with NvdecDecoder(plan.info, device=gpu, pool=stages.surfaces, library=NvdecLibrary(gpu)) as decoder:
            gpu.log.clear()
            tiled = stages.tiler.run(decoder.frames())
            found = copies(stages.stitcher.run(stages.upscaler.run(tiled)))
        uploads = next(pool for pool in stages.pools if pool.name == "uploads")
        assert uploads.acquire().free_after is None  # never used
        assert stages.surfaces.free_count == stages.surfaces.count
    assert len(found) == 9
    assert_same(found, host_pictures(host))

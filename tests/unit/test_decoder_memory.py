"""What NVDEC holds by itself: counted in the plan, after each format's own limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import media
from helpers.device_runs import gpu_plan
from helpers.film_runs import film_plan

from pipeline.decode import DecoderChoice
from pipeline.device.decoder_memory import count_references, estimate_decoder_bytes
from pipeline.pool_plan import plan_pools
from pipeline.show.plan_words import plan_lines


@pytest.mark.parametrize(
    ("codec", "height", "width", "count"),
    [
        ("h264", 1088, 1920, 16),
        ("h264", 2160, 3840, 5),  # level 5.1: 184320 // 32400
        ("h264", 4320, 8192, 5),  # level 6.2: 696320 // 138240
        ("hevc", 1088, 1920, 16),
        ("hevc", 2160, 3840, 6),
        ("hevc", 1440, 2560, 12),
        ("hevc", 4320, 7680, 6),
        ("vp9", 2160, 3840, 8),
        ("av1", 1088, 1920, 8),
        ("mpeg2video", 576, 720, 2),
        ("something new", 576, 720, 16),
    ],
)
def test_a_decoder_keeps_as_many_pictures_as_its_format_allows(codec: str, height: int, width: int, count: int) -> None:
    assert count_references(codec, height=height, width=width) == count


def test_the_plan_counts_a_session_for_every_lane_and_says_so(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mp4", frames=33, height=54, width=66)
    plan = gpu_plan(film_plan(tmp_path, film, lanes=2))
    hardware = plan_pools(replace(plan, decoder=DecoderChoice(kind="nvdec", reason="")))
    session_bytes = estimate_decoder_bytes(plan.info.video)
    assert session_bytes == (16 + 4 + 2) * 64 * 80 * 3 // 2
    assert plan.decoder_bytes_estimated == 0
    added_pools = hardware.device_pool_bytes - plan.device_pool_bytes
    added = hardware.device_bytes_estimated - plan.device_bytes_estimated
    assert added == 2 * (session_bytes + added_pools)
    assert any("NVDEC itself perhaps" in line for line in plan_lines(hardware))
    assert not any("NVDEC itself" in line for line in plan_lines(plan))


def test_samples_of_more_than_eight_bits_take_twice_the_room(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mp4", frames=3)
    video = film_plan(tmp_path, film).info.video
    deep = replace(video, format=replace(video.format, bit_depth=10))
    assert estimate_decoder_bytes(deep) == 2 * estimate_decoder_bytes(video)

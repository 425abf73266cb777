"""Decisions about a film, made before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import media

from pipeline.config.load import make_config
from pipeline.errors import ConfigError, MediaError, OutputError, UnsupportedMedia
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import check_paths, measure_pace, open_planned_runner
from pipeline.show.plan_words import choice_lines, plan_as_json, plan_lines


def plan(folder: Path, *, film: Path | None = None, **sections: Any) -> JobPlan:
    base: dict[str, Any] = {"infer": {"model": "realesr-animevideov3"}}
    if film is None:
        base["decode"] = {"kind": "synthetic", "synthetic": {"height": 270, "width": 480, "frame_count": 100}}
    else:
        base["input"] = {"paths": [str(film)]}
    config = make_config({**base, **sections}, folder=folder)
    return plan_film(config, probe_film(config, film))


def test_a_frame_that_fits_is_not_cut(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert made.grid.is_whole
    assert (made.height, made.width, made.engine_scale) == (1080, 1920, 4)
    assert not made.resamples


def test_little_memory_makes_small_tiles_that_keep_to_it(tmp_path: Path) -> None:
    made = plan(tmp_path, run={"memory_mb": 150})
    assert len(made.grid.tiles) > 1
    assert made.memory_bytes_estimated <= 150 * 2**20
    assert made.grid.computed_px < 2 * 270 * 480


def test_memory_for_no_tile_at_all_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        plan(
            tmp_path, run={"memory_mb": 64}, decode={"kind": "synthetic", "synthetic": {"height": 2160, "width": 3840}}
        )
    assert "run.memory_mb" in caught.value.hint


def test_a_longest_side_is_kept_to(tmp_path: Path) -> None:
    grid = plan(tmp_path, tile={"max_px": 128}).grid
    assert max(grid.tile_height, grid.tile_width) <= 128


@pytest.mark.parametrize(
    ("scale", "engine_scale", "resamples"),
    [
        ({"factor": 2}, 2, False),
        ({"factor": 2, "fold": False}, 4, True),
        ({"factor": 4}, 4, False),
        ({"factor": 3}, 4, True),
        ({"height": 540}, 2, False),
        ({"factor": 8}, 4, True),
    ],
    ids=str,
)
def test_the_network_does_as_much_of_the_scaling_as_it_exactly_can(
    tmp_path: Path, scale: dict[str, Any], engine_scale: int, resamples: bool
) -> None:
    made = plan(tmp_path, scale=scale)
    assert (made.engine_scale, made.resamples) == (engine_scale, resamples)


def test_names_are_filled_in(tmp_path: Path) -> None:
    made = plan(tmp_path, output={"name": "{stem}-{model}-{height}-{factor}"}, scale={"factor": 1.5})
    assert made.output.name == f"{made.info.path.stem}-realesr-animevideov3-406-1.5037.mkv"


def test_the_words_and_the_json_say_the_same(tmp_path: Path) -> None:
    made = plan(tmp_path, output={"segment_s": 1})
    values = plan_as_json(made)
    text = "\n".join(plan_lines(made, pace_fps=10.0))
    assert values["segments"] == {"frames": 24, "count_estimated": 5}
    assert "5 segments" in text and "1920x1080" in text and "0:10" in text
    assert all(line in text for line in choice_lines(made))
    assert sum(pool["bytes"] for pool in values["pools"]) < values["memory_bytes_estimated"]
    assert values["disk_bytes_estimated"] > 0


def test_the_pace_is_measured_on_the_engine_planned(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert 0.01 < measure_pace(made, seconds=0.1) < 1000
    with open_planned_runner(made) as runner:
        assert runner.spec.output_shape == (1, 3, 1080, 1920)


def test_a_large_network_may_take_longer_than_the_stall_time_out(tmp_path: Path) -> None:
    assert plan(tmp_path).stall_timeout_s == 120
    assert plan(tmp_path, infer={"model": "RealESRGAN_x4plus"}).stall_timeout_s > 120


def test_what_the_container_cannot_hold_is_refused_before_the_run(tmp_path: Path) -> None:
    film = media.write_rich_mkv(tmp_path / "film.mkv")
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, film=film, output={"container": "mp4"})
    assert "mkv" in caught.value.hint


def test_an_interlaced_film_is_refused_before_the_run(tmp_path: Path) -> None:
    film = media.write_interlaced(tmp_path / "film.mkv")
    with pytest.raises(UnsupportedMedia) as caught:
        plan(tmp_path, film=film)
    assert "bwdif" in caught.value.hint


def test_square_pixels_stay_square_whatever_is_rounded(tmp_path: Path) -> None:
    assert plan(tmp_path, scale={"height": 500}).encode.sample_aspect == 1


def test_paths_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2)
    with pytest.raises(OutputError, match="replace the input"):
        check_paths(plan(tmp_path, film=film, output={"dir": "."}))
    made = plan(tmp_path, film=film)
    check_paths(made)
    made.output.write_bytes(b"x")
    with pytest.raises(OutputError, match="exists"):
        check_paths(made)
    assert [path.name for path in made.output.parent.iterdir()] == ["film.mkv"]

"""Decisions about a film, made before anything starts."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers import media, onnx_models

from engines import EngineError, find_model
from engines.backend import PassedOver
from pipeline.config.load import make_config
from pipeline.engine import choose_engine as choose_here
from pipeline.engine import find_network
from pipeline.errors import ConfigError, MediaError, OutputError, UnsupportedMedia
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import check_paths, measure_pace, open_planned_runner
from pipeline.show.plan_words import choice_lines, list_choices, plan_as_json, plan_lines


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


def with_choice(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the backend be like the one here but for some of what it says of itself."""

    def choose_engine(infer: Any, *, model: Any) -> Any:
        return replace(choose_here(infer, model=model), **changes)

    monkeypatch.setattr("pipeline.plan.choose_engine", choose_engine)


def with_model(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the network be like the one of the table but for some of its needs."""
    monkeypatch.setattr("pipeline.plan.find_network", lambda infer: replace(find_model(infer.model), **changes))


def odd_film(*, height: int, width: int, **sections: Any) -> dict[str, Any]:
    film = {"height": height, "width": width, "frame_count": 3}
    return {"decode": {"kind": "synthetic", "synthetic": film}, **sections}


@pytest.mark.parametrize("multiple", [2, 4])
@pytest.mark.parametrize("max_px", ["auto", 64])
def test_tiles_are_what_the_network_can_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multiple: int, max_px: Any
) -> None:
    with_model(monkeypatch, size_multiple=multiple, overlap_px=6)
    made = plan(tmp_path, **odd_film(height=91, width=133, tile={"max_px": max_px}))
    grid = made.grid
    assert grid.tile_height % multiple == grid.tile_width % multiple == 0
    assert (len(grid.tiles) == 1) == (max_px == "auto")
    assert (made.height, made.width) == (364, 532)
    shapes = {pool.name: pool.shape for pool in made.pools}
    assert shapes["tiles in"][2:] == (grid.tile_height, grid.tile_width)


def test_a_film_smaller_than_the_network_takes_is_padded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_model(monkeypatch, min_px=64, size_multiple=4)
    grid = plan(tmp_path, **odd_film(height=30, width=90)).grid
    assert (grid.tile_height, grid.tile_width, len(grid.tiles)) == (64, 92, 1)


DYNAMIC = {"engine": {"dynamic": True, "min_px": 128, "opt_px": 160, "max_px": 200}}


def test_a_dynamic_engine_limits_the_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_choice(monkeypatch, compiles_engines=True)
    infer = {"model": "realesr-animevideov3", **DYNAMIC}
    cut = plan(tmp_path, infer=infer).grid
    assert max(cut.tile_height, cut.tile_width) <= 200
    small = plan(tmp_path, **odd_film(height=50, width=150, infer=infer)).grid
    assert (small.tile_height, small.tile_width) == (128, 150)


def test_a_tile_beyond_the_engines_largest_is_refused_before_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = {"model": "realesr-animevideov3", **DYNAMIC}
    assert plan(tmp_path, infer=infer, tile={"max_px": 300}).grid  # a backend that compiles nothing has no such limit
    with_choice(monkeypatch, compiles_engines=True)
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, infer=infer, tile={"max_px": 300})
    assert caught.value.problems == (
        "tile.max_px: must not be more than infer.engine.max_px (got 300, not 200 or less)",
    )
    assert "300" in caught.value.hint


def test_a_network_of_one_tile_size_gets_tiles_of_that_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_model(monkeypatch, fixed_height=64, fixed_width=96)
    made = plan(tmp_path)
    assert (made.grid.tile_height, made.grid.tile_width) == (64, 96)
    assert len(made.grid.tiles) > 1
    assert made.overlap_px == 31  # the network's 32 would be half a tile
    small = plan(tmp_path, **odd_film(height=21, width=33)).grid
    assert (small.tile_height, small.tile_width, len(small.tiles)) == (64, 96, 1)


def test_a_network_with_one_free_side_gets_the_best_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_model(monkeypatch, fixed_height=128)
    grid = plan(tmp_path, tile={"max_px": 200}).grid
    assert grid.tile_height == 128
    assert grid.tile_width <= 200
    assert plan(tmp_path).grid.tile_width == 480


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"tile": {"max_px": 64}}, "tile.max_px: must be at least 96: realesr-animevideov3 takes tiles of 96x64 only"),
        ({"tile": {"overlap_px": 32}}, "tile.overlap_px: must be less than half of 64"),
        ({"infer": {"model": "realesr-animevideov3", "batch_tiles": 3}}, "infer.batch_tiles: must be 1"),
    ],
)
def test_what_a_network_of_one_size_cannot_take_is_refused_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], words: str
) -> None:
    with_model(monkeypatch, fixed_height=64, fixed_width=96, fixed_batch=1)
    with pytest.raises(ConfigError, match=words) as caught:
        plan(tmp_path, **sections)
    assert "export the network" in caught.value.hint


def test_a_network_of_one_size_that_does_not_fit_into_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_model(monkeypatch, fixed_height=256, fixed_width=256)
    with pytest.raises(MediaError, match="a height of 256"):
        plan(tmp_path, run={"memory_mb": 100})


def test_limits_that_leave_no_tile_are_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_model(monkeypatch, min_px=128)
    with pytest.raises(MediaError, match="sides <= 64") as caught:
        plan(tmp_path, tile={"max_px": 64, "overlap_px": 4})
    assert "tile.max_px" in caught.value.hint


def test_a_small_gpu_makes_small_tiles_whatever_the_host_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes = 100 * 2**20
    with_choice(monkeypatch, activation_share=0.0, device_memory_bytes=free_bytes, precision="fp16")
    made = plan(tmp_path)
    assert len(made.grid.tiles) > 1
    assert 0 < made.device_bytes_estimated <= 0.7 * free_bytes
    assert any("GPU memory: about" in line for line in plan_lines(made))
    with_choice(monkeypatch, activation_share=0.0, device_memory_bytes=2**40, precision="fp16")
    assert plan(tmp_path).grid.is_whole
    with_choice(monkeypatch, activation_share=0.0, device_memory_bytes=2**20)
    with pytest.raises(MediaError) as caught:
        plan(tmp_path)
    assert "GPU" in caught.value.hint


def test_without_word_of_the_gpus_memory_there_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_choice(monkeypatch, activation_share=0.0)
    made = plan(tmp_path)
    assert made.grid.is_whole
    assert made.device_bytes_estimated == 0
    assert made.memory_bytes_estimated == made.decoded_bytes + sum(pool.bytes for pool in made.pools)


def test_the_network_is_identified_by_the_content_of_its_files(tmp_path: Path) -> None:
    made = plan(tmp_path)
    (file,) = made.model_files
    assert file.sha256 in {known.sha256 for known in made.model.files}
    assert plan_as_json(made)["engine"]["files"] == [{"path": str(file.path), "sha256": file.sha256}]
    assert plan(tmp_path, infer={"model": "nearest-x2"}).model_files == ()


def test_a_model_file_that_changes_is_another_network(tmp_path: Path) -> None:
    weights = plan(tmp_path).model_files[0].path
    mine = tmp_path / "mine.bin"
    shutil.copy(weights, mine)
    before = plan(tmp_path, infer={"model": str(mine)})
    assert before.model.name == "mine"
    assert before.output.name == plan(tmp_path).output.name
    mine.write_bytes(b"something else")
    with pytest.raises(EngineError):
        plan(tmp_path, infer={"model": str(mine)})


def test_weights_outside_an_onnx_file_belong_to_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    onnx.save(onnx_models.network(), str(path), save_as_external_data=True, location="mine.data", size_threshold=0)
    files = plan(tmp_path, infer={"model": str(path)}).model_files
    assert [file.path for file in files] == [path, tmp_path / "mine.data"]
    assert [file.sha256 for file in files] == [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files]


def test_passed_over_engines_are_in_the_words_and_in_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = PassedOver(backend="tensorrt", device="cuda", reason="not installed", hint="pip install tensorrt-cu13")
    with_choice(monkeypatch, passed_over=(one,))
    made = plan(tmp_path)
    assert "  not tensorrt on cuda: not installed (pip install tensorrt-cu13)" in plan_lines(made)
    engine = plan_as_json(made)["engine"]
    assert engine["passed_over"] == [asdict(one)]
    assert (engine["backend"], engine["device_id"]) == (made.backend.backend, made.backend.device_id)


def test_what_the_config_says_of_engines_reaches_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("pipeline.preflight.open_runner", lambda **arguments: asked.update(arguments))
    infer = {"model": "realesr-animevideov3", "engine": {"workspace_mb": 7}, "device": "cpu"}
    listener = object()
    open_planned_runner(plan(tmp_path, infer=infer), listener=listener)  # type: ignore[arg-type]
    assert asked["build"].workspace_bytes == 7 * 2**20
    assert (asked["device"], asked["listener"]) == ("cpu", listener)


def test_an_engine_that_is_compiled_is_measured_at_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring must not compile a second engine."""
    asked: list[tuple[int, int]] = []

    def open_runner(**arguments: Any) -> Any:
        asked.append((arguments["height"], arguments["width"]))
        raise EngineError("seen")

    monkeypatch.setattr("pipeline.preflight.open_runner", open_runner)
    with_choice(monkeypatch, activation_share=0.0)
    with pytest.raises(EngineError, match="seen"):
        measure_pace(plan(tmp_path))
    assert asked == [(270, 480)]


def test_the_pace_of_a_network_of_one_tile_size_is_measured_at_that_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_model(monkeypatch, fixed_height=200, fixed_width=240)
    asked: list[tuple[int, int]] = []

    def open_runner(**arguments: Any) -> Any:
        asked.append((arguments["height"], arguments["width"]))
        raise EngineError("seen")

    monkeypatch.setattr("pipeline.preflight.open_runner", open_runner)
    with pytest.raises(EngineError, match="seen"):
        measure_pace(plan(tmp_path))
    assert asked == [(200, 240)]


def test_denoise_is_for_networks_that_have_it() -> None:
    wrong = make_config(
        {"decode": {"kind": "synthetic"}, "infer": {"model": "RealESRGAN_x4plus", "denoise": 0.25}}
    ).infer
    with pytest.raises(ConfigError) as caught:
        find_network(wrong)
    assert caught.value.problems == ("infer.denoise: must be null with infer.model RealESRGAN_x4plus (got 0.25)",)
    assert "realesr-general-x4v3" in caught.value.hint
    right = make_config(
        {"decode": {"kind": "synthetic"}, "infer": {"model": "realesr-general-x4v3", "denoise": 0.25}}
    ).infer
    assert find_network(right).denoise == 0.25


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


@pytest.mark.parametrize(("hdr", "word"), [("auto", "curve"), ("curve", "curve"), ("direct", "direct")])
def test_a_plan_says_what_the_network_sees_of_an_hdr_film(tmp_path: Path, hdr: str, word: str) -> None:
    film = media.write_hdr10(tmp_path / "film.mkv", frames=2)
    made = plan(tmp_path, film=film, infer={"model": "realesr-animevideov3", "hdr": hdr})
    (line,) = (line for line in choice_lines(made) if line.startswith("hdr: the network sees the PQ film's"))
    assert ("1000 cd/m2 as 1 (its mastering display)" in line) == (word == "curve")
    assert ("codes as they are" in line) == (word == "direct")
    assert f"  {line}" in plan_lines(made)
    assert line in plan_as_json(made)["choices"]
    assert [choice.chosen for choice in list_choices(made) if choice.part == "hdr"] == [word]


def test_a_plan_says_nothing_of_that_for_another_film(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert not [line for line in choice_lines(made) if "hdr" in line]
    assert "hdr" not in {choice.part for choice in list_choices(made)}


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

"""The search for the fastest settings, over made-up machines and over one real run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import load_config, make_config
from pipeline.plan import plan_film, probe_film
from tools import tune
from tools.profile_predict import Cost, bound_fps
from tools.tune_bench import FilmBench
from tools.tune_quality import precision_psnr, preset_quality
from tools.tune_search import search
from tools.tune_space import ALL_STAGES, knobs_of, set_by_hand
from tools.tune_trials import Found, Knob, Measured, Settings

UPSCALE = frozenset({"upscale"})
KNOBS = (
    Knob(name="tile.max_px", values=(240, 480, "auto"), start=2, stages=frozenset({"tile", "upscale", "stitch"})),
    Knob(name="infer.batch_tiles", values=(1, 2, 4, 8), start=0, stages=UPSCALE),
    Knob(name="infer.slots", values=(1, 2, 3, 4), start=1, stages=UPSCALE),
    Knob(name="run.lanes", values=(1, 2, 4, 8), start=0, stages=ALL_STAGES, shares_work=True),
)
CORES = 16.0
START: dict[str, Any] = {knob.name: knob.values[knob.start] for knob in KNOBS}
GRID = [
    tuple(sorted((name, value) for name, value in zip(START, values, strict=True) if value != START[name]))
    for values in itertools.product(*(knob.values for knob in KNOBS))
]
Machine = Callable[..., tuple[list[Cost], str]]


def engine_s(tile: Any, batch: int, slots: int, *, call_s: float, px_s: float) -> float:
    """Calls cost something by themselves, small tiles overlap, and calls under way hide the copies."""
    pieces, spare = {240: (16, 1.4), 480: (4, 1.15), "auto": (1, 1.0)}[tile]
    copies = {1: 0.35, 2: 0.1, 3: 0.0, 4: 0.0}[slots]
    return pieces / batch * call_s + px_s * spare * (1 + copies)


def engine_bound(tile: Any, batch: int, slots: int, lanes: int) -> tuple[list[Cost], str]:
    kernels = engine_s(tile, batch, slots, call_s=0.002, px_s=0.01)
    return [Cost(stage="upscale", alone_s=kernels, gpu_s=kernels), Cost(stage="encode", alone_s=0.003)], ""


def encoder_bound(tile: Any, batch: int, slots: int, lanes: int) -> tuple[list[Cost], str]:
    kernels = engine_s(tile, batch, slots, call_s=0.0004, px_s=0.004)
    encode = Cost(stage="encode", alone_s=0.03 * (1 + 0.1 * lanes), cpu_s=0.1)
    return [Cost(stage="upscale", alone_s=kernels, gpu_s=kernels), encode], ""


def memory_bound(tile: Any, batch: int, slots: int, lanes: int) -> tuple[list[Cost], str]:
    """Large tiles fit only one at a time; small ones with short calls in large batches are the fastest."""
    held = {240: 1, 480: 4, "auto": 16}[tile] * batch * slots * lanes
    kernels = engine_s(tile, batch, slots, call_s=0.001, px_s=0.01) * (1.3 if tile == "auto" else 1.0)
    upscale = Cost(stage="upscale", alone_s=kernels, gpu_s=0.4 * kernels)
    costs = [upscale, Cost(stage="encode", alone_s=0.002, cpu_s=0.01)]
    return costs, "the GPU had too little memory" if held > 32 else ""


def processor_bound(tile: Any, batch: int, slots: int, lanes: int) -> tuple[list[Cost], str]:
    """Nothing helps: the network has all cores already."""
    pieces = {240: 1.4, 480: 1.15, "auto": 1.0}[tile]
    upscale = Cost(stage="upscale", alone_s=0.1 * pieces, cpu_s=1.6 * pieces * (1 + 0.02 * lanes))
    return [upscale, Cost(stage="encode", alone_s=0.004, cpu_s=0.01)], ""


def with_a_plateau(tile: Any, batch: int, slots: int, lanes: int) -> tuple[list[Cost], str]:
    """Two frames in a call bring nothing, four fill the machine."""
    pieces = {240: 1.9, 480: 1.4, "auto": 1.0}[tile]
    seconds = {1: 0.0719, 2: 0.0719, 4: 0.0613, 8: 0.0606}[batch]
    return [Cost(stage="upscale", alone_s=seconds * pieces, cpu_s=15 * seconds * pieces)], ""


class ModelBench:
    """Runs of a made-up machine, a second each, with some noise; given up after a third where clearly slower."""

    def __init__(self, machine: Machine, *, noise: float = 0.01) -> None:
        self.machine = machine
        self.noise = random.Random(7)
        self.share = noise
        self.runs: list[Settings] = []

    def true_fps(self, settings: Settings) -> float:
        values = START | dict(settings)
        costs, refusal = self.machine(*values.values())
        return 0.0 if refusal else bound_fps(costs, lanes=values["run.lanes"], cores=CORES)[0]

    def measure(self, settings: Settings, *, rival_fps: float | None) -> Measured:
        self.runs.append(settings)
        values = START | dict(settings)
        costs, refusal = self.machine(*values.values())
        if refusal:
            return Measured(settings=settings, fps=0.0, seconds=0.3, refusal=refusal)
        fps, limit = bound_fps(costs, lanes=values["run.lanes"], cores=CORES)
        fps *= 1 + self.noise.uniform(-self.share, self.share)
        if rival_fps is not None and fps < 0.85 * rival_fps:
            return Measured(settings=settings, fps=fps, seconds=0.3, is_abandoned=True)
        return Measured(
            settings=settings,
            fps=fps,
            seconds=1.0,
            error=self.share / 2,
            costs=tuple(costs),
            lanes=values["run.lanes"],
            cores=CORES,
            limit=limit,
        )


@pytest.mark.parametrize("machine", [engine_bound, encoder_bound, memory_bound, processor_bound, with_a_plateau])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.04])
def test_it_comes_within_5_percent_of_the_grid_in_a_fifth_of_its_runs(machine: Machine, noise: float) -> None:
    bench = ModelBench(machine, noise=noise)
    found = search(bench, KNOBS, budget_s=1000)
    best = max(bench.true_fps(settings) for settings in GRID)
    assert bench.true_fps(found.best.settings) >= 0.95 * best
    assert len(bench.runs) <= len(GRID) / 5
    assert found.spent_s == pytest.approx(sum(run.seconds for trial in found.trials for run in trial.runs))


def test_what_its_stage_being_free_would_not_help_is_not_tried() -> None:
    found = search(ModelBench(engine_bound, noise=0.0), KNOBS, budget_s=1000)
    assert "run.lanes" in found.dropped  # the GPU is busy all the time
    found = search(ModelBench(encoder_bound, noise=0.0), KNOBS, budget_s=1000)
    assert {"infer.slots", "infer.batch_tiles", "tile.max_px"} <= set(found.dropped)


@pytest.mark.parametrize("budget_s", [2, 5, 9])
def test_the_budget_holds_and_the_best_so_far_counts(budget_s: float) -> None:
    bench = ModelBench(memory_bound)
    found = search(bench, KNOBS, budget_s=budget_s)
    assert found.spent_s <= budget_s
    assert found.is_cut_short
    assert bench.true_fps(found.best.settings) >= 0.99 * bench.true_fps(())


def test_settings_that_fail_are_passed_over_and_a_film_that_fails_is_an_error() -> None:
    def breaks(tile: Any, batch: int, slots: int, lanes: int) -> tuple[list[Cost], str]:
        costs, _ = encoder_bound(tile, batch, slots, lanes)
        return costs, "no encoder" if (batch, slots, lanes) != (1, 2, 1) or tile != "auto" else ""

    found = search(ModelBench(breaks), KNOBS, budget_s=100)
    assert found.best.settings == ()
    assert [trial.runs[0].refusal for trial in found.trials][1:] == ["no encoder"] * (len(found.trials) - 1)
    with pytest.raises(ValueError, match="no encoder"):
        search(ModelBench(lambda *_: ([], "no encoder")), KNOBS, budget_s=100)


def test_a_setting_that_changes_the_file_is_never_taken_by_the_search() -> None:
    preset = Knob(name="encode.preset", values=(None, "fast"), start=0, stages=frozenset({"encode"}), is_offered=True)
    bench = ModelBench(processor_bound)
    search(bench, (*KNOBS, preset), budget_s=100)
    assert not any("encode.preset" in dict(settings) for settings in bench.runs)


def synthetic(folder: Path, **infer: Any) -> dict[str, Any]:
    return {
        "decode": {"kind": "synthetic", "synthetic": {"height": 48, "width": 80, "frame_count": 40}},
        "infer": {"model": "nearest-x2", "backend": "resize"} | infer,
        "encode": {"kind": "libx264", "threads": 1},
        "output": {"dir": str(folder / "out"), "segment_s": 0.5},
    }


def test_the_tool_writes_a_config_that_runs_and_later_plans_take_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config, out = tmp_path / "film.yaml", tmp_path / "best.yaml"
    values = synthetic(tmp_path)
    config.write_text("".join(f"{name}: {section}\n" for name, section in values.items()).replace("'", '"'))
    found: list[Found] = []

    def spy(*arguments: Any, **options: Any) -> Found:
        found.append(replace(search(*arguments, **options), is_cut_short=False))
        return found[0]

    monkeypatch.setattr(tune, "search", spy)
    assert tune.main([str(config), "--budget", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "left as the config says: encode.threads" in said
    assert "GPU" in said and "fps" in said
    tuned = load_config(out)
    for name, value in found[0].best.settings:
        section, key = name.split(".")
        assert getattr(getattr(tuned, section), key) == value
    plan = plan_film(load_config(config), probe_film(tuned, None))
    assert plan.tuned is not None and plan.tuned.text.startswith("tuned on 20")
    assert plan.tuned.taken == dict(found[0].best.settings)
    assert tune.main([str(config), "--forget"]) == 0
    assert plan_film(load_config(config), probe_film(tuned, None)).tuned is None


def test_a_run_is_given_up_when_it_is_clearly_slower_and_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    config = make_config(synthetic(tmp_path))
    with FilmBench(config, None) as bench:
        bench.frame_count = 40
        whole = bench.measure((), rival_fps=None)
        assert whole.is_whole and whole.fps > 0 and whole.frame_bytes > 0 and whole.peak_bytes > 0
        assert not bench.measure((), rival_fps=whole.fps / 100).is_abandoned
        assert "only 4 lanes" in bench.measure((("run.lanes", 8),), rival_fps=None).refusal
        assert "overlap" in bench.measure((("tile.overlap_px", 60), ("tile.max_px", 64)), rival_fps=None).refusal


def test_what_the_config_sets_is_no_knob(tmp_path: Path) -> None:
    values = synthetic(tmp_path) | {"tile": {"max_px": 64}, "run": {"lanes": 2}}
    plan = FilmBench(make_config(values), None).plan()
    names = {knob.name for knob in knobs_of(plan, cores=4)}
    assert names == {"infer.batch_tiles", "infer.slots", "encode.preset"}
    assert set(set_by_hand(plan.config)) == {"tile.max_px", "run.lanes", "encode.threads"}
    assert all(knob.is_offered == (knob.name == "encode.preset") for knob in knobs_of(plan, cores=4))


def test_the_quality_of_precisions_and_presets_is_that_of_the_pictures(tmp_path: Path) -> None:
    values = synthetic(tmp_path, model="realesr-animevideov3", backend="openvino")
    values["decode"]["synthetic"] = {"height": 16, "width": 24, "frame_count": 6}
    plan = FilmBench(make_config(values), None).plan()
    psnr = precision_psnr(plan, ("bf16", "fp16"))
    assert psnr.pop("fp32") == float("inf")
    assert all(35 < value < 150 for value in psnr.values())
    quality = preset_quality(plan, (None, "ultrafast"))
    assert all(30 < preset.psnr_db < 80 and preset.frame_bytes > 0 for preset in quality.values())

"""Compare ``tools/tune.py`` with an exhaustive grid: what each finds on a film, and how long it takes.

    python tools/bench_tune.py CONFIG [--set key=value ...] [--budget S] [--frames N] [--rounds N] [--out F.json]

First the search, then the grid (tile size x batch x calls under way x lanes, runs of as many frames, none given up),
then the best of both and the run as it is in turns, ``--rounds`` times: only these last figures are compared, so that a
machine that was slower for a while favours neither. Ends with 1 if the search's settings are more than 5 % slower than
the grid's, or took more than a fifth of its time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import EngineError
from pipeline.config.load import load_config
from pipeline.errors import GraphFailed, PipelineError
from pipeline.host import probe_host
from tools.tune import first_film
from tools.tune_bench import FilmBench, usable_core_count
from tools.tune_search import search
from tools.tune_space import knobs_of
from tools.tune_trials import Found, Measured, Settings
from tools.tune_words import spell_settings

GRID = ("tile.max_px", "infer.batch_tiles", "infer.slots", "run.lanes")
LEAST_SHARE = 0.95
MOST_TIME = 0.2


def grid_settings(bench: FilmBench) -> list[Settings]:
    """All combinations."""
    knobs = [knob for knob in knobs_of(bench.plan(), cores=usable_core_count()) if knob.name in GRID]
    return [
        tuple(
            sorted(
                (knob.name, value)
                for knob, value in zip(knobs, values, strict=True)
                if value != knob.values[knob.start]
            )
        )
        for values in itertools.product(*(knob.values for knob in knobs))
    ]


def compare(bench: FilmBench, *, budget_s: float, rounds: int) -> dict[str, Any]:
    """Search, measure the grid, then the best of both in turns.

    Raises:
        ValueError: The run as it is was refused.
    """
    knobs = knobs_of(bench.plan(), cores=usable_core_count())
    found: Found = search(bench, knobs, budget_s=budget_s, report=lambda run: _say("search", run))
    grid: list[Measured] = []
    for settings in grid_settings(bench):
        grid.append(bench.measure(settings, rival_fps=None))
        _say("grid", grid[-1])
    best = max(grid, key=lambda run: run.fps)
    contenders: dict[str, Settings] = {"search": found.best.settings, "grid": best.settings, "default": ()}
    paired: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            run = bench.measure(contenders[name], rival_fps=None)
            _say(name, run)
            paired[name].append(run.fps)
    grid_s = sum(run.seconds for run in grid)
    pairs = zip(paired["search"], paired["grid"], strict=True)
    return {
        "search": {
            "settings": dict(found.best.settings),
            "seconds": found.spent_s,
            "runs": sum(len(trial.runs) for trial in found.trials),
            "not_tried": sorted(found.dropped),
        },
        "grid": {
            "settings": dict(best.settings),
            "seconds": grid_s,
            "runs": [{"settings": dict(r.settings), "fps": r.fps, "refusal": r.refusal} for r in grid],
        },
        "paired_fps": paired,
        "search_to_grid": statistics.median(ours / theirs for ours, theirs in pairs),
        "time_to_grid": found.spent_s / grid_s,
    }


def _say(part: str, run: Measured) -> None:
    print(f"{part}: {spell_settings(run.settings)}: {run.refusal or f'{run.fps:.4g} fps'}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Compare, and say whether the search keeps its promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for the search (default 120)")
    parser.add_argument("--frames", type=int, default=48, help="of each run (default 48)")
    parser.add_argument("--rounds", type=int, default=5, help="of the last comparison (default 5)")
    parser.add_argument("--out", type=Path, help="for all figures, JSON")
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config, arguments.overrides)
        with FilmBench(config, first_film(config)) as bench:
            bench.settle_frames(budget_s=arguments.budget)  # warms up
            bench.frame_count = arguments.frames
            result = {
                "film": bench.plan().info.path.name,
                "frames": arguments.frames,
                "host": probe_host(),
                **compare(bench, budget_s=arguments.budget, rounds=arguments.rounds),
            }
    except (PipelineError, EngineError, GraphFailed, ValueError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    is_kept = result["search_to_grid"] >= LEAST_SHARE and result["time_to_grid"] <= MOST_TIME
    print(
        f"search: {result['search']['settings']} in {result['search']['seconds']:.0f} s; "
        f"grid: {result['grid']['settings']} in {result['grid']['seconds']:.0f} s; in turns the search's are "
        f"{result['search_to_grid']:.1%} as fast as the grid's, found in {result['time_to_grid']:.1%} of its time: "
        f"{'as promised' if is_kept else 'NOT as promised'}"
    )
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())

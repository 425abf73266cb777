"""Kernels are compiled before the clock starts: a running graph compiles nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import media
from helpers.runs import ROOT, write_config

COUNT = """
import json, sys
from pathlib import Path
from numba.core.registry import CPUDispatcher
from pipeline.config.load import load_config
from pipeline.graph.runtime import run_graph
from pipeline.plan import plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.warmup import compile_kernels
from pipeline.wiring import open_wiring

def compiled():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("pipeline.")]
    kernels = {
        (value.__module__, value.__name__): len(value.signatures)
        for module in modules for value in vars(module).values() if isinstance(value, CPUDispatcher)
    }
    return sorted([*map(list, kernels.items())])

config = load_config(sys.argv[1])
plan = plan_film(config, probe_film(config, config.input.paths[0]))
compile_kernels(plan)
before = dict((tuple(key), count) for key, count in compiled())
with open_planned_runner(plan) as runner, open_wiring(plan, runner, work=Path(".")) as wiring:
    run_graph(wiring.stages, capacities=wiring.capacities, pools=wiring.pools, drop=lambda item: item.release())
late = [key for key, count in compiled() if count > before.get(tuple(key), 0)]
print(json.dumps({"kernels": len(before), "late": late}))
"""


@pytest.mark.parametrize(
    ("pixel_format", "sections"),
    [
        ("yuv420p", {}),
        ("yuv420p10le", {"scale": {"factor": 3}, "tile": {"max_px": 48, "overlap_px": 8}}),
        ("yuv444p", {"scale": {"factor": 1.5, "light": "linear"}, "encode": {"bit_depth": 10}}),
    ],
)
def test_nothing_is_compiled_while_frames_flow(tmp_path: Path, pixel_format: str, sections: dict[str, dict]) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2, codec="ffv1", pixel_format=pixel_format)
    encode = {"kind": "null", **sections.get("encode", {})}
    config = write_config(tmp_path, film, **{**sections, "encode": encode})
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(config)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kernels"] > 0
    assert result["late"] == []

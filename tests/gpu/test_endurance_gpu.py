"""Short jobs one after the other in one process on a real GPU leave nothing behind: the quick form of endurance.py.

The network is realesr-animevideov3 with random weights: none are needed.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.tool_modules import load_tool

from engines import ModelSpec
from engines.canary import random_weights
from engines.gpu.cuda import open_device
from engines.networks.layered import LayeredNetwork
from engines.weights import ModelWeights

if importlib.util.find_spec("torch") is not None:
    import torch

    HAS_GPU = torch.cuda.is_available()
else:
    HAS_GPU = False

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU and os.environ.get("REQUIRE_GPU") != "1", reason="there is no CUDA GPU"),
]

endurance = load_tool("endurance")
growth = load_tool("growth")

CONFIG = Path(__file__).parents[2] / "configs/demo.yaml"
JOBS = 30
LOADED_JOBS = 10
"""By then every library, kernel and work space is there that later jobs use again."""
PIECE_BYTES = 2 << 20
"""CUDA takes memory in pieces of 2 MiB; every decoder session has at least one of its own."""


def quiet_network(model: ModelSpec) -> LayeredNetwork:
    """Random weights whose last layer is turned down, so that the picture stays near [0, 1]."""
    weights = random_weights(model, seed=3)
    last = weights.layers[-1]
    last = replace(last, kernel=last.kernel * np.float32(0.05), bias=last.bias * np.float32(0.05))
    return LayeredNetwork(weights=ModelWeights(model=model, layers=(*weights.layers[:-1], last)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lanes", [1, 3])
def test_thirty_jobs_leave_no_memory_session_file_or_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    monkeypatch.setattr("engines.opening.load_network", quiet_network)
    monkeypatch.setattr("pipeline.plan.list_model_files", lambda model: ())
    task = endurance.Task(
        config=CONFIG,
        overrides=(
            *("infer.backend=torch", "infer.device=cuda", "infer.precision=fp16", "run.frames_on=gpu"),
            *("scale.factor=2", "encode.kind=libx264", "encode.preset=ultrafast", "output.comparison_s=null"),
            *(f"run.lanes={lanes}", "output.segment_s=0.2"),
        ),
        minutes=0,
        jobs=JOBS,
        short_frames=16,
        loop_s=1,
        every_s=10,
    )
    short, _ = endurance.make_clips(task, folder=tmp_path)
    sampler = growth.Sampler(free_device_bytes=open_device(0).free_bytes, every_s=task.every_s)
    for job in range(JOBS):
        endurance.run_one(task, sampler, short[0], phase="short", job=job, folder=tmp_path)
    between = [sample for sample in sampler.samples if sample.place == "between"]
    assert len(between) == JOBS
    loaded, last = between[LOADED_JOBS - 1 : JOBS // 2], between[-1]
    assert last.device_bytes - max(sample.device_bytes for sample in loaded) < PIECE_BYTES
    assert last.files <= max(sample.files for sample in loaded)
    assert last.threads <= max(sample.threads for sample in loaded)

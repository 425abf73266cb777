"""The media table on a real GPU: the rows of the CPU's, with NVDEC where it can and a network of torch's.

The network is realesr-animevideov3 with random weights, turned down so that the picture stays itself: none are needed.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.media_rows import ROWS, Row
from helpers.media_table import broken_promises, make_source, sections_of
from helpers.runs import merged, run_films
from helpers.table_material import Material

from engines import ModelSpec
from engines.canary import random_weights
from engines.networks.layered import LayeredNetwork
from engines.weights import ModelWeights

HAS_TORCH = importlib.util.find_spec("torch") is not None

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_TORCH and os.environ.get("REQUIRE_GPU") != "1", reason="torch is not installed"),
]

ON_GPU: dict[str, Any] = {
    "decode": {"kind": "auto"},
    "infer": {"model": "realesr-animevideov3", "backend": "torch", "device": "cuda"},
    "scale": {"factor": 2},
}


def quiet_network(model: ModelSpec) -> LayeredNetwork:
    """Random weights, the last layer turned down: what is left is the enlarged picture, in which numbers are read."""
    weights = random_weights(model, seed=3)
    last = weights.layers[-1]
    last = replace(last, kernel=last.kernel * np.float32(0.05), bias=last.bias * np.float32(0.05))
    return LayeredNetwork(weights=ModelWeights(model=model, layers=(*weights.layers[:-1], last)))


@pytest.fixture(autouse=True)
def random_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.opening.load_network", quiet_network)
    monkeypatch.setattr("pipeline.plan.list_model_files", lambda model: ())


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_result_is_its_source_but_for_the_size(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, material: Material, row: Row
) -> None:
    source = make_source(row, material, tmp_path)
    ran = run_films(capfd, tmp_path, source, **merged(sections_of(row), ON_GPU))
    assert ran.code == 0, ran.err
    assert broken_promises(row, source, ran.outputs[0], scale=2) == []

"""How many lanes a film gets, and why."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from pipeline.config.load import make_config
from pipeline.encode import ENCODERS
from pipeline.lane_plan import decoder_threads, plan_lanes
from pipeline.plan import JobPlan, plan_film, probe_film


def plan(monkeypatch: pytest.MonkeyPatch, *, cores: int = 16, on_gpu: bool = True, **sections: Any) -> JobPlan:
    """A plan for a machine of that many cores, with the network on a GPU or on the processor."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    film = {"kind": "synthetic", "synthetic": {"height": 180, "width": 320, "frame_count": 100_000}}
    defaults: dict[str, Any] = {"decode": film, "infer": {"model": "nearest-x2", "backend": "resize"}}
    config = make_config({"version": 1, **defaults, **sections})
    made = plan_film(config, probe_film(config, None))
    share = 0.0 if on_gpu else 1.0
    return plan_lanes(replace(made, backend=replace(made.backend, activation_share=share), lanes=1))


@pytest.mark.parametrize(("cores", "lanes", "threads"), [(2, 1, 0), (4, 2, 4), (8, 4, 4), (16, 8, 4), (64, 8, 12)])
def test_a_gpu_leaves_the_cores_to_several_encoders(
    monkeypatch: pytest.MonkeyPatch, cores: int, lanes: int, threads: int
) -> None:
    made = plan(monkeypatch, cores=cores)
    assert (made.lanes, made.encode.threads) == (lanes, threads)
    assert f"{cores} cores" in made.lanes_reason


@pytest.mark.parametrize(("lanes", "threads"), [(1, 0), (2, 12), (4, 6), (8, 4)])
def test_encoders_side_by_side_get_the_threads_that_were_measured(
    monkeypatch: pytest.MonkeyPatch, lanes: int, threads: int
) -> None:
    made = plan(monkeypatch, run={"lanes": lanes})
    assert (made.lanes, made.encode.threads) == (lanes, threads)
    assert decoder_threads(made) == (0 if lanes == 1 else 16 // lanes)


def test_threads_that_the_config_names_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(monkeypatch, encode={"threads": 3}, run={"lanes": 2})
    assert made.encode.threads == 3


def test_a_network_on_the_processor_gets_one_lane_unless_more_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(monkeypatch, on_gpu=False)
    assert (made.lanes, made.encode.threads) == (1, 0)
    assert "the network needs" in made.lanes_reason
    assert plan(monkeypatch, on_gpu=False, run={"lanes": 3}).lanes == 3


def test_what_no_software_encodes_needs_one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(monkeypatch, encode={"kind": "null"}).lanes_reason == "nothing is encoded"
    made = plan(monkeypatch)
    hardware = replace(ENCODERS["libx264"], is_hardware=True)
    assert plan_lanes(replace(made, lanes=1, encode=replace(made.encode, encoder=hardware))).lanes == 1


def test_no_more_lanes_than_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    film = {"kind": "synthetic", "synthetic": {"height": 64, "width": 64, "frame_count": 130}}
    made = plan(monkeypatch, decode=film, output={"segment_s": 2})
    assert made.lanes == 3
    assert "segments" in made.lanes_reason


def test_memory_costs_lanes_before_it_costs_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    film = {"kind": "synthetic", "synthetic": {"height": 720, "width": 1280, "frame_count": 100_000}}
    free = plan(monkeypatch, decode=film, run={"lanes": 8})
    one = replace(free, lanes=1).memory_bytes_estimated
    made = plan(monkeypatch, decode=film, run={"lanes": 8, "memory_mb": 3 * one // 2**20 + 1})
    assert 1 < made.lanes < 8
    assert made.grid == free.grid
    assert made.memory_bytes_estimated <= 3 * one + 2**20
    assert "fit into memory, not 8" in made.lanes_reason

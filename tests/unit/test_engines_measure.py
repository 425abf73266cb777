"""Measuring and comparing runners."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engines import UnsupportedShape, open_runner
from engines.measure import measure_throughput
from engines.verify import compare_arrays, compare_runners, psnr_db, run_once


def test_throughput_counts_whole_batches_and_at_least_one_per_slot():
    with open_runner(model="nearest-x2", height=6, width=10, batch=3) as runner:
        rate = measure_throughput(runner, seconds=1e-9)
    assert rate.tiles == 3
    assert rate.px_per_s == pytest.approx(3 * 60 / rate.seconds)
    assert rate.tiles_per_s == pytest.approx(3 / rate.seconds)


def test_throughput_leaves_the_runner_idle_and_usable():
    with open_runner(model="realesr-animevideov3", height=8, width=8, precision="fp32") as runner:
        rate = measure_throughput(runner, seconds=0.05)
        assert rate.tiles >= runner.spec.slots
        assert rate.flop_per_s == pytest.approx(rate.px_per_s * runner.spec.model.flop_per_px)
        assert np.isfinite(run_once(runner, np.zeros((1, 3, 8, 8), dtype=np.float32))).all()


def test_psnr_of_a_known_error():
    left = np.zeros((2, 3))
    assert psnr_db(left, left + 0.1) == pytest.approx(20.0)
    assert psnr_db(left, left) == math.inf


def test_psnr_of_different_shapes_is_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        psnr_db(np.zeros(3), np.zeros(4))


def test_output_that_is_not_finite_is_never_close():
    broken = np.asarray([0.0, np.nan])
    with pytest.raises(ValueError, match="not finite"):
        compare_arrays(broken, broken)


def test_runners_are_compared_on_the_same_tiles():
    tiles = np.random.default_rng(3).random((1, 3, 9, 11), dtype=np.float32)
    shape = {"model": "realesr-animevideov3", "height": 9, "width": 11, "precision": "fp32"}
    with open_runner(**shape, backend="openvino") as left, open_runner(**shape, backend="onnxruntime") as right:
        assert compare_runners(left, right, tiles=tiles).max_abs <= 1e-4
        with pytest.raises(UnsupportedShape):
            compare_runners(left, right, tiles=tiles[..., 1:])

"""Accuracy: what is measured, against which limits, and how a failure is worded."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from engines import AccuracyFailed, EngineError, ModelSpec
from engines.accuracy import ACCURACY_LIMITS, PSNR_CEILING_DB, box_average, check_accuracy, measure_accuracy
from engines.tiles import adversarial_names


class Doubling:
    """A source that repeats pixels 2x2 and counts its calls."""

    def __init__(self, scale: int = 2) -> None:
        self.spec = ModelSpec(name="doubling", architecture="nearest", scale=scale)
        self.calls = 0

    def run_reference(self, tiles: np.ndarray) -> np.ndarray:
        self.calls += 1
        return tiles.repeat(self.spec.scale, axis=2).repeat(self.spec.scale, axis=3)


def doubled(tiles: np.ndarray) -> np.ndarray:
    return tiles.repeat(2, axis=2).repeat(2, axis=3)


def measure(run: Any, *, judge: Any = measure_accuracy, **changes: Any) -> Any:
    arguments = {"network": Doubling(), "precision": "fp16", "batch": 1, "height": 9, "width": 14, "output_scale": 2}
    return judge(run, **(arguments | changes))


def test_equal_outputs_reach_the_ceiling_and_every_tile_is_named():
    accuracy = measure(doubled, judge=check_accuracy)
    assert (accuracy.psnr_film_db, accuracy.psnr_adversarial_db, accuracy.max_abs) == (PSNR_CEILING_DB,) * 2 + (0.0,)
    assert [tile.name for tile in accuracy.tiles] == ["film_0", "film_1", *adversarial_names()]


@pytest.mark.parametrize("batch", [1, 2, 4, 20])
def test_any_batch_sees_every_tile_once_and_in_whole_batches(batch):
    shapes = []

    def run(tiles: np.ndarray) -> np.ndarray:
        shapes.append(tiles.shape)
        return doubled(tiles) + np.float32(0.001)

    network = Doubling()
    accuracy = measure(run, network=network, batch=batch)
    assert set(shapes) == {(batch, 3, 9, 14)}
    assert network.calls == len(accuracy.tiles) == 9
    assert accuracy.psnr_film_db == pytest.approx(60.0, abs=0.1)
    assert accuracy.max_abs == pytest.approx(0.001, rel=1e-3)


def test_the_worst_tile_and_value_are_reported():
    def run(tiles: np.ndarray) -> np.ndarray:
        wrong = doubled(tiles)
        wrong[wrong > 0.999] -= 0.25
        return wrong

    accuracy = measure(run)
    assert accuracy.max_abs == pytest.approx(0.25)
    assert accuracy.worst in adversarial_names()
    assert accuracy.psnr_adversarial_db < 20


def test_a_smaller_enlargement_is_compared_with_the_box_average():
    accuracy = measure(lambda tiles: tiles, output_scale=1)
    assert accuracy.psnr_film_db == PSNR_CEILING_DB
    averaged = box_average(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), factor=2)
    assert averaged.tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]


@pytest.mark.parametrize("output_scale", [0, 3, 4])
def test_an_enlargement_that_is_no_divisor_is_refused(output_scale):
    with pytest.raises(EngineError, match="doubling"):
        measure(doubled, output_scale=output_scale)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_beyond_the_limits_the_text_has_tile_figure_and_limit(precision):
    limits = ACCURACY_LIMITS[precision]
    with pytest.raises(AccuracyFailed, match=r"doubling in .*film_\d reaches \d+\.\d dB, at least") as caught:
        measure(lambda tiles: doubled(tiles) * np.float32(0.9), judge=check_accuracy, precision=precision)
    assert f"{limits.psnr_film_db:.0f} dB is required" in str(caught.value)
    assert caught.value.hint
    inside = np.float32(min(limits.max_abs, 10 ** (-limits.psnr_film_db / 20)) / 2)
    check = measure(lambda tiles: doubled(tiles) + inside, judge=check_accuracy, precision=precision)
    assert check.max_abs < limits.max_abs


def test_one_wrong_pixel_is_named_though_no_mean_shows_it():
    def run(tiles: np.ndarray) -> np.ndarray:
        wrong = doubled(tiles)
        wrong[:, 0, 0, 0] += 0.02
        return wrong

    with pytest.raises(AccuracyFailed, match=r"off by up to 0\.02"):
        measure(run, judge=check_accuracy, height=60, width=60)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_fail_whoever_makes_them(value):
    def run(tiles: np.ndarray) -> np.ndarray:
        wrong = doubled(tiles)
        wrong[0, 0, 0, 0] = value
        return wrong

    with pytest.raises(AccuracyFailed, match=r"the network makes 1 of \d+ values NaN or infinite from tile film_0"):
        measure(run)
    source = Doubling()
    source.run_reference = run  # type: ignore[method-assign]
    with pytest.raises(AccuracyFailed, match="its source makes 1"):
        measure(doubled, network=source)


def test_an_output_of_another_shape_fails():
    with pytest.raises(AccuracyFailed, match="shape"):
        measure(lambda tiles: tiles)


def test_float16_outputs_are_compared_without_overflow():
    accuracy = measure(lambda tiles: doubled(tiles).astype(np.float16))
    assert 60 < accuracy.psnr_film_db < 100


def test_the_figures_are_json():
    accuracy = measure(doubled)
    assert json.loads(json.dumps(asdict(accuracy), allow_nan=False))["worst"] == accuracy.worst

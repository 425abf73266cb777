"""Change of size, against a matrix product in float64 and against what a resampler must never do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.asserts import LIGHT_ATOL, RESAMPLE_ATOL, psnr, worst
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.resample import ResamplePlan, plan_resample

REPEATABLE = settings(derandomize=True, deadline=None)
SIZES = [(1, 1), (1, 7), (2, 3), (17, 23), (45, 64), (64, 45), (100, 33)]


def resampled(rgb: NDArray[np.float32], *, height: int, width: int, **options: Any) -> NDArray[np.float32]:
    plan = plan_resample(height=rgb.shape[1], width=rgb.shape[2], out_height=height, out_width=width, **options)
    out = np.full((3, height, width), np.nan, np.float32)
    plan.run(rgb, out=out)
    return out


def lanczos_matrix(length: int, out_length: int) -> NDArray[np.float64]:
    """Straight from the definition: every output is a weighted mean over the endlessly mirrored input."""
    stretch = max(1.0, length / out_length)
    matrix = np.zeros((out_length, length))
    for index in range(out_length):
        centre = (index + 0.5) * length / out_length - 0.5
        for tap in range(int(np.floor(centre - 3 * stretch)), int(np.ceil(centre + 3 * stretch)) + 1):
            x = abs(tap - centre) / stretch
            if x < 3:
                mirrored = tap % (2 * length)
                matrix[index, min(mirrored, 2 * length - 1 - mirrored)] += np.sinc(x) * np.sinc(x / 3)
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("out_size", SIZES)
def test_values_are_lanczos_3(size: tuple[int, int], out_size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(3).normal(0.5, 0.5, (3, *size)).astype(np.float32)
    rows, columns = lanczos_matrix(size[0], out_size[0]), lanczos_matrix(size[1], out_size[1])
    found = resampled(rgb, height=out_size[0], width=out_size[1], light="gamma")
    assert worst(found, rows @ rgb.astype(np.float64) @ columns.T) < RESAMPLE_ATOL


@REPEATABLE
@given(*[st.integers(1, 200)] * 4)
def test_weights_sum_to_1_and_stay_inside_the_picture(height: int, width: int, out_height: int, out_width: int) -> None:
    plan = plan_resample(height=height, width=width, out_height=out_height, out_width=out_width)
    for axis, length in ((plan.rows, height), (plan.columns, width)):
        assert axis.weights.sum(axis=1, dtype=np.float64) == pytest.approx(1, abs=1e-6)
        assert axis.first.min() >= 0
        assert axis.first.max() + axis.weights.shape[1] <= length
        assert (np.diff(axis.first) >= 0).all()


@settings(REPEATABLE, max_examples=40)
@given(*[st.integers(1, 50)] * 4, st.sampled_from([-0.2, 0.0, 0.003, 0.5, 1.0, 1.3]), st.sampled_from([1, 13, 16, 18]))
def test_a_flat_picture_stays_flat(h: int, w: int, out_h: int, out_w: int, value: float, transfer: int) -> None:
    flat = np.full((3, h, w), value, np.float32)
    for light, tolerance in (("gamma", 1e-6), ("linear", LIGHT_ATOL)):
        found = resampled(flat, height=out_h, width=out_w, light=light, transfer=transfer)
        assert worst(found, value) < tolerance


@pytest.mark.parametrize("out_length", [50, 66, 100, 150, 200])
def test_a_ramp_stays_the_same_ramp(out_length: int) -> None:
    """Also a check that nothing shifts: pixel centres correspond."""
    ramp = ((np.arange(100, dtype=np.float32) + 0.5) / 100)[None, None, :].repeat(3, 0).repeat(4, 1)
    found = resampled(ramp, height=4, width=out_length, light="gamma")
    wanted = (np.arange(out_length) + 0.5) / out_length
    inside = slice(out_length // 8, -out_length // 8)
    assert worst(found[:, :, inside], np.broadcast_to(wanted, found.shape)[:, :, inside]) < 1e-3


@pytest.mark.parametrize("out_size", [(60, 90), (33, 47), (120, 180), (91, 97)])
def test_a_spot_keeps_its_centre_of_mass(out_size: tuple[int, int]) -> None:
    y, x = np.mgrid[:60, :90].astype(np.float64)
    spot = np.exp(-((y - 27.3) ** 2 + (x - 41.9) ** 2) / (2 * 4**2)).astype(np.float32)
    found = resampled(np.stack([spot] * 3), height=out_size[0], width=out_size[1], light="gamma")[1].astype(np.float64)
    rows, columns = ((np.arange(n) + 0.5) / n for n in out_size)
    assert (found.sum(axis=1) @ rows) / found.sum() == pytest.approx((27.3 + 0.5) / 60, abs=1e-4)
    assert (found.sum(axis=0) @ columns) / found.sum() == pytest.approx((41.9 + 0.5) / 90, abs=1e-4)


def test_a_picture_too_fine_for_the_smaller_size_becomes_its_mean_and_not_a_moire() -> None:
    checks = (np.indices((120, 120)).sum(axis=0) % 2).astype(np.float32)
    found = resampled(np.stack([checks] * 3), height=50, width=50, light="gamma")
    assert worst(found[:, 4:-4, 4:-4], 0.5) < 0.02


def test_linear_keeps_the_light_of_the_finest_pattern_and_gamma_its_codes() -> None:
    """Half of the pixels at full light are half of the light, which in BT.1886 is code 0.749."""
    checks = np.stack([(np.indices((96, 96)).sum(axis=0) % 2).astype(np.float32)] * 3)
    for light, code in (("linear", 0.5 ** (1 / 2.4)), ("gamma", 0.5), ("auto", 0.5)):
        found = resampled(checks, height=32, width=32, light=light)[:, 4:-4, 4:-4]
        assert worst(found, code) < 0.01


def test_light_that_is_coded_linearly_needs_no_curve() -> None:
    plan = plan_resample(height=40, width=40, out_height=20, out_width=20, transfer=8, light="linear")
    assert plan.curve is None


@pytest.mark.parametrize("transfer", [1, 4, 5, 13, 16, 17, 18])
def test_going_through_light_changes_no_value_inside_or_outside_the_range(transfer: int) -> None:
    """A row that is not resampled along its columns comes back, from far below black to far above white."""
    fine = np.concatenate([np.linspace(-0.5, 1.5, 5001), np.linspace(-0.01, 0.01, 2001)]).astype(np.float32)
    rgb = np.broadcast_to(fine, (3, 2, len(fine)))
    found = resampled(rgb, height=3, width=len(fine), light="linear", transfer=transfer)
    assert worst(found, np.broadcast_to(fine, found.shape)) < LIGHT_ATOL


def test_enlarging_and_shrinking_back_is_nearly_nothing() -> None:
    random = np.random.default_rng(5)
    rough = random.random((3, 20, 30), dtype=np.float32)
    smooth = resampled(rough, height=60, width=90, light="gamma")
    there = resampled(smooth, height=120, width=180, light="gamma")
    back = resampled(there, height=60, width=90, light="gamma")
    assert psnr(back, smooth, peak=1) > 50


def test_equal_sizes_are_a_copy() -> None:
    rgb = np.random.default_rng(1).normal(size=(3, 9, 11)).astype(np.float32)
    assert np.array_equal(resampled(rgb, height=9, width=11, light="linear"), rgb)


def test_parts_of_larger_arrays_are_taken_and_nothing_beside_them_is_written() -> None:
    rgb = np.random.default_rng(2).random((3, 40, 50), dtype=np.float32)
    wanted = resampled(rgb, height=25, width=31)
    around = np.full((5, 30, 40), -7, np.float32)
    frozen = np.zeros((3, 44, 60), np.float32)
    frozen[:, 2:42, 5:55] = rgb
    frozen.flags.writeable = False
    plan: ResamplePlan = plan_resample(height=40, width=50, out_height=25, out_width=31)
    plan.run(frozen[:, 2:42, 5:55], out=around[1:4, 2:27, 4:35])
    assert np.array_equal(around[1:4, 2:27, 4:35], wanted)
    around[1:4, 2:27, 4:35] = -7
    assert (around == -7).all()


def test_what_does_not_fit_is_refused_by_value() -> None:
    with pytest.raises(ValueError, match="not 0x4"):
        plan_resample(height=4, width=0, out_height=4, out_width=4)
    plan = plan_resample(height=4, width=4, out_height=8, out_width=8)
    with pytest.raises(ValueError, match=r"float32 of shape \(3, 4, 4\)"):
        plan.run(np.zeros((3, 4, 5), np.float32), out=np.zeros((3, 8, 8), np.float32))
    with pytest.raises(ValueError, match=r"float32 of shape \(3, 8, 8\)"):
        plan.run(np.zeros((3, 4, 4), np.float32), out=np.zeros((3, 8, 8), np.float64))  # type: ignore[arg-type]

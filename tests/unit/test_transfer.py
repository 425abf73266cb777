"""Curves between codes and light, as the resampler applies them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.resample import plan_resample
from pipeline.transfer import transfer_curve

PICTURE_CURVES = [1, 2, 4, 5, 6, 7, 11, 12, 13, 14, 15, 16, 17, 18]
GAMMA = {4: 2.2, 5: 2.8, 17: 2.6}


def light_of(code: float, transfer: int) -> float:
    """From the standards' formulas, for 0 <= code <= 1."""
    if transfer == 13:  # IEC 61966-2-1
        return code / 12.92 if code <= 0.04045 else float(((code + 0.055) / 1.055) ** 2.4)
    if transfer == 16:  # ITU-R BT.2100-2 table 4
        root = code ** (32 / 2523)
        return float((max(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305))
    if transfer == 18:  # ITU-R BT.2100-2 table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return code**2 / 3 if code <= 0.5 else float((np.exp((code - c) / a) + b) / 12)
    return float(code ** GAMMA.get(transfer, 2.4))  # ITU-R BT.1886


def mixed(first: float, second: float, transfer: int) -> float:
    """The code that shows the mean light of two codes: two pixels shrunk to one weigh exactly the same."""
    plan = plan_resample(height=1, width=2, out_height=1, out_width=1, transfer=transfer, light="linear")
    out = np.empty((3, 1, 1), np.float32)
    plan.run(np.broadcast_to(np.array([first, second], np.float32), (3, 1, 2)), out=out)
    return float(out[0, 0, 0])


@pytest.mark.parametrize("transfer", PICTURE_CURVES)
def test_the_mean_of_two_pixels_is_the_mean_of_their_light(transfer: int) -> None:
    for first, second in ((0, 1), (0.1, 0.9), (0.02, 0.06), (0.5, 0.75), (0.999, 1), (0.3, 0.30001)):
        wanted = (light_of(first, transfer) + light_of(second, transfer)) / 2
        found = light_of(mixed(first, second, transfer), transfer)
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("transfer", PICTURE_CURVES)
def test_dark_and_light_beyond_the_range_cancel_and_continue(transfer: int) -> None:
    assert mixed(-0.4, 0.4, transfer) == pytest.approx(0, abs=1e-4)
    assert mixed(-0.2, -0.6, transfer) == pytest.approx(-mixed(0.2, 0.6, transfer), abs=1e-6)
    assert mixed(1.1, 1.3, transfer) == pytest.approx(1.2, abs=1e-5)


@pytest.mark.parametrize("transfer", PICTURE_CURVES)
def test_the_continuation_above_1_is_the_tangent(transfer: int) -> None:
    curve = transfer_curve(transfer)
    assert curve is not None
    assert curve.slope == pytest.approx((1 - light_of(1 - 1e-5, transfer)) / 1e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("transfer", "code", "light"),
    [
        (13, 0.5, 0.21404114),
        (16, 0.5080784, 0.01),  # 100 of 10,000 cd/m2
        (16, 0.7518271, 0.1),  # 1,000 cd/m2
        (18, 0.5, 1 / 12),
        (18, 0.75, 0.26496256),  # reference white of ITU-R BT.2408
    ],
)
def test_known_points(transfer: int, code: float, light: float) -> None:
    assert light_of(code, transfer) == pytest.approx(light, rel=1e-5)
    assert light_of(mixed(code, code, transfer), transfer) == pytest.approx(light, rel=1e-4)


@pytest.mark.parametrize("transfer", [0, 3, 8, 9, 10, 19, 255])
def test_what_is_no_picture_curve_is_left_as_it_is(transfer: int) -> None:
    assert transfer_curve(transfer) is None
    assert mixed(0.25, 0.75, transfer) == 0.5

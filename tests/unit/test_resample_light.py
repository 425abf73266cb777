"""Why ``light: auto`` resamples codes: the measurement, on real films, that the choice was made by."""

from __future__ import annotations

import av
import numpy as np
import pytest
from helpers.asserts import psnr
from helpers.media import real_film
from numpy.typing import NDArray

from pipeline.resample import Light, plan_resample


def film_frame(name: str) -> NDArray[np.float32]:
    """(3, H, W) in [0, 1], sides divisible by 16."""
    with av.open(str(real_film(name))) as film:
        frame = next(frame for index, frame in enumerate(film.decode(video=0)) if index == 30)
    rgb = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)
    return rgb[:, : rgb.shape[1] // 16 * 16, : rgb.shape[2] // 16 * 16].astype(np.float32) / 255


def resampled(rgb: NDArray[np.float32], *, height: int, width: int, light: Light) -> NDArray[np.float32]:
    out = np.empty((3, height, width), np.float32)
    plan_resample(height=rgb.shape[1], width=rgb.shape[2], out_height=height, out_width=width, light=light).run(
        rgb, out=out
    )
    return np.clip(out, 0, 1)


def block_light(rgb: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Codes that show the mean light of each block: what a camera of fewer pixels would have seen."""
    planes, height, width = rgb.shape
    blocks = rgb.astype(np.float64).reshape(planes, height // side, side, width // side, side)
    return (blocks**2.4).mean(axis=(2, 4)) ** (1 / 2.4)


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes", "carphone_pristine"])
@pytest.mark.parametrize("side", [2, 4])
def test_auto_shrinks_closer_to_the_mean_light_than_linear(name: str, side: int) -> None:
    rgb = film_frame(name)
    target = {"height": rgb.shape[1] // side, "width": rgb.shape[2] // side}
    wanted = block_light(rgb, side)
    auto = psnr(resampled(rgb, **target, light="auto"), wanted, peak=1)
    assert auto > psnr(resampled(rgb, **target, light="linear"), wanted, peak=1) + 2


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes", "carphone_pristine"])
def test_auto_enlarges_closer_to_the_original_than_linear(name: str) -> None:
    rgb = film_frame(name)
    _, height, width = rgb.shape
    small = resampled(rgb, height=height // 2, width=width // 2, light="linear")
    auto = psnr(resampled(small, height=height, width=width, light="auto"), rgb, peak=1)
    assert auto > psnr(resampled(small, height=height, width=width, light="linear"), rgb, peak=1) + 0.9

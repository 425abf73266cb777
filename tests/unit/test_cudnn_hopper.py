"""The Hopper convolutions without a GPU: their index maps against a model of wgmma, and their compilation."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.cudnn import hopper
from engines.cudnn.compile import SOURCES, compile_kernel

COMPILER = shutil.which("g++") or shutil.which("clang++")
HELPERS = Path(__file__).resolve().parents[1] / "helpers"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("there is no C++ compiler")
    folder = tmp_path_factory.mktemp("wgmma")
    shutil.copy(HELPERS / "cudnn_on_cpu.cuh", folder / "platform.cuh")
    shutil.copy(SOURCES / "conv_layout.cuh", folder)
    shutil.copy(HELPERS / "wgmma_on_cpu.hpp", folder)
    library = folder / "model.so"
    command = [COMPILER, "-std=c++17", "-O2", "-fPIC", "-shared", f"-I{folder}", str(HELPERS / "wgmma_model.cpp")]
    subprocess.run([*command, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def small_integers(shape, seed):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)  # sums are exact


def expected(halo, kernel):
    """(rows, columns, outputs) of a convolution without padding."""
    outputs, _, rows, columns = kernel.shape
    height, width = halo.shape[0] - rows + 1, halo.shape[1] - columns + 1
    total = np.zeros((height, width, outputs), np.float32)
    for row in range(rows):
        for column in range(columns):
            total += halo[row : row + height, column : column + width] @ kernel[:, :, row, column].T
    return total


def run_tile(function, *, inputs, outputs, extra=()):
    halo = small_integers((hopper.TILE_HEIGHT + 2, hopper.TILE_WIDTH + 2, inputs), 1)
    kernel = small_integers((outputs, inputs, 3, 3), 2)
    weights = hopper.arrange_weights(kernel).astype(np.float32)
    result = np.full((hopper.TILE_HEIGHT, hopper.TILE_WIDTH, outputs), np.nan, np.float32)
    function(*(ctypes.c_void_p(array.ctypes.data) for array in (halo, weights, result)), *extra)
    np.testing.assert_array_equal(result, expected(halo, kernel))


def test_python_and_the_kernels_agree_on_the_tile(model):
    assert (model.tile_height(), model.tile_width()) == (hopper.TILE_HEIGHT, hopper.TILE_WIDTH)


@pytest.mark.parametrize("inputs", [8, 64])
def test_a_tile_of_64_outputs_is_the_convolution(model, inputs):
    run_tile(model.conv64_tile, inputs=inputs, outputs=64, extra=(inputs,))


@pytest.mark.parametrize("inputs", [64, 96, 128, 160])
def test_a_walk_of_32_outputs_is_the_convolution(model, inputs):
    rows, part = 4, 64
    halo = small_integers((rows + 2, hopper.STRIP_WIDTH + 2, inputs), 1)
    kernel = small_integers((32, inputs, 3, 3), 2)
    weights = hopper.arrange_walking_weights(kernel).astype(np.float32)
    result = np.full((rows, part, 32), np.nan, np.float32)
    model.conv32_walk(*(ctypes.c_void_p(array.ctypes.data) for array in (halo, weights, result)), inputs, rows)
    np.testing.assert_array_equal(result, expected(halo, kernel)[:, part:])


def test_four_lanes_exchange_so_that_each_holds_eight_outputs(model):
    held = np.zeros((4, 4), np.int32)
    model.conv32_exchange(ctypes.c_void_p(held.ctypes.data))
    for quarter in range(4):
        assert list(held[quarter]) == [
            8 * lane + quarter for lane in range(4)
        ]  # of lane 0, 1, 2, 3: its block `quarter`


@given(
    batch=st.integers(1, 4),
    height=st.integers(1, 2200),
    width=st.integers(1, 4000),
    multiprocessors=st.integers(1, 200),
)
def test_walks_cover_every_row_once(batch, height, width, multiprocessors):
    walks = hopper.plan_walks(batch=batch, height=height, width=width, multiprocessors=multiprocessors)
    assert walks.strips * hopper.STRIP_WIDTH >= width > (walks.strips - 1) * hopper.STRIP_WIDTH
    assert walks.segments * walks.segment_rows >= height > (walks.segments - 1) * walks.segment_rows


def test_a_720p_picture_keeps_an_h200_busy_in_one_round():
    walks = hopper.plan_walks(batch=1, height=720, width=1280, multiprocessors=132)
    assert 125 <= walks.strips * walks.segments <= 132


@pytest.mark.parametrize(
    "source",
    [hopper.conv64_source(inputs=inputs, has_slopes=slopes) for inputs in (8, 64) for slopes in (True, False)]
    + [hopper.conv32_source(inputs=inputs) for inputs in (64, 96, 128, 160)],
    ids=lambda source: f"{source.name}-{source.defines[0][1]}-{source.defines[2][1]}",
)
def test_the_kernels_compile_for_hopper_and_fit(source):
    pytest.importorskip("cuda.bindings.nvrtc")
    assert source.shared_bytes <= 227 * 1024
    assert compile_kernel(source, capability=(9, 0)).startswith(b"\x7fELF")

"""The convolutions that walk down strips, without a GPU: their index maps against a model of wgmma, and compilation."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.cudnn.compile import SOURCES, compile_kernel
from engines.cudnn.e4m3 import bits_of_e4m3
from engines.cudnn.hopper_steps import OwnStep
from engines.cudnn.strips import StripArguments, StripKind, arrange_strip_weights, share_rows

COMPILER = shutil.which("g++") or shutil.which("clang++")
HELPERS = Path(__file__).resolve().parents[1] / "helpers"
KINDS = {
    "growth-64": StripKind(inputs=64, outputs=32, activates=True),
    "growth-96": StripKind(inputs=96, outputs=32, activates=True),
    "growth-96-planes": StripKind(inputs=96, outputs=32, activates=True, swizzled=False),
    "growth-160": StripKind(inputs=160, outputs=32, activates=True),
    "growth-160-wide": StripKind(inputs=160, outputs=32, activates=True, consumers=3),
    "block-end": StripKind(inputs=192, outputs=32, adds=2),
    "body": StripKind(inputs=64, outputs=64, activates=True),
    "first": StripKind(inputs=8, outputs=64),
    "enlarging": StripKind(inputs=64, outputs=64, activates=True, enlarges=True),
    "shuffled": StripKind(inputs=64, outputs=48, factor=4, has_base=True),
    "shuffled-float32": StripKind(inputs=64, outputs=48, factor=4, has_base=True, is_half=False),
    "planar": StripKind(inputs=64, outputs=8, factor=1),
    "growth-e4m3": StripKind(
        inputs=160, outputs=32, activates=True, reads_e4m3=True, stores_half=False, stores_e4m3=True
    ),
    "body-e4m3": StripKind(inputs=64, outputs=64, activates=True, reads_e4m3=True),
    "block-end-e4m3": StripKind(inputs=192, outputs=64, adds=2, reads_e4m3=True, stores_e4m3=True),
    "first-to-both": StripKind(inputs=8, outputs=64, stores_e4m3=True),
}
LAYOUTS = {"growth-96-planes", "growth-160-wide", "first", "enlarging", "growth-e4m3", "body-e4m3"}
"""One of every way in which shared memory is laid out; the others repeat these with other numbers of channels."""
BRANCHES = {"block-end", "enlarging", "shuffled-float32", "planar", "growth-e4m3", "block-end-e4m3"}
"""Together, every branch of the source."""


def kinds(often):
    """All kinds; those that repeat what others show are slow tests."""
    return pytest.mark.parametrize(
        "kind",
        [pytest.param(kind, id=name, marks=[] if name in often else pytest.mark.slow) for name, kind in KINDS.items()],
    )


def convolved(pixels, kernel):
    """(rows, columns, outputs) of a convolution without padding."""
    height, width = pixels.shape[0] - 2, pixels.shape[1] - 2
    total = np.zeros((height, width, kernel.shape[0]), np.float32)
    for row in range(3):
        for column in range(3):
            total += pixels[row : row + height, column : column + width] @ kernel[:, :, row, column].T
    return total


@kinds(LAYOUTS)
def test_a_walk_of_every_consumer_is_the_convolution(kind, tmp_path):
    if COMPILER is None:
        pytest.skip("there is no C++ compiler")
    shutil.copy(HELPERS / "cudnn_on_cpu.cuh", tmp_path / "platform.cuh")
    shutil.copy(SOURCES / "strip_layout.cuh", tmp_path)
    command = [COMPILER, "-std=c++17", "-O1", "-fPIC", "-shared", f"-I{tmp_path}", *kind.source.macros]
    library = tmp_path / "model.so"
    subprocess.run([*command, str(HELPERS / "strip_model.cpp"), "-o", str(library)], check=True)
    model = ctypes.CDLL(str(library))
    random, rows, scale = np.random.default_rng(1), 3, 2 if kind.enlarges else 1
    halo = random.integers(-4, 5, (rows + 2, kind.slot_pixels, kind.inputs)).astype(np.float32)  # sums are exact
    kernel = random.integers(-4, 5, (2 * kind.outputs, kind.inputs, 3, 3)).astype(np.float32)
    weights = arrange_strip_weights(kernel, kind=kind)
    if kind.reads_e4m3:
        numbers = np.arange(-4, 5, dtype=np.float32)
        of_code = np.full(256, np.nan, np.float32)
        of_code[bits_of_e4m3(numbers)] = numbers
        weights = of_code[weights]
    weights = weights.astype(np.float32)
    for part in range(2):
        mine = np.ascontiguousarray(np.split(weights, 2)[part])
        outputs = kernel[part * kind.outputs : (part + 1) * kind.outputs]
        expected = convolved(halo.repeat(scale, 0).repeat(scale, 1), outputs)
        for consumer in range(kind.consumers):
            result = np.full((rows * scale, 64, kind.outputs), np.nan, np.float32)
            addresses = (ctypes.c_void_p(array.ctypes.data) for array in (halo, mine, result))
            model.strip_walk(*addresses, rows, consumer)
            if kind.enlarges:  # of the enlarged halo two rows and columns are around the picture
                right = expected[1:-1, 1 + consumer : 1 + consumer + 128 : 2]
            else:
                right = expected[:, 64 * consumer : 64 * (consumer + 1)]
            np.testing.assert_array_equal(result, right)


@kinds(BRANCHES)
def test_the_kernel_compiles_for_hopper_and_fits(kind):
    pytest.importorskip("cuda.bindings.nvrtc")
    assert kind.source.shared_bytes <= 227 * 1024
    assert compile_kernel(kind.source, capability=(9, 0)).startswith(b"\x7fELF")


def test_arguments_fill_the_structure_of_the_kernel():
    assert ctypes.sizeof(StripArguments) % 64 == 0  # the alignment of a tensor map


@pytest.mark.parametrize("is_planar", [False, True])
def test_only_the_step_that_makes_the_picture_writes_to_its_address(is_planar):
    """Every step of a network is launched with the addresses of the caller's pictures."""
    launched = []

    class Kernel:
        def launch(self, arguments, *, blocks, stream):
            launched.append((arguments.target, arguments.image, blocks, stream))

    step = OwnStep(kernel=Kernel(), arguments=StripArguments(target=64), blocks=132, is_planar=is_planar)
    step.launch("stream", image=128, picture=256)
    assert launched == [(256 if is_planar else 64, 128 if is_planar else 0, (132, 1, 1), "stream")]


@given(
    batch=st.integers(1, 4),
    height=st.integers(1, 2200),
    width=st.integers(1, 4000),
    walkers=st.integers(1, 200),
)
def test_walkers_share_all_rows(batch, height, width, walkers):
    walks = share_rows(batch=batch, height=height, width=width, strip_width=128, walkers=walkers)
    assert walks.columns * 128 >= width > (walks.columns - 1) * 128
    assert 1 <= walks.walkers <= walkers
    assert walks.walkers * walks.share + walks.rest == batch * walks.columns * height
    assert walks.rest < walks.walkers
    assert walks.share >= 1

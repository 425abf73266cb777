"""The cudnn engine's own kernels at both ends: run on the processor, compiled for Hopper."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.ends_on_cpu import COMPILER, run_on_cpu

from engines.cudnn.compile import KernelSource, compile_kernel
from engines.cudnn.ends import (
    enlarge_call,
    enlarge_source,
    finish_call,
    finish_source,
    pack_call,
    pack_source,
)
from engines.cudnn.steps import Buffer, EnlargeStep, FinishStep, PackStep, Plan, Slice

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

DTYPES = {"float16": np.float16, "float32": np.float32}


def plan_of(*buffers, height, width, scale=1, batch=2):
    return Plan(
        batch=batch,
        channels=3,
        height=height,
        width=width,
        output_shape=(batch, 3, height * scale, width * scale),
        buffers=buffers,
        steps=(),
    )


def buffer(channels, height, width):
    return Buffer(name="b", channels=channels, height=height, width=width)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize(
    ("factor", "channels", "io_dtype"), [(1, 8, "float16"), (1, 8, "float32"), (2, 24, "float16"), (4, 96, "float32")]
)
def test_pack_unshuffles_keeps_what_rounding_left_and_pads_with_zeros(folder, io_dtype, factor, channels):
    height, width, pitch = 3, 300, channels + 8
    image = np.random.default_rng(1).random((2, 3, height * factor, width * factor)).astype(DTYPES[io_dtype])
    target = np.full((2, height, width, pitch), np.nan, np.float16)
    step = PackStep(name="p", target=Slice(buffer=0, first=0, channels=channels), factor=factor)
    plan = plan_of(buffer(pitch, height, width), height=height * factor, width=width * factor)
    call = pack_call(plan, step, image=image.ctypes.data, target=target.ctypes.data)
    run_on_cpu(pack_source(plan, step, io_dtype=io_dtype), call, folder=folder)
    blocks = image.reshape(2, 3, height, factor, width, factor).transpose(0, 2, 4, 1, 3, 5)
    expected = np.zeros((2, height, width, channels), np.float16)
    values, count = blocks.reshape(2, height, width, -1), 3 * factor**2
    expected[..., :count] = values
    expected[..., count : 2 * count] = values - expected[..., :count].astype(values.dtype)
    np.testing.assert_array_equal(target[..., :channels], expected)
    assert np.isnan(target[..., channels:]).all()


@pytest.mark.parametrize("factor", [2])
def test_enlarge_repeats_pixels_of_a_slice(folder, factor):
    height, width = 3, 70
    source = np.random.default_rng(2).random((2, height, width, 24)).astype(np.float16)
    target = np.full((2, height * factor, width * factor, 16), np.nan, np.float16)
    step = EnlargeStep(
        name="e",
        source=Slice(buffer=0, first=8, channels=16),
        target=Slice(buffer=1, first=0, channels=16),
        factor=factor,
    )
    plan = plan_of(buffer(24, height, width), buffer(16, height * factor, width * factor), height=height, width=width)
    call = enlarge_call(plan, step, source=source[..., 8:].ctypes.data, target=target.ctypes.data)
    run_on_cpu(enlarge_source(step), call, folder=folder)
    np.testing.assert_array_equal(target, source[..., 8:].repeat(factor, 1).repeat(factor, 2))


@pytest.mark.parametrize(
    ("factor", "channels", "has_base", "io_dtype"),
    [
        (1, 8, False, "float16"),
        (1, 8, True, "float32"),
        (2, 16, True, "float16"),
        (3, 32, False, "float32"),
        (4, 48, True, "float16"),
        (4, 48, True, "float32"),
    ],
)
def test_finish_shuffles_and_adds_the_enlarged_input(folder, io_dtype, has_base, factor, channels):
    height, width = 3, 77
    random = np.random.default_rng(3)
    image = random.random((2, 3, height, width)).astype(DTYPES[io_dtype])
    source = random.normal(0, 0.1, (2, height, width, channels)).astype(np.float16)
    picture = np.full((2, 3, height * factor, width * factor), np.nan, DTYPES[io_dtype])
    step = FinishStep(
        name="f", source=Slice(buffer=0, first=0, channels=channels), factor=factor, colours=3, has_base=has_base
    )
    plan = plan_of(buffer(channels, height, width), height=height, width=width, scale=factor)
    call = finish_call(plan, step, source=source.ctypes.data, image=image.ctypes.data, picture=picture.ctypes.data)
    run_on_cpu(finish_source(step, io_dtype=io_dtype), call, folder=folder)
    parts = source[..., : 3 * factor**2].astype(np.float32).reshape(2, height, width, 3, factor, factor)
    expected = parts.transpose(0, 3, 1, 4, 2, 5).reshape(2, 3, height * factor, width * factor)
    if has_base:
        expected = expected + image.astype(np.float32).repeat(factor, 2).repeat(factor, 3)
    np.testing.assert_array_equal(picture, expected.astype(DTYPES[io_dtype]))


@pytest.mark.parametrize("io_dtype", DTYPES)
def test_the_kernels_compile_for_hopper(io_dtype):
    pytest.importorskip("cuda.bindings.nvrtc")
    plan = plan_of(buffer(48, 4, 4), buffer(48, 8, 8), height=4, width=4, scale=4)
    whole = Slice(buffer=0, first=0, channels=48)
    sources = [
        pack_source(plan, PackStep(name="p", target=whole, factor=4), io_dtype=io_dtype),
        enlarge_source(EnlargeStep(name="e", source=whole, target=Slice(buffer=1, first=0, channels=48), factor=2)),
        finish_source(FinishStep(name="f", source=whole, factor=4, colours=3, has_base=True), io_dtype=io_dtype),
        KernelSource(name="check", defines=(("POISON", int(io_dtype == "float16")),), threads=256),
    ]
    for source in sources:
        assert compile_kernel(source, capability=(9, 0)).startswith(b"\x7fELF")

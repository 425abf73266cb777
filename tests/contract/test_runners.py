"""Every backend keeps the runner contract, and every network gives the numbers of the float32 reference."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import openvino
import pytest
from helpers.reference import run_reference
from helpers.runner_contract import RunnerContract
from helpers.tiles import adversarial_tiles, film_tile
from numpy.typing import NDArray

from engines import BACKENDS, Runner, find_model, find_weights_file, load_weights, open_runner
from engines.verify import compare_arrays, run_once
from engines.weights import ModelWeights

FP32_ATOL = 1e-3
"""Promised for fp32. Measured: 1.3e-5 (OpenVINO), 4.4e-6 (onnxruntime) at most over all cases below."""

FP16_ATOL = 2 / 255
"""Promised for fp16. Measured: 6.9e-3 on noise with RealESRGAN_x4plus, the worst case below."""

BF16_PSNR_DB = 50.0
"""Promised for bf16 on film frames. Measured: 54.3 dB at least."""

BF16_NOISE_PSNR_DB = 43.0
"""bf16 on adversarial tiles, which no film holds. Measured at worst: 46.8 dB (OpenVINO, noise), 44.1 (torch,
checkerboard)."""

NETWORKS = ("realesr-animevideov3", "RealESRGAN_x4plus_anime_6B", "RealESRGAN_x4plus")

SIZES = {"realesr-animevideov3": (37, 52), "RealESRGAN_x4plus_anime_6B": (17, 24), "RealESRGAN_x4plus": (13, 16)}
"""Odd and non-square; as large as the time allows."""

HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


HAS_TORCH = importlib.util.find_spec("torch") is not None


class TestOpenVino(RunnerContract):
    backend = "openvino"
    refused_precision = "fp16"
    refused_model = "nearest-x4"


class TestOnnxRuntime(RunnerContract):
    backend = "onnxruntime"
    precisions = ("fp32", "fp16")
    refused_precision = "bf16"
    refused_model = "nearest-x4"


@pytest.mark.skipif(not HAS_TORCH, reason="torch (export extra) is not installed")
class TestTorch(RunnerContract):
    backend = "torch"
    device = "cpu"
    precisions = ("fp32", "bf16")
    refused_precision = "fp16"
    refused_model = "nearest-x4"


class TestResize(RunnerContract):
    backend = "resize"
    model = "nearest-x4"
    refused_precision = "fp16"
    refused_model = "realesr-animevideov3"

    @pytest.mark.parametrize("scale", [1, 2, 4])
    def test_repeats_pixels_bit_for_bit(self, scale: int) -> None:
        with self.open(model=f"nearest-x{scale}", batch=2) as runner:
            tiles, _ = self.buffers(runner)
            wanted = tiles.repeat(scale, axis=2).repeat(scale, axis=3)
            assert np.array_equal(run_once(runner, tiles), wanted)


def test_every_backend_of_the_table_has_a_contract_test() -> None:
    """Read from the test files, because those of other libraries and of the GPU stand elsewhere."""
    tested = set()
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                tested |= {
                    statement.value.value
                    for statement in node.body
                    if isinstance(statement, ast.Assign)
                    and [target.id for target in statement.targets if isinstance(target, ast.Name)] == ["backend"]
                    and isinstance(statement.value, ast.Constant)
                }
    assert tested == set(BACKENDS)


def test_network_is_found_by_the_path_of_its_file(tmp_path: Path) -> None:
    """A published file anywhere, under its published name, is the model of the table."""
    published = find_weights_file(find_model("realesr-animevideov3"))
    copy = tmp_path / published.name
    copy.write_bytes(published.read_bytes())
    tiles = film_tile(height=9, width=12)
    with (
        open_runner(model=copy, height=9, width=12, precision="fp32") as by_path,
        open_runner(model="realesr-animevideov3", height=9, width=12, precision="fp32") as by_name,
    ):
        assert np.array_equal(run_once(by_path, tiles), run_once(by_name, tiles))


@cache
def weights_of(model: str) -> ModelWeights:
    return load_weights(find_model(model))


@cache
def cases(model: str) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Tiles in batches of two, and what the reference makes of them, by name."""
    height, width = SIZES[model]
    tiles = {"film": film_tile(height=height, width=width, batch=2)}
    tiles |= adversarial_tiles(height=height, width=width, batch=2)
    return {name: (batch, run_reference(weights_of(model), tiles=batch)) for name, batch in tiles.items()}


def open_for(model: str, *, backend: str, precision: str) -> Runner:
    if backend == "torch" and not HAS_TORCH:
        pytest.skip("torch (export extra) is not installed")
    if backend == "torch" and model == "RealESRGAN_x4plus":
        pytest.skip("the reference itself is torch's; the smaller network of the same layers shows the backend's part")
    height, width = SIZES[model]
    return open_runner(
        model=model, backend=backend, device="cpu", precision=precision, batch=2, height=height, width=width
    )


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_fp32_is_the_reference(backend: str, model: str) -> None:
    """This also holds the promise that fp32 turns bf16 really off: bf16 would miss it tenfold."""
    with open_for(model, backend=backend, precision="fp32") as runner:
        for name, (tiles, wanted) in cases(model).items():
            assert compare_arrays(run_once(runner, tiles), wanted).max_abs <= FP32_ATOL, name


@pytest.mark.parametrize("model", NETWORKS)
def test_fp16_is_within_two_codes_of_the_reference(model: str) -> None:
    with open_for(model, backend="onnxruntime", precision="fp16") as runner:
        for name, (tiles, wanted) in cases(model).items():
            assert compare_arrays(run_once(runner, tiles), wanted).max_abs <= FP16_ATOL, name


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16")
@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_bf16_reaches_its_quality(backend: str, model: str) -> None:
    with open_for(model, backend=backend, precision="bf16") as runner:
        for name, (tiles, wanted) in cases(model).items():
            least = BF16_PSNR_DB if name == "film" else BF16_NOISE_PSNR_DB
            assert compare_arrays(run_once(runner, tiles), wanted).psnr_db >= least, name


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16")
def test_fp32_and_bf16_are_different_arithmetic() -> None:
    """The precision named is the one computed: both runners see the same tiles and only bf16 is off."""
    tiles, wanted = cases("realesr-animevideov3")["noise"]
    with (
        open_for("realesr-animevideov3", backend="openvino", precision="fp32") as exact,
        open_for("realesr-animevideov3", backend="openvino", precision="bf16") as rounded,
    ):
        assert compare_arrays(run_once(exact, tiles), wanted).max_abs < 1e-4
        assert compare_arrays(run_once(rounded, tiles), wanted).max_abs > FP32_ATOL


@pytest.mark.parametrize("output_scale", [1, 2])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_folded_network_is_the_box_average_of_the_whole_one(backend: str, output_scale: int) -> None:
    tiles, wanted = cases("realesr-animevideov3")["film"]
    factor = 4 // output_scale
    batch, colours, height, width = wanted.shape
    box = wanted.reshape(batch, colours, height // factor, factor, width // factor, factor).mean(axis=(3, 5))
    with open_runner(
        model="realesr-animevideov3",
        backend=backend,
        precision="fp32",
        batch=2,
        height=tiles.shape[2],
        width=tiles.shape[3],
        output_scale=output_scale,
    ) as runner:
        assert runner.spec.scale == output_scale
        assert compare_arrays(run_once(runner, tiles), box).max_abs <= 1e-5

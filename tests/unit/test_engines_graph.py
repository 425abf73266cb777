"""ONNX graphs written from weights: valid, of the precision asked for, and the same network whatever their form."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.reference import run_reference
from helpers.tiles import film_tile
from helpers.weight_files import RRDB_X1, RRDB_X2, random_weights
from onnx import TensorProto, numpy_helper

from engines import UnsupportedModel, UnsupportedShape, find_model, load_weights
from engines.errors import ExportFailed
from engines.fold import fold_output_scale, foldable_scales
from engines.graph import BFLOAT16_OPSET, DEFAULT_OPSET, build_graph
from engines.graph_writer import bfloat16_bits
from engines.weights import ModelWeights

NETWORKS = ("realesr-animevideov3", "RealESRGAN_x4plus_anime_6B", "RealESRGAN_x4plus")
TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@cache
def weights_of(name: str) -> ModelWeights:
    return load_weights(find_model(name))


def run_graph(model: onnx.ModelProto, tiles: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": tiles})[0]


def dimensions(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("is_static", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", NETWORKS)
def test_graph_passes_the_full_check_and_stores_its_precision(name, is_static, precision):
    shape = {"batch": 2, "height": 18, "width": 33} if is_static else {}
    model = build_graph(weights_of(name), precision=precision, **shape)
    onnx.checker.check_model(model, full_check=True)
    kernels = [constant for constant in model.graph.initializer if constant.name.endswith(".weight")]
    assert {kernel.data_type for kernel in kernels} == {TYPES[precision]}
    assert len(kernels) == len(weights_of(name).layers)
    assert model.opset_import[0].version == (BFLOAT16_OPSET if precision == "bf16" else DEFAULT_OPSET)


def test_sizes_given_are_constants_and_the_others_are_free():
    model = build_graph(weights_of("realesr-animevideov3"), batch=1, height=20)
    assert dimensions(model.graph.input[0]) == [1, 3, 20, "width"]
    assert dimensions(model.graph.output[0]) == [1, 3, 80, "4*width"]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("input", "output")


@pytest.mark.parametrize("opset", [13, 17, 20, 22])
def test_other_operator_sets_pass_the_full_check(opset):
    onnx.checker.check_model(build_graph(weights_of("realesr-animevideov3"), opset=opset), full_check=True)


def test_bf16_refuses_an_operator_set_without_it():
    with pytest.raises(ExportFailed, match="opset 20") as caught:
        build_graph(weights_of("realesr-animevideov3"), precision="bf16", opset=20)
    assert str(BFLOAT16_OPSET) in caught.value.hint


@pytest.mark.parametrize("opset", [7, 12, 1000])
def test_operator_sets_that_cannot_be_written_are_refused_with_those_that_can(opset):
    with pytest.raises(ExportFailed, match=rf"opset {opset} .*from 13 to {onnx.defs.onnx_opset_version()}"):
        build_graph(weights_of("realesr-animevideov3"), opset=opset)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("is_static", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("model", [RRDB_X2, RRDB_X1], ids=lambda model: model.name)
def test_unshuffled_network_passes_the_full_check_in_every_form(model, is_static, precision):
    shape = {"batch": 2, "height": 16, "width": 28} if is_static else {}
    graph = build_graph(random_weights(model), precision=precision, **shape)
    onnx.checker.check_model(graph, full_check=True)
    scale = model.scale
    assert dimensions(graph.graph.output[0])[1:] == (
        [3, 16 * scale, 28 * scale] if is_static else [3, f"{scale}*height", f"{scale}*width"]
    )


@pytest.mark.parametrize("is_static", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("model", [RRDB_X2, RRDB_X1], ids=lambda model: model.name)
def test_unshuffled_network_computes_what_torchs_pixel_unshuffle_and_the_trunk_do(model, is_static):
    weights = random_weights(model)
    for batch, height, width in ((1, 16, 28), (2, 12, 8), (1, 4, 4)):
        tiles = film_tile(batch=batch, height=height, width=width)
        shape = {"batch": batch, "height": height, "width": width} if is_static else {}
        wanted = run_reference(weights, tiles=tiles)
        assert wanted.shape == (batch, 3, height * model.scale, width * model.scale)
        np.testing.assert_allclose(run_graph(build_graph(weights, **shape), tiles), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("is_static", [True, False], ids=["static", "dynamic"])
def test_unshuffled_network_is_the_same_in_openvino(is_static):
    openvino = pytest.importorskip("openvino")
    weights = random_weights(RRDB_X2)
    tiles = film_tile(height=14, width=18)
    shape = {"batch": 1, "height": 14, "width": 18} if is_static else {}
    core = openvino.Core()
    graph = core.read_model(build_graph(weights, **shape).SerializeToString())
    out = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([tiles])[0]
    np.testing.assert_allclose(out, run_reference(weights, tiles=tiles), rtol=0, atol=2e-5)


def test_unshuffled_network_in_fp16_stays_near_its_float32_self():
    weights = random_weights(RRDB_X2)
    tiles = film_tile(height=16, width=24)
    out = run_graph(build_graph(weights, precision="fp16"), tiles)
    assert np.abs(out - run_reference(weights, tiles=tiles)).max() <= 2 / 255


@pytest.mark.parametrize(("shape", "side", "fit"), [((15, 16), "height 15", 16), ((16, 9), "width 9", 10)])
def test_sides_that_the_unshuffle_does_not_divide_are_refused_with_the_next_that_do(shape, side, fit):
    with pytest.raises(UnsupportedShape, match=f"multiples of 2, not {side}") as caught:
        build_graph(random_weights(RRDB_X2), height=shape[0], width=shape[1])
    assert str(fit) in caught.value.hint


def test_model_that_only_repeats_pixels_has_no_graph():
    with pytest.raises(UnsupportedModel, match="nearest-x2"):
        build_graph(ModelWeights(model=find_model("nearest-x2"), layers=()))


@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_arrays_have_the_type_asked_for_whatever_the_precision_is(precision, io_dtype):
    model = build_graph(weights_of("realesr-animevideov3"), precision=precision, io_dtype=io_dtype)
    onnx.checker.check_model(model, full_check=True)
    tiles = film_tile(height=10, width=12)
    out = run_graph(model, tiles.astype(io_dtype))
    assert out.dtype == io_dtype
    assert np.abs(out - run_reference(weights_of("realesr-animevideov3"), tiles=tiles)).max() <= 2 / 255


@pytest.mark.parametrize("name", NETWORKS[:2])
def test_free_sizes_give_the_network_at_any_size(name):
    model = build_graph(weights_of(name))
    for batch, height, width in ((1, 9, 14), (2, 16, 11), (1, 1, 1)):
        tiles = film_tile(batch=batch, height=height, width=width)
        wanted = run_reference(weights_of(name), tiles=tiles)
        np.testing.assert_allclose(run_graph(model, tiles), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("output_scale", [1, 2, 4])
@pytest.mark.parametrize("is_static", [True, False], ids=["static", "dynamic"])
def test_folded_graph_is_the_box_average_of_the_reference(is_static, output_scale):
    weights = weights_of("realesr-animevideov3")
    tiles = film_tile(height=14, width=21)
    shape = {"batch": 1, "height": 14, "width": 21} if is_static else {}
    out = run_graph(build_graph(weights, output_scale=output_scale, **shape), tiles)
    factor = 4 // output_scale
    wanted = run_reference(weights, tiles=tiles)
    box = wanted.reshape(1, 3, 14 * output_scale, factor, 21 * output_scale, factor).mean(axis=(3, 5))
    np.testing.assert_allclose(out, box, rtol=0, atol=1e-5)


def test_folding_shrinks_the_last_convolution_and_keeps_the_others():
    weights = weights_of("realesr-animevideov3")
    layers = fold_output_scale(weights, output_scale=2)
    assert layers[-1].kernel.shape == (12, 64, 3, 3)
    assert all(folded is layer for folded, layer in zip(layers[:-1], weights.layers[:-1], strict=True))


@pytest.mark.parametrize(
    ("name", "scale"), [("realesr-animevideov3", 3), ("realesr-animevideov3", 8), (NETWORKS[1], 2)]
)
def test_enlargement_that_cannot_be_folded_is_refused_with_those_that_can(name, scale):
    with pytest.raises(UnsupportedShape, match=f"by {scale}, only by") as caught:
        build_graph(weights_of(name), output_scale=scale)
    assert "4" in str(caught.value)
    assert caught.value.hint


def test_foldable_scales_are_the_divisors_of_a_compact_networks_own():
    assert foldable_scales(find_model("realesr-animevideov3")) == (1, 2, 4)
    assert foldable_scales(find_model("RealESRGAN_x4plus")) == (4,)


def test_same_weights_give_the_same_bytes():
    first, second = (build_graph(weights_of("realesr-animevideov3"), height=8, width=8, batch=1) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_fp16_stores_the_files_weights_without_loss():
    weights = weights_of("realesr-animevideov3")
    model = build_graph(weights, precision="fp16")
    stored = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    for layer in weights.layers:
        assert np.array_equal(stored[f"{layer.shape.name}.weight"].astype(np.float32), layer.kernel)


def test_bfloat16_rounds_to_nearest_and_ties_to_even():
    numbers = np.asarray([1.0, 1.00390625, 1.01171875, 1.0039064, -1.0039064, 0.1, 0.0], dtype=np.float32)
    wanted = [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xBF81, 0x3DCD, 0x0000]
    assert bfloat16_bits(numbers).tolist() == wanted

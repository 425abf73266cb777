"""The user's ONNX files in float16: consistent types, sizes that stay exact, and what files cost per pixel."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.onnx_models import Form, expected, network, saved, tiles
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.graph import build_graph
from engines.models import find_model
from engines.networks import GraphOptions
from engines.networks.onnx_file import OnnxNetwork, inspect_onnx, load_onnx
from engines.weights import load_weights


def run_graph(model: onnx.ModelProto, pictures: NDArray) -> NDArray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": pictures})[0]


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value; raises where an operator does not take the types it is given."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def opened(model: onnx.ModelProto, folder) -> OnnxNetwork:
    return load_onnx(inspect_onnx(saved(model, folder)))


def with_measured_sizes(factor: float = 2.0) -> onnx.ModelProto:
    """A network whose enlarged size is computed from the picture's, in floats, as torch's exporters write it."""
    constants = {
        "kernel": np.pad(np.eye(3, dtype=np.float32)[:, :, None, None], ((0, 0), (0, 0), (1, 1), (1, 1))),
        "start": np.asarray([0]),
        "middle": np.asarray([2]),
        "stop": np.asarray([4]),
        "factor": np.asarray(factor, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["same"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["same", "kernel"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("Slice", ["shape", "start", "middle"], ["head"]),
        helper.make_node("Slice", ["shape", "middle", "stop"], ["sides"]),
        helper.make_node("Cast", ["sides"], ["sides_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["sides_float", "factor"], ["larger_float"]),
        helper.make_node("Cast", ["larger_float"], ["larger"], to=TensorProto.INT64),
        helper.make_node("Concat", ["head", "larger"], ["sizes"], axis=0),
        helper.make_node(
            "Resize",
            ["a", "", "", "sizes"],
            ["b"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Exp", ["b"], ["c"]),
        helper.make_node("Log", ["c"], ["output"]),
    ]
    sides = ("n", 3, "h", "w")
    graph = helper.make_graph(
        nodes,
        "user",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("n", 3, "a", "b"))],
        initializer=[numpy_helper.from_array(values, name=name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "form", [Form(), Form(layout="nhwc", peak=255), Form(unshuffle=2), Form(picture="uint8", peak=255)]
)
def test_float16_graphs_are_near_the_original_and_pass_the_full_check(tmp_path, form, io_dtype):
    graph = opened(network(form), tmp_path).graph(GraphOptions(precision="fp16", io_dtype=io_dtype))
    onnx.checker.check_model(graph, full_check=True)
    given = run_graph(graph, tiles().astype(io_dtype))
    wanted = expected(tiles(), unshuffle=form.unshuffle)
    if form.picture == "uint8":
        wanted = np.clip(wanted, 0, 1)
    assert given.dtype == io_dtype
    np.testing.assert_allclose(given, wanted, atol=6e-3 if form.peak == 255 else 3e-3)


def test_convolutions_and_enlargement_are_float16_and_weights_are_kept_once(tmp_path):
    graph = opened(network(), tmp_path).graph(GraphOptions(precision="fp16"))
    types = types_of(graph)
    heavy = [node for node in graph.graph.node if node.op_type in ("Conv", "Resize", "Add", "DepthToSpace")]
    assert {types[node.output[0]] for node in heavy} == {TensorProto.FLOAT16}
    kept = {tensor.name.removesuffix("/float16") for tensor in graph.graph.initializer}
    assert len(kept) == len(graph.graph.initializer)


def test_sizes_are_computed_in_float32_and_sums_and_powers_too(tmp_path):
    network_ = opened(with_measured_sizes(), tmp_path)
    graph = network_.graph(GraphOptions(precision="fp16"))
    types = types_of(graph)
    by_operator = {node.op_type: types[node.output[0]] for node in graph.graph.node}
    assert by_operator["Conv"] == by_operator["Resize"] == TensorProto.FLOAT16
    assert by_operator["Mul"] == by_operator["Exp"] == by_operator["Log"] == TensorProto.FLOAT
    wide = np.full((1, 3, 1, 4095), 0.5, np.float32)  # float16 has no 4095
    assert run_graph(graph, wide).shape == (1, 3, 2, 8190)
    np.testing.assert_allclose(run_graph(graph, tiles()), network_.run_reference(tiles()), atol=2e-3)


def test_small_weights_are_rounded_and_not_replaced(tmp_path):
    model = network()
    tiny = numpy_helper.from_array(np.full(8, 1e-9, np.float32), name=model.graph.initializer[1].name)
    model.graph.initializer[1].CopyFrom(tiny)
    graph = opened(model, tmp_path).graph(GraphOptions(precision="fp16"))
    biases = [numpy_helper.to_array(tensor) for tensor in graph.graph.initializer if list(tensor.dims) == [8]]
    assert len(biases) == 1 and not biases[0].any()  # 1e-9 rounds to 0


def test_real_weights_survive_float16(tmp_path):
    """animevideov3 in a file: float16 made here is as near to float32 as our own float16 graph."""
    weights = load_weights(find_model("realesr-animevideov3"))
    pictures = tiles(height=24, width=24)
    wide = run_graph(build_graph(weights), pictures)
    ours = run_graph(build_graph(weights, precision="fp16"), pictures)
    network_ = opened(build_graph(weights), tmp_path)
    theirs = run_graph(network_.graph(GraphOptions(precision="fp16")), pictures)
    np.testing.assert_array_equal(network_.run_reference(pictures), wide)
    assert np.abs(theirs - wide).max() < 2 * np.abs(ours - wide).max()


def test_the_range_of_a_real_network_for_0_to_255_is_told(tmp_path):
    model = build_graph(load_weights(find_model("realesr-animevideov3")))
    pictures = tiles(height=24, width=24)
    wanted = run_graph(model, pictures)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"input": "inner_in", "output": "inner_out"}.get(name, name) for name in names]
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(255, np.float32), name="white"))
    model.graph.node.insert(0, helper.make_node("Div", ["input", "white"], ["inner_in"]))
    model.graph.node.append(helper.make_node("Mul", ["inner_out", "white"], ["output"]))
    network_ = opened(model, tmp_path)
    assert "values 0 to 255" in network_.spec.summary
    np.testing.assert_allclose(run_graph(network_.graph(GraphOptions()), pictures), wanted, atol=1e-4)


def test_costs_are_counted_from_the_graph(tmp_path):
    """Two 3x3 convolutions, 3 to 8 to 12 channels: by hand."""
    spec = inspect_onnx(saved(network(), tmp_path))
    assert spec.flop_per_px == 2 * 9 * (3 * 8 + 8 * 12)
    assert (spec.receptive_px, spec.overlap_px) == (2, 4)  # two kernels of radius 1
    assert spec.activation_bytes_per_px == 4 * 3 * 12  # both addends and the sum, 2x2 pixels of 3 colours each


def test_costs_of_the_unshuffled_network_are_per_pixel_of_the_input(tmp_path):
    spec = inspect_onnx(saved(network(Form(unshuffle=2)), tmp_path))
    assert spec.flop_per_px == 2 * 9 * (12 * 8 + 8 * 48) // 4
    assert 4 <= spec.receptive_px <= 6  # two kernels of 2 input pixels each, and the neighbours folded in


def test_costs_do_not_depend_on_the_layout(tmp_path):
    plain, turned = (inspect_onnx(saved(network(Form(layout=layout)), tmp_path)) for layout in ("nchw", "nhwc"))
    assert (plain.flop_per_px, plain.receptive_px) == (turned.flop_per_px, turned.receptive_px)


def test_a_network_that_looks_at_everything_gets_the_largest_overlap(tmp_path):
    model = network()
    model.graph.node[-1].output[0] = "picture"
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["picture"], ["mean"]))
    model.graph.node.append(helper.make_node("Sub", ["picture", "mean"], ["output"]))
    spec = inspect_onnx(saved(model, tmp_path))
    assert (spec.overlap_px, spec.receptive_px) == (64, 32)


def test_sizes_that_cannot_be_inferred_are_measured(tmp_path):
    model = network()
    model.graph.node[-1].output[0] = "picture"
    model.graph.node.append(helper.make_node("NonZero", ["picture"], ["places"]))  # as many as there are
    model.graph.node.append(helper.make_node("ReduceSum", ["places"], ["count"], keepdims=0))
    model.graph.node.append(helper.make_node("Cast", ["count"], ["count_float"], to=TensorProto.FLOAT))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.float32), name="none"))
    model.graph.node.append(helper.make_node("Mul", ["count_float", "none"], ["nothing"]))
    model.graph.node.append(helper.make_node("Add", ["picture", "nothing"], ["output"]))
    spec = inspect_onnx(saved(model, tmp_path))
    assert spec.flop_per_px == 2 * 9 * (3 * 8 + 8 * 12)
    assert spec.activation_bytes_per_px > 4 * 3 * 12


def test_importing_loads_no_library_and_reading_needs_no_torch(tmp_path):
    path = saved(network(), tmp_path)
    code = (
        "import sys; import engines.networks.onnx_file as f; assert 'onnx' not in sys.modules; import pathlib;"
        "f.inspect_onnx(pathlib.Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)

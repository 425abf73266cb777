"""ONNX files that are no network for RGB pictures: one sentence that names what is wrong, and what to do."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from helpers.onnx_models import Form, network, saved
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ExportFailed, ModelFileError, UnsupportedPrecision
from engines.networks import GraphOptions
from engines.networks.onnx_file import inspect_onnx, load_onnx


def refusal(path) -> str:
    """The message; every refusal also says what to do, and both are one line."""
    with pytest.raises(ModelFileError) as caught:
        inspect_onnx(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message + caught.value.hint
    return message


def value(name: str, *sides: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sides)


def model_of(
    nodes: list[onnx.NodeProto],
    *,
    inputs: tuple[onnx.ValueInfoProto, ...] = (value("input", "n", 3, "h", "w"),),
    outputs: tuple[onnx.ValueInfoProto, ...] = (value("output", "n", "c", "a", "b"),),
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(array, name=name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "user", list(inputs), list(outputs), initializer=initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


IDENTITY = helper.make_node("Identity", ["input"], ["output"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"PK\x03\x04rest of an archive", "ZIP archive or a PyTorch file"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x89PNG\r\n\x1a\n0000", "cannot be read as ONNX|holds no graph"),
        (b"\x08\x08", "holds no graph"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, words):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert re.search(words, refusal(path))


def test_a_file_cut_short_is_said_to_be(tmp_path):
    path = saved(network(), tmp_path)
    path.write_bytes(path.read_bytes()[:-400])
    assert "cut short, damaged or another kind of file" in refusal(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.onnx")
    assert "Is a directory" in refusal(tmp_path)


def test_an_empty_graph_is_refused(tmp_path):
    assert "empty graph" in refusal(saved(model_of([]), tmp_path))


def test_an_operator_set_too_new_is_named_with_the_newest_known(tmp_path):
    newest = onnx.defs.onnx_opset_version()
    message = refusal(saved(model_of([IDENTITY], opset=newest + 1), tmp_path))
    assert f"opset {newest + 1}" in message and f"opset {newest} at most" in message


def test_an_operator_set_too_old_is_named_with_the_oldest_supported(tmp_path):
    message = refusal(saved(model_of([IDENTITY], opset=8), tmp_path))
    assert "opset 8" in message and "is 9" in message


def test_all_operators_that_are_not_standard_are_listed_with_their_nodes(tmp_path):
    inner = helper.make_graph([helper.make_node("Inside", [], ["z"], name="deep")], "then", [], [value("z")])
    model = model_of(
        [
            helper.make_node("FancyUpscale", ["input"], ["a"], name="up/1"),
            helper.make_node("FusedConv", ["a"], ["b"], name="conv_7", domain="com.microsoft"),
            helper.make_node("FancyUpscale", ["b"], ["c"], name="up/2"),
            helper.make_node("Upsample", ["c"], ["d"]),  # removed from the standard in opset 10
            helper.make_node("If", ["d"], ["output"], then_branch=inner, else_branch=inner),
        ]
    )
    message = refusal(saved(model, tmp_path))
    assert "FancyUpscale (node up/1, up/2)" in message
    assert "com.microsoft::FusedConv (node conv_7)" in message
    assert "Upsample (node number 3)" in message
    assert "Inside (node deep, deep)" in message


def test_missing_weights_beside_the_file_are_named(tmp_path):
    path = tmp_path / "large.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="large.data", size_threshold=0)
    weights = tmp_path / "large.data"
    content = weights.read_bytes()
    weights.write_bytes(content[:-8])
    assert "large.data is cut short" in refusal(path)
    weights.unlink()
    assert "large.data, which is not there" in refusal(path)


def test_weights_outside_the_folder_are_not_read(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "large.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="large.data", size_threshold=0)
    (folder / "large.data").rename(tmp_path / "large.data")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../large.data"
    assert "../large.data" in refusal(saved(model, folder, name="large.onnx"))


@pytest.mark.parametrize(
    ("channels", "words"), [(1, "1 channels .greyscale"), (4, "4 channels .RGB with alpha"), (6, "6 channels;")]
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_other_numbers_of_channels_are_refused_by_number(tmp_path, channels, words, layout):
    sides = ("n", channels, 64, 64) if layout == "nchw" else ("n", 64, 64, channels)
    node = helper.make_node("Identity", ["picture"], ["output"])
    message = refusal(saved(model_of([node], inputs=(value("picture", *sides),)), tmp_path))
    assert re.search(words, message) and "picture" in message


@pytest.mark.parametrize("sides", [(3, 64), (3, 64, 64), (1, 3, 5, 64, 64)])
def test_inputs_without_four_axes_are_refused_by_number(tmp_path, sides):
    model = model_of([IDENTITY], inputs=(value("input", *sides),))
    assert f"has {len(sides)} axes ({'x'.join(map(str, sides))})" in refusal(saved(model, tmp_path))


def test_an_input_of_unknown_rank_is_refused(tmp_path):
    model = model_of([IDENTITY])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    path = saved(model, tmp_path)
    assert "how many axes" in refusal(path) or "not valid ONNX" in refusal(path)


@pytest.mark.parametrize("kind", ["DOUBLE", "INT32", "STRING"])
def test_inputs_of_other_types_are_refused_by_name(tmp_path, kind):
    code = TensorProto.DataType.Value(kind)
    model = model_of(
        [IDENTITY],
        inputs=(value("input", "n", 3, "h", "w", kind=code),),
        outputs=(value("output", "n", 3, "h", "w", kind=code),),
    )
    assert f"input input of {tmp_path}/user.onnx is {kind.lower()}" in refusal(saved(model, tmp_path))


def test_several_inputs_or_outputs_are_refused_by_name(tmp_path):
    two = (value("frame_0", "n", 3, "h", "w"), value("frame_1", "n", 3, "h", "w"))
    mixed = helper.make_node("Add", ["frame_0", "frame_1"], ["output"])
    assert "has 2: frame_0, frame_1" in refusal(saved(model_of([mixed], inputs=two), tmp_path))
    both = (value("picture", 1, 3, 8, 8), value("mask", 1, 3, 8, 8))
    nodes = [helper.make_node("Identity", ["input"], [name]) for name in ("picture", "mask")]
    assert "has 2: picture, mask" in refusal(saved(model_of(nodes, outputs=both), tmp_path))


def test_a_classifier_is_said_to_give_no_picture(tmp_path):
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "kernel"], ["output"]),
    ]
    model = model_of(nodes, outputs=(value("output", "n", 10),), constants={"kernel": np.ones((3, 10), np.float32)})
    assert "gives 1x10, which is no RGB picture" in refusal(saved(model, tmp_path))


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ([1, 1, 2, 3], "3 times as wide and 2 times as high"),
        ([1, 1, 0.5, 0.5], "not a whole enlargement"),
        ([1, 1, 1.5, 1.5], "not a whole enlargement"),
    ],
)
def test_enlargements_that_are_not_one_whole_number_are_refused(tmp_path, scales, words):
    node = helper.make_node("Resize", ["input", "", "scales"], ["output"], mode="nearest")
    model = model_of([node], constants={"scales": np.asarray(scales, np.float32)})
    assert words in refusal(saved(model, tmp_path))


def test_values_that_are_not_finite_are_refused(tmp_path):
    node = helper.make_node("Mul", ["input", "factor"], ["output"])
    model = model_of([node], constants={"factor": np.asarray(np.nan, np.float32)})
    assert "not finite" in refusal(saved(model, tmp_path))


def test_a_network_that_runs_with_no_size_of_picture_says_the_librarys_reason(tmp_path):
    node = helper.make_node("Reshape", ["input", "shape"], ["output"])
    model = model_of([node], constants={"shape": np.asarray([1, 3, 7, 11])})
    message = refusal(saved(model, tmp_path))
    assert "runs with no size of picture" in message and "Reshape" in message


def test_an_inconsistent_graph_is_refused(tmp_path):
    node = helper.make_node("Identity", ["nowhere"], ["output"])
    assert "is not valid ONNX" in refusal(saved(model_of([node]), tmp_path))


def test_an_operator_set_that_cannot_be_had_is_an_export_error(tmp_path):
    node = helper.make_node("Gelu", ["input"], ["output"])  # in the standard since opset 20
    network_ = load_onnx(inspect_onnx(saved(model_of([node], opset=20), tmp_path)))
    with pytest.raises(ExportFailed, match="cannot be written with opset 17"):
        network_.graph(GraphOptions(opset=17))


def test_constants_beyond_float16_are_refused_by_name_and_value(tmp_path):
    nodes = [helper.make_node("Mul", ["input", "many"], ["a"]), helper.make_node("Div", ["a", "many"], ["output"])]
    network_ = load_onnx(
        inspect_onnx(saved(model_of(nodes, constants={"many": np.asarray(1e5, np.float32)}), tmp_path))
    )
    with pytest.raises(UnsupportedPrecision, match="many reaches 100000, float16 ends at 65504"):
        network_.graph(GraphOptions(precision="fp16"))


def test_inner_graphs_are_refused_in_float16_only(tmp_path):
    then = helper.make_graph([helper.make_node("Relu", ["input"], ["t"])], "then", [], [value("t", "n", 3, "h", "w")])
    other = helper.make_graph([helper.make_node("Abs", ["input"], ["e"])], "else", [], [value("e", "n", 3, "h", "w")])
    node = helper.make_node("If", ["yes"], ["output"], name="choice", then_branch=then, else_branch=other)
    model = model_of([node], constants={"yes": np.asarray(True)})
    network_ = load_onnx(inspect_onnx(saved(model, tmp_path)))
    picture = np.full((1, 3, 8, 8), 0.25, np.float32)
    np.testing.assert_array_equal(network_.run_reference(picture), picture)
    with pytest.raises(UnsupportedPrecision, match="node choice has an inner graph"):
        network_.graph(GraphOptions(precision="fp16"))


def test_a_form_that_needs_no_network_is_still_one(tmp_path):
    assert inspect_onnx(saved(model_of([IDENTITY]), tmp_path)).scale == 1
    assert inspect_onnx(saved(network(Form(scale=4)), tmp_path)).scale == 4

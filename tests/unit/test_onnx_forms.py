"""The user's ONNX files: whatever form they have, they take and give pictures as our own networks do."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.onnx_models import Form, expected, network, saved, tiles
from helpers.tiles import film_tile
from numpy.typing import NDArray

from engines.errors import ModelFileError, UnsupportedModel, UnsupportedPrecision, UnsupportedShape
from engines.graph import build_graph
from engines.models import find_model
from engines.networks import GraphOptions, load_network, onnx_trial
from engines.networks.onnx_file import inspect_onnx, load_onnx
from engines.weights import load_weights


def run_graph(model: onnx.ModelProto, pictures: NDArray) -> NDArray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": pictures})[0]


def opened(folder, form: Form):
    return load_onnx(inspect_onnx(saved(network(form), folder)))


FLOAT_FORMS = {
    "plain": Form(),
    "x3": Form(scale=3),
    "nhwc": Form(layout="nhwc"),
    "0 to 255": Form(peak=255),
    "nhwc, 0 to 255": Form(layout="nhwc", peak=255),
    "old operator set": Form(opset=11),
    "our own names, swapped": Form(names=("output", "input")),
    "names with slashes": Form(names=("net/input", "in/type:0")),
    "fixed batch": Form(batch=1),
    "fixed size": Form(batch=1, height=24, width=40),
    "fixed nhwc size": Form(layout="nhwc", batch=1, height=24, width=40),
    "fixed height": Form(height=24),
}


@pytest.mark.parametrize("form", FLOAT_FORMS.values(), ids=FLOAT_FORMS)
def test_float_files_of_all_forms_give_the_networks_own_picture_at_any_size(tmp_path, form):
    network_ = opened(tmp_path, form)
    pictures = tiles(batch=2)
    wanted = expected(pictures, scale=form.scale)
    assert (network_.spec.scale, network_.spec.size_multiple, network_.spec.min_px) == (form.scale, 1, 1)
    np.testing.assert_allclose(run_graph(network_.graph(GraphOptions()), pictures), wanted, atol=2e-6)
    static = network_.graph(GraphOptions(batch=2, height=12, width=20))
    np.testing.assert_allclose(run_graph(static, pictures), wanted, atol=2e-6)
    np.testing.assert_allclose(network_.run_reference(pictures), wanted, atol=2e-6)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_uint8_files_take_fractions_of_codes_and_give_whole_ones(tmp_path, layout):
    network_ = opened(tmp_path, Form(layout=layout, picture="uint8", peak=255))
    pictures = tiles()
    codes = np.clip(np.floor(expected(pictures) * 255 + 0.5), 0, 255)
    given = run_graph(network_.graph(GraphOptions()), pictures) * 255
    assert np.abs(given - np.round(given)).max() < 1e-3
    assert np.mean(np.abs(given - codes) > 0.5) < 1e-3  # float32 may round a tie the other way
    assert np.abs(given - codes).max() < 1.5


def test_uint8_pictures_that_are_computed_with_stay_uint8_inside(tmp_path):
    model = network(Form(picture="uint8", peak=255))
    first = model.graph.node[0]
    assert first.op_type == "Cast"
    model.graph.node.insert(0, onnx.helper.make_node("Max", [first.input[0], first.input[0]], ["darker"]))
    model.graph.node[1].input[0] = "darker"
    network_ = load_onnx(inspect_onnx(saved(model, tmp_path)))
    codes = np.random.default_rng(3).integers(0, 256, (1, 3, 12, 20)).astype(np.float32)
    given = run_graph(network_.graph(GraphOptions()), codes / np.float32(255)) * 255
    assert np.abs(given - np.clip(np.floor(expected(codes / np.float32(255)) * 255 + 0.5), 0, 255)).max() < 1.5


@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16"])
def test_files_in_half_precision_are_computed_in_float32_for_reference(tmp_path, arithmetic):
    network_ = opened(tmp_path, Form(arithmetic=arithmetic, opset=22))
    pictures = tiles()
    step = {"float16": 1e-3, "bfloat16": 8e-3}[arithmetic]
    reference = network_.run_reference(pictures)
    assert reference.dtype == np.float32
    np.testing.assert_allclose(reference, expected(pictures), atol=step)
    np.testing.assert_allclose(run_graph(network_.graph(GraphOptions()), pictures), reference, atol=1e-6)


def test_a_float16_file_stays_as_it_is_in_fp16(tmp_path):
    network_ = opened(tmp_path, Form(arithmetic="float16"))
    graph = network_.graph(GraphOptions(precision="fp16", io_dtype="float16"))
    onnx.checker.check_model(graph, full_check=True)
    assert "Cast" not in [node.op_type for node in graph.graph.node]
    given = run_graph(graph, tiles().astype(np.float16))
    assert given.dtype == np.float16
    np.testing.assert_allclose(given, expected(tiles()), atol=2e-3)


def test_a_bfloat16_file_stays_as_it_is_in_bf16_and_others_are_refused(tmp_path):
    graph = opened(tmp_path, Form(arithmetic="bfloat16", opset=22)).graph(GraphOptions(precision="bf16"))
    onnx.checker.check_model(graph, full_check=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(UnsupportedPrecision, match="bf16: its file is fp32"):
        opened(tmp_path / "other", Form()).graph(GraphOptions(precision="bf16"))


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_the_divisor_that_the_sides_need_is_found(tmp_path, unshuffle):
    network_ = opened(tmp_path, Form(unshuffle=unshuffle))
    spec = network_.spec
    assert (spec.size_multiple, spec.min_px, spec.scale) == (unshuffle, unshuffle, 2)
    pictures = tiles(height=3 * unshuffle, width=5 * unshuffle)
    np.testing.assert_allclose(network_.run_reference(pictures), expected(pictures, unshuffle=unshuffle), atol=2e-6)
    with pytest.raises(UnsupportedShape, match=f"height {unshuffle + 1}: sides must be multiples of {unshuffle}"):
        network_.graph(GraphOptions(height=unshuffle + 1, width=unshuffle))


def test_a_shortest_side_is_found(tmp_path):
    model = network()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([0, 0, 5, 5, 0, 0, 5, 5]), name="pads"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([0, 0, 5, 5]), name="starts"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([9999, 9999, -5, -5]), name="stops"))
    padded = onnx.helper.make_node("Pad", ["input", "pads"], ["padded"], mode="reflect")
    cut = onnx.helper.make_node("Slice", ["padded", "starts", "stops"], ["cut"])
    for node in model.graph.node:
        node.input[:] = ["cut" if name == "input" else name for name in node.input]
    for node in (cut, padded):
        model.graph.node.insert(0, node)
    assert inspect_onnx(saved(model, tmp_path)).min_px == 6  # reflecting 5 pixels needs 6


def test_a_file_with_its_size_inside_takes_that_size_only(tmp_path):
    network_ = opened(tmp_path, Form(batch=1, height=24, width=40, has_sizes_inside=True))
    spec = network_.spec
    assert (spec.fixed_batch, spec.fixed_height, spec.fixed_width) == (1, 24, 40)
    assert 24 % spec.size_multiple == 40 % spec.size_multiple == 0
    assert spec.min_px == 24
    pictures = tiles(batch=3, height=24, width=40)
    np.testing.assert_allclose(network_.run_reference(pictures), expected(pictures), atol=2e-6)
    one = network_.graph(GraphOptions(batch=1, height=24, width=40))
    np.testing.assert_allclose(run_graph(one, pictures[:1]), expected(pictures[:1]), atol=2e-6)
    with pytest.raises(UnsupportedShape, match=r"takes 24 pixels height only, not 48.*1 tiles of 40x24") as caught:
        network_.graph(GraphOptions(batch=1, height=48, width=40))
    assert caught.value.hint
    with pytest.raises(UnsupportedShape, match="takes 1 tiles per call only, not any"):
        network_.graph(GraphOptions(height=24, width=40))


def test_a_fixed_size_of_several_tiles_is_kept_and_a_rest_is_filled_up_for_reference(tmp_path):
    network_ = opened(tmp_path, Form(batch=2, height=16, width=16, has_sizes_inside=True))
    assert network_.spec.fixed_batch == 2
    pictures = tiles(batch=3, height=16, width=16)
    np.testing.assert_allclose(network_.run_reference(pictures), expected(pictures), atol=2e-6)


def test_another_enlargement_is_refused_by_number(tmp_path):
    with pytest.raises(UnsupportedShape, match="cannot enlarge by 4, only by 2"):
        opened(tmp_path, Form()).graph(GraphOptions(output_scale=4))


def test_there_is_no_torch_module(tmp_path):
    with pytest.raises(UnsupportedModel, match="torch cannot run"):
        opened(tmp_path, Form()).torch_module()


@pytest.mark.parametrize("opset", [18, 21])
def test_the_operator_set_asked_for_is_written(tmp_path, opset):
    network_ = opened(tmp_path, Form())
    graph = network_.graph(GraphOptions(opset=opset))
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", opset)]
    np.testing.assert_allclose(run_graph(graph, tiles()), expected(tiles()), atol=2e-6)


def test_the_same_file_and_options_give_the_same_bytes_without_the_exporters_remarks(tmp_path):
    model = network()
    model.doc_string = "exported yesterday"
    model.graph.node[0].doc_string = "File /home/me/export.py"
    path = saved(model, tmp_path)
    plain = saved(network(), tmp_path, name="plain.onnx")
    options = GraphOptions(precision="fp16", height=16)
    written = [load_onnx(inspect_onnx(file)).graph(options) for file in (path, path, plain)]
    written[2].graph.name = written[0].graph.name
    assert len({graph.SerializeToString(deterministic=True) for graph in written}) == 1


def test_weights_beside_the_file_are_read(tmp_path):
    path = tmp_path / "large.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="large.data", size_threshold=0)
    assert (tmp_path / "large.data").is_file()
    network_ = load_onnx(inspect_onnx(path))
    np.testing.assert_allclose(network_.run_reference(tiles()), expected(tiles()), atol=2e-6)
    graph = network_.graph(GraphOptions())
    np.testing.assert_allclose(run_graph(graph, tiles()), expected(tiles()), atol=2e-6)


def test_constants_listed_among_the_inputs_are_no_second_picture(tmp_path):
    model = network(Form(opset=9 + 2))
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    network_ = load_onnx(inspect_onnx(saved(model, tmp_path)))
    np.testing.assert_allclose(run_graph(network_.graph(GraphOptions()), tiles()), expected(tiles()), atol=2e-6)


def test_openvino_does_the_trials_where_onnxruntime_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_trial.importlib.util, "find_spec", lambda name: None)
    network_ = opened(tmp_path, Form(unshuffle=2, batch=1, height=24, width=40))
    assert (network_.spec.size_multiple, network_.spec.fixed_height) == (2, None)
    np.testing.assert_allclose(network_.run_reference(tiles()), expected(tiles(), unshuffle=2), atol=1e-5)


def test_a_file_that_changed_after_inspection_is_refused(tmp_path):
    spec = inspect_onnx(saved(network(), tmp_path))
    saved(network(Form(scale=3)), tmp_path)
    with pytest.raises(ModelFileError, match="has changed since it was inspected: scale is 3, not 2"):
        load_onnx(spec)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_our_own_network_in_a_file_is_measured_as_the_table_has_it(tmp_path, precision):
    """Costs counted from a graph agree with those worked out from the layers, and the numbers stay the same."""
    model = find_model("realesr-animevideov3")
    original = load_weights(model)
    spec = inspect_onnx(saved(build_graph(original, precision=precision), tmp_path))
    assert (spec.flop_per_px, spec.receptive_px, spec.features) == (model.flop_per_px, model.receptive_px, 64)
    assert spec.overlap_px == 2 * model.receptive_px
    assert 0.9 < spec.activation_bytes_per_px / model.activation_bytes_per_px < 1.1
    picture = film_tile(height=33, width=47)
    wanted = run_graph(build_graph(original), picture)
    given = load_network(spec).run_reference(picture)
    psnr_db = -10 * np.log10(max(np.mean((given - wanted) ** 2), 1e-14))
    assert psnr_db > {"fp32": 120, "fp16": 60, "bf16": 40}[precision]

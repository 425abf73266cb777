"""The cudnn engine's reader, planner and memory plan: checked by running plans on the processor."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from helpers.plan_on_cpu import PlanOnCpu
from helpers.quiet_networks import small_network
from helpers.tool_modules import load_tool
from onnx import TensorProto, helper, numpy_helper

from engines import find_model
from engines.cudnn.graph import read_graph
from engines.cudnn.joins import find_joins
from engines.cudnn.layers import EnlargeLayer, ShuffleLayer, UnshuffleLayer
from engines.cudnn.memory import lifetimes, plan_memory
from engines.cudnn.phases import split_phases
from engines.cudnn.plan import PlanOptions, plan_network
from engines.cudnn.steps import ConvStep, PackStep, reads, writes
from engines.errors import UnsupportedModel, UnsupportedShape
from engines.networks import GraphOptions, load_network
from engines.tiles import adversarial_tiles, film_tiles

SRVGG, RRDB, X4PLUS, X2PLUS = (
    "realesr-animevideov3",
    "RealESRGAN_x4plus_anime_6B",
    "RealESRGAN_x4plus",
    "RealESRGAN_x2plus",
)
PSNR_FP16_DB = 55.0  # what the engine promises against float32


def onnx_of(network, *, precision, height, width, batch=1, output_scale=None):
    options = GraphOptions(precision=precision, batch=batch, height=height, width=width, output_scale=output_scale)
    return network.graph(options)


def small_onnx(name, *, precision="fp32", **sizes):
    return onnx_of(small_network(find_model(name)), precision=precision, **({"height": 12, "width": 16} | sizes))


def run_onnx(model, tiles):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: tiles})[0].astype(np.float32)


def picture(*, height, width, batch=2):
    rows, columns = np.arange(height)[:, None], np.arange(width)
    waves = 0.5 + 0.4 * np.sin(columns / 5) * np.cos(rows / 7) + np.zeros((batch, 3, 1, 1))
    return np.clip(waves + np.random.default_rng(3).normal(0, 0.04, waves.shape), 0, 1).astype(np.float32)


def psnr_db(one, other):
    return 10 * np.log10(1 / np.mean((one.astype(np.float64) - other) ** 2))


@pytest.mark.parametrize(
    ("name", "changes", "output_scale"),
    [
        (SRVGG, {}, None),
        (SRVGG, {}, 1),
        (SRVGG, {}, 2),
        (RRDB, {}, None),
        (RRDB, {"fold_enlargements": True}, None),
        (X2PLUS, {"fold_enlargements": True, "wide_sums": True}, None),
    ],
)
def test_a_plan_computes_what_the_graph_says(name, changes, output_scale):
    model = small_onnx(name, batch=2, output_scale=output_scale)
    tiles = picture(height=12, width=16)
    plan = plan_network(read_graph(model), options=PlanOptions(**changes))
    np.testing.assert_allclose(PlanOnCpu(plan, rounds=False).run(tiles), run_onnx(model, tiles), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        (SRVGG, 12, 16),
        (RRDB, 12, 16),
        pytest.param(SRVGG, 20, 28, marks=pytest.mark.slow),
        pytest.param(X4PLUS, 12, 16, marks=pytest.mark.slow),
    ],
)
def test_rounding_stored_values_to_fp16_keeps_the_promise(name, height, width):
    """On film and on the pictures that break careless arithmetic, with tiles in float32 as the pipeline gives them."""
    network, sizes = load_network(find_model(name)), {"height": height, "width": width}
    kinds = {"film": film_tiles(**sizes)} | adversarial_tiles(**sizes)
    tiles = np.concatenate(list(kinds.values()))
    plan = plan_network(read_graph(onnx_of(network, precision="fp16", batch=len(kinds), **sizes)))
    exact = onnx_of(network, precision="fp32", batch=len(kinds), **sizes)
    for kind, got, wanted in zip(kinds, PlanOnCpu(plan).run(tiles), run_onnx(exact, tiles), strict=True):
        assert psnr_db(got, wanted) >= PSNR_FP16_DB, kind


@pytest.mark.slow
def test_tiles_keep_more_of_float32_than_float16_holds():
    """Ramps are what RealESRGAN_x4plus magnifies most: with its input alone rounded it is 51.7 dB off at this size."""
    tiles = adversarial_tiles(height=48, width=64)["ramps"]
    model = onnx_of(load_network(find_model(X4PLUS)), precision="fp32", height=48, width=64)
    rounded = PlanOnCpu(plan_network(read_graph(model)))
    assert psnr_db(rounded.run(tiles), run_onnx(model, tiles)) >= PSNR_FP16_DB


def test_nothing_but_convolutions_runs_between_the_ends():
    graph = read_graph(small_onnx(X4PLUS, precision="fp16"))
    plan = plan_network(graph, options=PlanOptions(fold_enlargements=True))
    assert isinstance(plan.steps[0], PackStep)
    assert all(isinstance(step, ConvStep) for step in plan.steps[1:-1])
    assert len(plan.steps) == 1 + 15 + 6 + 2 * 3 + 1  # two convolutions became four phases each


def test_x4plus_at_720p_takes_at_most_a_quarter_of_what_pytorch_does():
    """Where its memory is at its largest, all blocks but one are over: one block is as good as 23."""
    network = small_network(find_model(X4PLUS), features=64, growth=32)
    plan = plan_network(read_graph(onnx_of(network, precision="fp16", height=720, width=1280)))
    joins = find_joins(plan, is_half=True)
    assert len(joins) == 3  # both enlargements and the end
    assert plan_memory(plan).bytes <= plan_memory(plan, joins=joins).bytes <= 5e9


@pytest.fixture(scope="module", params=[SRVGG, RRDB])
def small_plan(request):
    return plan_network(read_graph(small_onnx(request.param, precision="fp16")))


def test_buffers_that_live_at_once_do_not_overlap(small_plan):
    plan, memory, spans = small_plan, plan_memory(small_plan), lifetimes(small_plan)
    for one in range(len(plan.buffers)):
        for other in range(one):
            apart_in_time = spans[one][1] <= spans[other][0] or spans[other][1] <= spans[one][0]
            first, second = sorted((one, other), key=lambda index: memory.offsets[index])
            end = memory.offsets[first] + plan.buffers[first].bytes(plan.batch)
            assert apart_in_time or end <= memory.offsets[second]


def test_no_step_writes_what_it_reads_with_a_halo(small_plan):
    for step in small_plan.steps:
        if isinstance(step, ConvStep):
            source = reads(step)[0]
            for target in writes(step):
                apart = target.first >= source.first + source.channels or source.first >= target.first + target.channels
                assert target.buffer != source.buffer or apart


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_phases_are_the_convolution_of_the_enlarged_picture(factor, size):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(5)
    small = torch.from_numpy(random.random((1, 2, 5, 6), np.float32))
    kernel = random.random((3, 2, size, size), np.float32)
    large = small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    expected = torch.nn.functional.conv2d(large, torch.from_numpy(kernel), padding=size // 2)
    for phase in split_phases(kernel, factor=factor):
        (top, left), (bottom, right) = phase.pad_before, phase.pad_after
        padded = torch.nn.functional.pad(small, (left, right, top, bottom))
        got = torch.nn.functional.conv2d(padded, torch.from_numpy(phase.kernel))
        wanted = expected[:, :, phase.row :: factor, phase.column :: factor]
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5)


def graph_of(nodes, *, shape=(1, 3, 8, 12), output="out", constants=()):
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
    results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants]
    return helper.make_model(helper.make_graph(nodes, "g", values, results, initializers))


def conv(source, target, *, inputs=3, outputs=3, seed=0, **attributes):
    kernel = np.random.default_rng(seed).normal(0, 0.2, (outputs, inputs, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", [source, f"{target}.w"], [target], name=target, **{"pads": [1] * 4, **attributes})
    return node, (f"{target}.w", kernel)


@pytest.mark.parametrize(
    ("node", "named"),
    [
        (helper.make_node("Sigmoid", ["x"], ["out"], name="squash"), "Sigmoid squash"),
        (helper.make_node("Softmax", ["x"], ["out"], name="soft", domain="com.example"), "Softmax soft"),
        (helper.make_node("Resize", ["x", "", "s"], ["out"], name="bilinear", mode="linear"), "Resize bilinear"),
        (helper.make_node("Resize", ["x", "", "s"], ["out"], name="centred", mode="nearest"), "Resize centred"),
        (helper.make_node("DepthToSpace", ["x"], ["out"], name="dcr", blocksize=2), "DepthToSpace dcr"),
        (helper.make_node("Transpose", ["x"], ["out"], name="turn", perm=[0, 1, 3, 2]), "Transpose turn"),
        (helper.make_node("Mul", ["x", "x"], ["out"], name="square"), "Mul square"),
        (helper.make_node("Concat", ["x", "x"], ["out"], name="tall", axis=2), "Concat tall"),
        (helper.make_node("Cast", ["x"], ["out"], name="double", to=TensorProto.DOUBLE), "Cast double"),
    ],
)
def test_what_is_not_known_is_named(node, named):
    scales = np.asarray([1, 1, 2, 2], np.float32)
    with pytest.raises(UnsupportedModel, match=named) as caught:
        read_graph(graph_of([node], constants=[("s", scales)]))
    assert caught.value.hint


@pytest.mark.parametrize("attributes", [{"pads": [0] * 4}, {"strides": [2, 2]}, {"dilations": [2, 2]}, {"group": 3}])
def test_convolutions_of_another_kind_are_named(attributes):
    node, weight = conv("x", "odd", **attributes)
    with pytest.raises(UnsupportedModel, match="Conv odd"):
        read_graph(graph_of([node], output="odd", constants=[weight]))


def test_a_layer_that_no_convolution_takes_along_is_named():
    node = helper.make_node("Relu", ["x"], ["out"], name="alone")
    with pytest.raises(UnsupportedModel, match="alone"):
        plan_network(read_graph(graph_of([node])))


def test_a_concatenation_that_needs_a_copy_is_named():
    parts = [conv("x", name, outputs=8, seed=seed) for seed, name in enumerate("abc")]
    joins = [
        helper.make_node("Concat", ["a", "b"], ["ab"], name="ab", axis=1),
        helper.make_node("Concat", ["b", "c"], ["bc"], name="bc", axis=1),
    ]
    last = [conv("ab", "left", inputs=16), conv("bc", "right", inputs=16)]
    total = helper.make_node("Add", ["left", "right"], ["out"], name="total")
    nodes = [*(node for node, _ in parts), *joins, *(node for node, _ in last), total]
    with pytest.raises(UnsupportedModel, match="Concat bc"):
        plan_network(read_graph(graph_of(nodes, constants=[weight for _, weight in (*parts, *last)])))


def test_a_free_size_is_refused_with_the_sizes():
    model = small_network(find_model(SRVGG)).graph(GraphOptions(batch=1))
    with pytest.raises(UnsupportedShape, match="height"):
        read_graph(model)


def test_a_pixel_unshuffle_as_reshape_and_transpose_is_read():
    """Both ends in six axes, as torch's exporter may write them, with sizes that are not square."""
    nodes = [
        helper.make_node("Reshape", ["x", "six"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 1, 3, 5, 2, 4]),
        helper.make_node("Reshape", ["b", "four"], ["c"]),
    ]
    node, weight = conv("c", "d", inputs=12, outputs=12)
    nodes += [node, helper.make_node("DepthToSpace", ["d"], ["out"], blocksize=2, mode="CRD")]
    constants = [
        ("six", np.asarray([1, 3, 4, 2, 6, 2])),
        ("four", np.asarray([1, 12, 4, 6])),
        weight,
    ]
    model = graph_of(nodes, constants=constants)
    graph = read_graph(model)
    assert [type(layer) for layer in graph.layers[1::2]] == [UnshuffleLayer, ShuffleLayer]
    tiles = picture(height=8, width=12, batch=1)
    got = PlanOnCpu(plan_network(graph), rounds=False).run(tiles)
    np.testing.assert_allclose(got, run_onnx(model, tiles), atol=1e-5)


def test_an_unshuffle_as_a_strided_convolution_is_read():
    """The form in which this package writes RRDBNet x2."""
    random = np.random.default_rng(1)
    kernel = random.normal(0, 0.2, (8, 3, 6, 6)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="y", pads=[2] * 4, strides=[2, 2])
    enlarge = helper.make_node(
        "Resize",
        ["y", "", "s"],
        ["z"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    last, weight = conv("z", "out", inputs=8)
    model = graph_of([node, enlarge, last], constants=[("w", kernel), ("s", np.float32([1, 1, 2, 2])), weight])
    graph = read_graph(model)
    assert any(isinstance(layer, EnlargeLayer) for layer in graph.layers)
    tiles = picture(height=8, width=12, batch=1)
    for fold in (False, True):
        plan = plan_network(graph, options=PlanOptions(fold_enlargements=fold))
        np.testing.assert_allclose(PlanOnCpu(plan, rounds=False).run(tiles), run_onnx(model, tiles), atol=1e-5)


def test_the_table_of_layers_counts_what_a_joined_step_does_not_move():
    """Not the enlarged picture, which is neither written nor read; the arithmetic stays."""
    layers = load_tool("cudnn_layers")
    network = small_network(find_model(X4PLUS), features=64, growth=32)
    plan = plan_network(read_graph(onnx_of(network, precision="fp16", height=100, width=100)))
    row = {"step": "conv_up1", "kernel": [64, 64, 3, 3], "count": 1, "ms": 1.0}

    def cells(by):
        line = layers.table_row(plan, row | {"by": by}, tflops=810.0, tbps=4.0)
        return [cell.strip() for cell in line.split("|")[1:-1]]

    flop, pixel_mb = 2 * 64 * 64 * 9 * 200 * 200, 64 * 2 * 200 * 200 / 1e6
    alone, joined = cells("own"), cells("own, joined")
    assert alone[0] == "conv_up1, 64 -> 64"
    assert "joined" in joined[0]
    assert alone[2] == joined[2] == f"{flop / 1e9:.0f}"
    assert alone[3] == f"{2 * pixel_mb + 0.074:.0f}"
    assert joined[3] == f"{1.25 * pixel_mb + 0.074:.0f}"

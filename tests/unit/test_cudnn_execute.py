"""The cudnn engine's execution on a fake GPU: addresses, strides, weights, choices, checks, scratch memory, closing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.cudnn_double import make_cudnn
from helpers.cudnn_world import KEY, CudnnWorld, noise
from helpers.ends_on_cpu import COMPILER
from helpers.plan_on_cpu import PlanOnCpu
from helpers.quiet_networks import small_network

from engines import find_model
from engines.cudnn import kernels
from engines.cudnn.choices import ChoiceStore
from engines.cudnn.execute import CudnnNetwork
from engines.cudnn.fused import build_fused_graph, constants_of, signature_of
from engines.cudnn.graph import read_graph
from engines.cudnn.joins import find_joins
from engines.cudnn.plan import PlanOptions, plan_network
from engines.errors import InferenceFailed
from engines.networks import GraphOptions

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
SRVGG, RRDB = "realesr-animevideov3", "RealESRGAN_x4plus_anime_6B"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def make_world(monkeypatch, folder):
    worlds = []

    def make(**changes):
        worlds.append(CudnnWorld(folder, **changes))
        worlds[-1].install(monkeypatch)
        return worlds[-1]

    yield make
    for world in worlds:
        world.check_clean()


def plan_of(name, *, height=8, width=8, options=None, features=16):
    graph = small_network(find_model(name), features=features).graph(
        GraphOptions(precision="fp16", io_dtype="float16", batch=1, height=height, width=width)
    )
    return plan_network(read_graph(graph), options=options)


def run(world, plan, store, *, tiles=None, **changes):
    """Open a network, run it twice if there are tiles, close it; gives its kernels' choices and the last picture."""
    stream = world.gpu.make_stream()
    network = CudnnNetwork(
        world.cudnn, plan=plan, device=world.gpu, stream=stream, store=store, io_dtype="float16", **changes
    )
    choices = {one.choice.name for one in network.kernels.chosen.values()}
    picture = None
    if tiles is not None:
        image, target = world.gpu.allocate(tiles.size * 2), world.gpu.allocate(2 * int(np.prod(plan.output_shape)))
        picture = np.full(plan.output_shape, np.nan, np.float16)
        for _ in range(2):
            stream.upload(tiles.astype(np.float16), image.pointer)
            network.enqueue(stream, image=image.pointer, picture=target.pointer)
            stream.download(target.pointer, picture)
            stream.synchronize()
        image.close()
        target.close()
    network.close()
    network.close()
    stream.close()
    return choices, picture


@pytest.mark.parametrize(
    ("name", "options", "graph"),
    [
        (SRVGG, PlanOptions(), True),
        (SRVGG, PlanOptions(), False),
        (RRDB, PlanOptions(), True),
        (RRDB, PlanOptions(fold_enlargements=True, wide_sums=True), False),
    ],
)
def test_what_runs_is_what_was_planned(make_world, tmp_path, name, options, graph):
    world, plan = make_world(), plan_of(name, height=12, width=16, options=options)
    tiles = noise((1, 3, 12, 16))
    _, picture = run(world, plan, ChoiceStore(tmp_path, KEY), tiles=tiles, graph=graph)
    np.testing.assert_allclose(picture.astype(np.float32), PlanOnCpu(plan).run(tiles), atol=4e-3)
    assert any(line.startswith("graph@") for line in world.gpu.log) == graph


def test_a_second_start_makes_only_the_plans_that_were_chosen(make_world, tmp_path):
    world, plan = make_world(), plan_of(SRVGG)
    chosen, _ = run(world, plan, ChoiceStore(tmp_path, KEY))

    def refuse(self, heuristics):
        raise AssertionError("chosen again")

    world.cudnn.pygraph = type("Once", (world.cudnn.pygraph,), {"create_execution_plans": refuse})
    assert run(world, plan, ChoiceStore(tmp_path, KEY)) == (chosen, None)


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"sha256": "", "content": {}}', json.dumps({"content": {"choices": 3}})]
)
def test_a_damaged_file_of_choices_is_made_again(make_world, tmp_path, content, caplog):
    world, plan = make_world(), plan_of(SRVGG)
    run(world, plan, ChoiceStore(tmp_path, KEY))
    (path,) = tmp_path.iterdir()
    before = json.loads(path.read_text())
    path.write_text(content)
    run(world, plan, ChoiceStore(tmp_path, KEY))
    assert "made again" in caplog.text
    assert json.loads(path.read_text())["content"]["choices"].keys() == before["content"]["choices"].keys()


def test_one_changed_digit_in_the_file_of_choices_is_noticed(make_world, tmp_path, caplog):
    world, plan = make_world(), plan_of(SRVGG)
    run(world, plan, ChoiceStore(tmp_path, KEY))
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"engine": 8', '"engine": 5').replace('"engine": 9', '"engine": 5'))
    ChoiceStore(tmp_path, KEY)
    assert "checksum" in caplog.text


def test_a_choice_that_cudnn_does_not_make_any_more_is_made_again(make_world, tmp_path, caplog):
    world, plan = make_world(), plan_of(SRVGG)
    chosen, _ = run(world, plan, ChoiceStore(tmp_path, KEY))

    def refuse(self, engine, knobs):
        raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")

    world.cudnn.pygraph = type("Other", (world.cudnn.pygraph,), {"create_execution_plan": refuse})
    again, _ = run(world, plan, ChoiceStore(tmp_path, KEY))
    assert again <= {"plan8", "plan9"}
    assert "chosen again" in caplog.text
    assert chosen <= {"plan8", "plan9"}


def test_a_plan_that_computes_something_else_is_struck_out_and_named(make_world, tmp_path, caplog):
    world, plan = make_world(wrong={8}), plan_of(SRVGG, height=12, width=16)
    tiles = noise((1, 3, 12, 16))
    chosen, picture = run(world, plan, ChoiceStore(tmp_path, KEY), tiles=tiles)
    assert chosen == {"plan9"}
    assert "plan8 is not used for body_0" in caplog.text
    np.testing.assert_allclose(picture.astype(np.float32), PlanOnCpu(plan).run(tiles), atol=4e-3)


def test_nothing_runs_if_every_plan_is_wrong(make_world, tmp_path):
    world, plan = make_world(wrong={8, 9}), plan_of(SRVGG)
    with pytest.raises(InferenceFailed, match="wrong"):
        run(world, plan, ChoiceStore(tmp_path, KEY))
    for stream in list(world.gpu.streams.values()):
        stream.close()


class OwnDouble:
    """Stands in for our Hopper convolutions of 16 -> 16: a graph of cuDNN's double, right or not."""

    wrong = ()

    def __init__(self, device, *, stream):
        self._gpu, self._stream, self._buffers = device, stream, []
        self._cudnn = make_cudnn(device, wrong=self.wrong)

    def prepare(self, plan, step, *, address):
        if step.kernel.shape != (16, 16, 3, 3):
            return None
        operands = {1: address(step.source), 4: address(step.target)}
        for number, array in constants_of(step).items():
            buffer = self._gpu.allocate(array.nbytes)
            self._buffers.append(buffer)
            self._stream.upload(array, buffer.pointer)
            operands[number] = buffer.pointer
        scratch = self._gpu.allocate(8192)
        self._buffers.append(scratch)
        graph = build_fused_graph(self._cudnn, signature_of(plan, step), handle=None)
        graph.create_execution_plans(["A"])

        class Step:
            def launch(self, stream):
                graph.execute_plan_at_index(operands, scratch.pointer, 1, {"stream": stream.handle})

        return Step()

    def prepare_enlarging(self, plan, enlarge, step, *, address):
        """Reads the small picture when it runs, as the real one does."""
        return self._joined(plan, step, source=enlarge.source, target=step.target, address=address)

    def prepare_finishing(self, plan, step, finish, *, is_half, address):
        return self._joined(plan, step, source=step.source, finish=finish, address=address)

    def _joined(self, plan, step, *, source, address, target=None, finish=None):
        gpu, wrong = self._gpu, self.wrong

        def array(part):
            """Of a whole buffer: address, length and shape."""
            buffer = plan.buffers[part.buffer]
            assert (part.first, part.channels) == (0, buffer.channels)
            return address(part), buffer.bytes(plan.batch), (plan.batch, buffer.height, buffer.width, buffer.channels)

        def read(start, count, shape):
            return torch.from_numpy(gpu.bytes_at(start, count).view(np.float16).reshape(shape).astype(np.float32))

        class Step:
            def launch(self, stream, *, image=0, picture=0):
                size = 2 * int(np.prod(plan.output_shape))
                start, count, shape = (picture, size, plan.output_shape) if finish else array(target)
                base = (image, 2 * plan.batch * 3 * plan.height * plan.width, (plan.batch, 3, plan.height, plan.width))

                def run():
                    small = read(*array(source)).permute(0, 3, 1, 2)
                    factor = step.height // small.shape[2]
                    large = small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
                    kernel = torch.from_numpy(step.kernel).half().float()
                    value = torch.nn.functional.conv2d(large, kernel, torch.from_numpy(step.bias), padding=1)
                    for one in step.epilogue:
                        value = torch.where(value > 0, value, value * torch.from_numpy(one.slopes).view(1, -1, 1, 1))
                    if finish:
                        value = torch.nn.functional.pixel_shuffle(value[:, : 3 * finish.factor**2], finish.factor)
                        if finish.has_base:
                            value += read(*base).repeat_interleave(finish.factor, 2).repeat_interleave(finish.factor, 3)
                    else:
                        value = value.permute(0, 2, 3, 1)
                    result = value.numpy() * (0.9 if "joined" in wrong else 1.0)
                    gpu.bytes_at(start, count).view(np.float16).reshape(shape)[...] = result.astype(np.float16)

                reads = [array(source)[:2], *([base[:2]] if finish and finish.has_base else [])]
                gpu.enqueue(stream.handle, run, name="joined", reads=tuple(reads), writes=((start, count),))

        return Step()

    def close(self):
        while self._buffers:
            self._buffers.pop().close()


@pytest.mark.parametrize("is_wrong", [False, True])
def test_a_kernel_of_ours_runs_only_if_it_is_right(make_world, tmp_path, monkeypatch, caplog, is_wrong):
    world = make_world(compute_capability=(9, 0), wrong={8, 9} if not is_wrong else ())
    world_plan = plan_of(SRVGG, height=12, width=16)
    double = type("Own", (OwnDouble,), {"wrong": {8} if is_wrong else ()})
    monkeypatch.setattr(kernels, "OwnConvolutions", double)
    tiles = noise((1, 3, 12, 16))
    if not is_wrong:  # where cuDNN's are wrong, first and last layer have nothing else
        with pytest.raises(InferenceFailed, match="conv_first"):
            run(world, world_plan, ChoiceStore(tmp_path, KEY))
        for stream in list(world.gpu.streams.values()):
            stream.close()
        return
    for _ in range(2):
        chosen, picture = run(world, world_plan, ChoiceStore(tmp_path, KEY), tiles=tiles)
        assert "own" not in chosen
        np.testing.assert_allclose(picture.astype(np.float32), PlanOnCpu(world_plan).run(tiles), atol=4e-3)
    assert "own is not used for body_0" in caplog.text


def test_a_kernel_of_ours_that_was_chosen_is_taken_again(make_world, tmp_path, monkeypatch):
    world, plan = make_world(compute_capability=(9, 0)), plan_of(SRVGG, height=12, width=16)
    monkeypatch.setattr(kernels, "OwnConvolutions", OwnDouble)
    monkeypatch.setattr("engines.cudnn.choosing.MOST_PLANS_BESIDE_OWN", 0)
    tiles = noise((1, 3, 12, 16))
    for _ in range(2):
        chosen, picture = run(world, plan, ChoiceStore(tmp_path, KEY), tiles=tiles)
        assert "own" in chosen
        np.testing.assert_allclose(picture.astype(np.float32), PlanOnCpu(plan).run(tiles), atol=4e-3)


@pytest.mark.parametrize(("name", "is_wrong"), [(SRVGG, False), (RRDB, False), (RRDB, True)])
def test_steps_are_joined_where_the_joined_kernel_is_right(make_world, tmp_path, monkeypatch, caplog, name, is_wrong):
    """Right or not, the picture is right, in the first start and in the second, which compares nothing."""
    world, plan = make_world(compute_capability=(9, 0)), plan_of(name, height=6, width=8, features=64)
    monkeypatch.setattr(
        kernels, "OwnConvolutions", type("Own", (OwnDouble,), {"wrong": {"joined"} if is_wrong else ()})
    )
    joins = find_joins(plan, is_half=True)
    assert len(joins) == (3 if name == RRDB else 1)
    tiles = noise((1, 3, 6, 8))
    for turn in range(2):
        world.gpu.log.clear()
        _, picture = run(world, plan, ChoiceStore(tmp_path, KEY), tiles=tiles)
        np.testing.assert_allclose(picture.astype(np.float32), PlanOnCpu(plan).run(tiles), atol=4e-3)
        names = [line.partition("@")[0] for line in world.gpu.log]
        assert ("finish" in names) == is_wrong
        assert ("joined" in names) == (turn == 0 or not is_wrong)
    assert ("stay two steps" in caplog.text) == is_wrong

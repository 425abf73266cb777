"""The cudnn engine's execution over host memory: addresses, strides, weights, choices, scratch memory, closing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.cudnn_double import HostDevice, HostStream, make_cudnn
from helpers.ends_on_cpu import COMPILER, run_on_cpu
from helpers.plan_on_cpu import PlanOnCpu

from engines import find_model
from engines.cudnn import ends, execute
from engines.cudnn.choosing import ChoiceKey, ChoiceStore
from engines.cudnn.graph import read_graph
from engines.cudnn.plan import PlanOptions, plan_network
from engines.networks import GraphOptions, load_network

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

KEY = ChoiceKey(
    onnx_sha256="0" * 64,
    gpu_name="host",
    compute_capability=(8, 0),
    driver_version="1",
    cudnn_version=91900,
    frontend_version="1.32.0",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def on_host(monkeypatch, folder):
    class HostKernel:
        def __init__(self, device, source):
            self._source = source

        def launch(self, arguments, *, blocks, stream):
            run_on_cpu(self._source, (arguments, blocks), folder=folder)

        def close(self):
            pass

    monkeypatch.setattr(ends, "OwnKernel", HostKernel)
    monkeypatch.setattr(execute, "_NOISE_BYTES", 1 << 16)


def plan_of(name, *, height, width, options=None):
    graph = load_network(find_model(name)).graph(
        GraphOptions(precision="fp16", io_dtype="float16", batch=1, height=height, width=width)
    )
    return plan_network(read_graph(graph), options=options)


def network_of(plan, store, *, device=None, cudnn=None):
    return execute.CudnnNetwork(
        cudnn or make_cudnn(),
        plan=plan,
        device=device or HostDevice(),
        stream=HostStream(),
        store=store,
        io_dtype="float16",
    )


def infer(network, tiles):
    image = tiles.astype(np.float16)
    picture = np.full(network.plan.output_shape, np.nan, np.float16)
    network.enqueue(HostStream(), image=image.ctypes.data, picture=picture.ctypes.data)
    return picture.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("realesr-animevideov3", PlanOptions()),
        ("RealESRGAN_x4plus_anime_6B", PlanOptions()),
        ("RealESRGAN_x4plus_anime_6B", PlanOptions(fold_enlargements=False, wide_sums=True)),
    ],
)
def test_what_runs_is_what_was_planned(on_host, tmp_path, name, options):
    plan = plan_of(name, height=12, width=16, options=options)
    tiles = np.random.default_rng(4).random((1, 3, 12, 16)).astype(np.float16).astype(np.float32)
    network = network_of(plan, ChoiceStore(tmp_path, KEY))
    np.testing.assert_allclose(infer(network, tiles), PlanOnCpu(plan).run(tiles), atol=4e-3)
    network.close()


def test_closing_gives_all_memory_back(on_host, tmp_path):
    device = HostDevice()
    network = network_of(plan_of("realesr-animevideov3", height=8, width=8), ChoiceStore(tmp_path, KEY), device=device)
    held = sum(array.nbytes for array in device.live.values())
    assert network.device_bytes == held
    network.close()
    network.close()
    assert not device.live


def test_a_second_start_makes_only_the_plan_that_was_chosen(on_host, tmp_path):
    plan = plan_of("realesr-animevideov3", height=8, width=8)
    network_of(plan, ChoiceStore(tmp_path, KEY)).close()
    cudnn = make_cudnn()

    def refuse(self, heuristics):
        raise AssertionError("chosen again")

    cudnn.pygraph = type("Once", (cudnn.pygraph,), {"create_execution_plans": refuse})
    network = network_of(plan, ChoiceStore(tmp_path, KEY), cudnn=cudnn)
    assert {one.kernel.choice.engine for one in network.convolutions.values()} == {8}
    network.close()


@pytest.mark.parametrize("content", ["", "[1]", '{"a": {}}', json.dumps({"a": {"engine": "x", "knobs": 3}})])
def test_a_damaged_file_of_choices_is_made_again(on_host, tmp_path, content, caplog):
    plan = plan_of("realesr-animevideov3", height=8, width=8)
    network_of(plan, ChoiceStore(tmp_path, KEY)).close()
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    network_of(plan, ChoiceStore(tmp_path, KEY)).close()
    assert "made again" in caplog.text
    assert len(json.loads(path.read_text())) == 3

"""The TensorRT runtime on a real GPU: the double over real memory, streams and graphs everywhere; TensorRT and TensorRT
for RTX themselves where they are installed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers.runner_contract import RunnerContract
from numpy.typing import NDArray

import engines.opening
from engines.backends.tensorrt import TensorRtRtxBackend
from engines.canary import random_weights
from engines.errors import BackendUnavailable
from engines.gpu.cuda import CudaDevice, open_device
from engines.gpu.cuda_stream import CudaGraph
from engines.networks import GraphOptions
from engines.networks.layered import LayeredNetwork
from engines.spec import ModelSpec, RunnerSpec
from engines.tiles import film_tiles
from engines.trt.library import library_of, load_trt
from engines.trt.session import TrtSession, open_session
from engines.verify import run_once
from engines.weights import ModelWeights

pytestmark = pytest.mark.gpu

HAS_RTX = any(importlib.util.find_spec(name) for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"))
HAS_TENSORRT = any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_bindings"))
REQUIRE_TENSORRT = os.environ.get("REQUIRE_TENSORRT") == "1"

TINY = ModelSpec(name="tiny", architecture="srvgg", scale=2, features=8, blocks=1, output_scales=(2,), flop_per_px=4000)
"""Random weights: none have to be on the machine."""


def tiny_network(model: ModelSpec = TINY) -> LayeredNetwork:
    return LayeredNetwork(weights=random_weights(model, seed=5))


class DeviceArray:
    """An array in memory of our own CUDA layer."""

    def __init__(self, device: CudaDevice, content: NDArray[Any]) -> None:
        self.device, self.shape, self.dtype = device, content.shape, content.dtype
        self.buffer = device.allocate(content.nbytes)
        stream = device.make_stream()
        stream.upload(np.ascontiguousarray(content), self.buffer.pointer)
        stream.close()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (self.buffer.pointer, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": data, "strides": None, "version": 3}

    def fetch(self) -> NDArray[Any]:
        result = np.empty(self.shape, self.dtype)
        stream = self.device.make_stream()
        stream.download(self.buffer.pointer, result)
        stream.close()
        return result


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return open_device(0)


def spec_of(device: CudaDevice, *, backend: str, height: int = 20, width: int = 28, slots: int = 2) -> RunnerSpec:
    return RunnerSpec(
        model=TINY,
        backend=backend,
        device=device.name,
        precision="fp32",
        batch=1,
        height=height,
        width=width,
        scale=TINY.scale,
        slots=slots,
    )


class TestDoubleOverCuda:
    """Everything but TensorRT is real: memory, copies, streams, events, graphs."""

    @pytest.fixture(params=["tensorrt-10.13", "tensorrt-11.4", "tensorrt_rtx-1.7"])
    def session(self, request: pytest.FixtureRequest, device: CudaDevice) -> Iterator[TrtSession]:
        pytest.importorskip("onnxruntime")
        from helpers.cuda_launcher import CudaLauncher
        from helpers.trt_double import make_trt
        from helpers.trt_gate import load_flavour
        from helpers.trt_plan import Plan

        launcher = CudaLauncher(device)
        flavour = load_flavour(request.param)
        trt = make_trt(request.param, launcher)
        shape = (1, 3, 20, 28)
        plan = Plan(
            library=flavour.library,
            version=flavour.version,
            compute_capabilities=("",)
            if flavour.library == "tensorrt_rtx"
            else ("{}.{}".format(*device.compute_capability),),
            input="input",
            output="output",
            dtype="float32",
            scale=TINY.scale,
            profile=(shape, shape, shape),
        )
        if flavour.library == "tensorrt_rtx":
            launcher.compute_capability = (8, 9)  # the double's RTX refuses 9.0 as the real one does
        onnx = tiny_network().graph(GraphOptions(batch=1, height=20, width=28)).SerializeToString()
        library = library_of(flavour.library, trt)  # type: ignore[arg-type]
        spec = spec_of(device, backend=flavour.library)
        with open_session(spec, library=library, plan=plan.pack(onnx), device=device) as session:
            yield session
        launcher.close()

    def wanted(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        return tiny_network().run_reference(tiles)

    def test_host_arrays_give_the_right_numbers_with_and_without_a_graph(
        self, session: TrtSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two slots, eight calls: the first of each slot is plain, the other six are replayed."""
        launched = []
        launch = CudaGraph.launch
        monkeypatch.setattr(CudaGraph, "launch", lambda self, stream: launched.append(launch(self, stream)))
        for turn in range(8):
            tiles = film_tiles(height=20, width=28) * np.float32(1 - turn / 16)
            np.testing.assert_allclose(run_once(session, tiles), self.wanted(tiles), atol=1e-4)
        assert len(launched) == (0 if session.spec.backend == "tensorrt_rtx" else 6)

    def test_all_slots_in_flight(self, session: TrtSession) -> None:
        inputs = [film_tiles(height=20, width=28) * np.float32(1 - turn / 32) for turn in range(12)]
        outs = [np.full(session.spec.output_shape, np.nan, np.float32) for _ in inputs]
        completions = [session.infer(tiles, out=out) for tiles, out in zip(inputs, outs, strict=True)]
        for tiles, out, completion in zip(inputs, outs, completions, strict=True):
            completion.wait()
            np.testing.assert_allclose(out, self.wanted(tiles), atol=1e-4)

    def test_pinned_arrays_of_the_caller(self, session: TrtSession, device: CudaDevice) -> None:
        tiles = film_tiles(height=20, width=28)
        wanted = self.wanted(tiles)
        source, target = device.allocate_pinned(tiles.nbytes), device.allocate_pinned(wanted.nbytes)
        view = source.array.view(np.float32).reshape(tiles.shape)
        view[:] = tiles
        out = target.array.view(np.float32).reshape(wanted.shape)
        for _ in range(5):
            out[:] = 0
            session.infer(view, out=out).wait()
            np.testing.assert_allclose(out, wanted, atol=1e-4)
        source.close()
        target.close()

    def test_gpu_arrays_on_the_callers_stream_without_a_wait_between(
        self, session: TrtSession, device: CudaDevice
    ) -> None:
        stream = device.make_stream()
        inputs = [film_tiles(height=20, width=28) * np.float32(1 - turn / 16) for turn in range(6)]
        source = DeviceArray(device, inputs[0])
        target = DeviceArray(device, np.zeros(session.spec.output_shape, np.float32))
        results = [np.zeros(session.spec.output_shape, np.float32) for _ in inputs]
        for tiles, result in zip(inputs, results, strict=True):
            stream.upload(tiles, source.buffer.pointer)
            session.infer(source, out=target, stream=stream.handle)
            stream.download(target.buffer.pointer, result)
        stream.synchronize()
        for tiles, result in zip(inputs, results, strict=True):
            np.testing.assert_allclose(result, self.wanted(tiles), atol=1e-4)
        stream.close()

    def test_tensors_and_streams_of_torch(self, session: TrtSession) -> None:
        torch = pytest.importorskip("torch")
        stream = torch.cuda.Stream()
        tiles = film_tiles(height=20, width=28)
        with torch.cuda.stream(stream):
            source = torch.from_numpy(tiles).cuda()
            target = torch.zeros(session.spec.output_shape, device="cuda")
            for _ in range(4):
                session.infer(source, out=target, stream=stream)
            doubled = target * 2
        stream.synchronize()
        np.testing.assert_allclose(doubled.cpu().numpy(), self.wanted(tiles) * 2, atol=1e-4)


@pytest.mark.skipif(not HAS_RTX, reason="TensorRT for RTX is not installed")
def test_tensorrt_rtx_says_clearly_where_it_does_not_run(device: CudaDevice) -> None:
    """On compute capability 9.0 both the choice and a plan that was built elsewhere end in one clear error."""
    if device.compute_capability != (9, 0):
        pytest.skip("TensorRT for RTX runs on this GPU")
    with pytest.raises(BackendUnavailable, match=r"9\.0") as caught:
        TensorRtRtxBackend().choose(model=TINY, precision="auto")
    assert "tensorrt" in caught.value.hint
    from engines.build_options import BuildOptions
    from engines.trt.builder import build_plan
    from engines.trt.profile import plan_profile
    from engines.trt.settings import plan_settings

    library = load_trt("tensorrt_rtx")
    options = BuildOptions(compute_capabilities=("8.9",))
    built = build_plan(
        library,
        onnx=tiny_network().graph(GraphOptions(batch=1, height=20, width=28)).SerializeToString(),
        profile=plan_profile(options, batch=1, height=20, width=28),
        settings=plan_settings(library, options, gpu=None),
    )
    with pytest.raises(BackendUnavailable, match=r"9\.0") as caught:
        open_session(spec_of(device, backend="tensorrt_rtx"), library=library, plan=built.plan, device=device)
    assert "torch" in caught.value.hint


class OverReal(RunnerContract):
    """The runner contract with a real library, where one is installed that supports this GPU."""

    __test__ = False
    precisions = ("fp32", "fp16")
    refused_precision = "bf16"
    refused_model = "nearest-x4"
    arrays: ClassVar[list[DeviceArray]] = []

    @pytest.fixture(autouse=True)
    def _real(self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        name = str(self.backend)
        if not (HAS_RTX if name == "tensorrt_rtx" else HAS_TENSORRT) and not REQUIRE_TENSORRT:
            pytest.skip(f"{name} is not installed")
        device = open_device(0)
        if name == "tensorrt_rtx" and device.compute_capability == (9, 0):
            pytest.skip("TensorRT for RTX does not support this GPU")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "engines"))
        weights: dict[str, ModelWeights] = {}

        def load(model: ModelSpec) -> LayeredNetwork:
            return LayeredNetwork(weights=weights.setdefault(model.name, random_weights(model, seed=5)))

        monkeypatch.setattr(engines.opening, "load_network", load)
        yield
        while self.arrays:
            self.arrays.pop().buffer.close()

    def to_device(self, array: NDArray[Any]) -> Any:
        self.arrays.append(DeviceArray(open_device(0), array))
        return self.arrays[-1]

    def to_host(self, array: Any) -> NDArray[Any]:
        return array.fetch()

    def stream(self) -> Any:
        return open_device(0).make_stream().handle

    def test_precision_that_it_lacks_is_refused_with_a_hint(self) -> None:
        if open_device(0).compute_capability >= (8, 0):
            pytest.skip("this GPU computes in every precision")
        super().test_precision_that_it_lacks_is_refused_with_a_hint()


class TestRealTensorRt(OverReal):
    __test__ = True
    backend = "tensorrt"


class TestRealTensorRtRtx(OverReal):
    __test__ = True
    backend = "tensorrt_rtx"

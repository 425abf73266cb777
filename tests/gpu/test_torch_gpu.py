"""torch on a CUDA GPU: the runner contract, and what only a GPU can break. The weights are random: none are needed."""

from __future__ import annotations

import gc
import importlib.util
import os
import time
from typing import Any

import numpy as np
import pytest
from helpers.quiet_networks import quiet_network
from helpers.runner_contract import RunnerContract
from numpy.typing import NDArray

from engines import (
    BackendUnavailable,
    InferenceFailed,
    ModelSpec,
    OutOfDeviceMemory,
    UnsupportedShape,
    choose_backend,
    find_model,
    open_runner,
)
from engines.build_options import BuildOptions
from engines.reference import run_reference
from engines.tiles import adversarial_tiles, film_tiles
from engines.verify import compare_arrays, run_once

if importlib.util.find_spec("torch") is not None:
    import torch

    HAS_GPU = torch.cuda.is_available()
else:
    HAS_GPU = False

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU and os.environ.get("REQUIRE_GPU") != "1", reason="there is no CUDA GPU"),
]

SRVGG = "realesr-animevideov3"
RRDB = "RealESRGAN_x4plus_anime_6B"


@pytest.fixture(autouse=True)
def random_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.opening.load_network", quiet_network)


def open_torch(**changes: Any) -> Any:
    arguments = {"model": SRVGG, "backend": "torch", "device": "cuda", "height": 20, "width": 28}
    return open_runner(**(arguments | changes))


class TestTorchOnCuda(RunnerContract):
    backend = "torch"
    device = "cuda"
    precisions = ("fp32", "fp16", "bf16")
    refused_precision = "fp64"
    refused_model = "nearest-x4"

    def to_device(self, array: NDArray[Any]) -> Any:
        return torch.from_numpy(array).cuda()

    def to_host(self, array: Any) -> NDArray[Any]:
        result: NDArray[Any] = array.cpu().numpy()
        return result

    def test_precision_that_it_lacks_is_refused_with_a_hint(self) -> None:
        """A GPU of compute capability 8 has all three; older ones lack bf16."""
        if torch.cuda.get_device_capability() >= (8, 0):
            assert choose_backend(model=SRVGG, backend="torch", device="cuda", precision="bf16").precision == "bf16"
        else:
            self.refused_precision = "bf16"
            super().test_precision_that_it_lacks_is_refused_with_a_hint()


@pytest.mark.parametrize("model", [SRVGG, RRDB])
@pytest.mark.parametrize(("precision", "least_db"), [("fp32", 100.0), ("fp16", 50.0), ("bf16", 35.0)])
def test_numbers_are_those_of_the_reference(model: str, precision: str, least_db: float) -> None:
    """fp32 also shows that TF32 is off: it would reach no more than fp16."""
    weights = quiet_network(find_model(model)).weights
    with open_torch(model=model, precision=precision, height=37, width=50, batch=2) as runner:
        tiles = {"film": film_tiles(height=37, width=50, batch=2)}
        for name, batch in (tiles | adversarial_tiles(height=37, width=50, batch=2)).items():
            wanted = run_reference(weights, tiles=batch)
            difference = compare_arrays(run_once(runner, batch), wanted)
            assert difference.psnr_db >= least_db, (name, difference)


@pytest.mark.parametrize("output_scale", [1, 2])
def test_folded_network_is_the_box_average_of_the_whole_one(output_scale: int) -> None:
    tiles = film_tiles(height=24, width=20)
    with open_torch(height=24, width=20, precision="fp32") as whole:
        wanted = run_once(whole, tiles)
    factor = 4 // output_scale
    box = wanted.reshape(1, 3, 24 * output_scale, factor, 20 * output_scale, factor).mean(axis=(3, 5))
    with open_torch(height=24, width=20, precision="fp32", output_scale=output_scale) as folded:
        assert compare_arrays(run_once(folded, tiles), box).max_abs <= 1e-5


def test_network_is_recorded_into_a_graph_and_gives_the_same_bits_without() -> None:
    tiles = film_tiles(height=20, width=28)
    with open_torch() as recorded, open_torch(build=BuildOptions(cuda_graph=False)) as eager:
        assert recorded.spec.notes == ()
        assert np.array_equal(run_once(recorded, tiles), run_once(eager, tiles))


class WaitingNetwork:
    """A network that waits for the GPU in the middle, which no graph can record."""

    def __init__(self, model: ModelSpec, *, wait: Any) -> None:
        self.spec = model
        self.wait = wait

    def torch_module(self) -> Any:
        inner, wait = quiet_network(self.spec).torch_module(), self.wait

        class Waiting(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, image: Any) -> Any:
                wait(image)
                return self.inner(image)

        return Waiting().eval()


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param(lambda image: image.sum().item(), id="reads a value"),
        pytest.param(lambda image: torch.cuda.current_stream().synchronize(), id="synchronises"),
    ],
)
def test_network_that_cannot_be_recorded_runs_without_a_graph_and_says_so(
    monkeypatch: pytest.MonkeyPatch, wait: Any
) -> None:
    tiles = film_tiles(height=20, width=28)
    with open_torch(precision="fp32") as whole:
        wanted = run_once(whole, tiles)
    monkeypatch.setattr("engines.opening.load_network", lambda model: WaitingNetwork(model, wait=wait))
    with open_torch(precision="fp32") as runner:
        assert "without a CUDA graph" in runner.spec.notes[0]
        for _ in range(runner.spec.slots + 1):
            assert np.array_equal(run_once(runner, tiles), wanted)
    assert torch.rand(2, device="cuda").isfinite().all()  # a failed capture leaves torch's random numbers broken
    monkeypatch.setattr("engines.opening.load_network", quiet_network)
    with open_torch(precision="fp32") as runner:
        assert runner.spec.notes == ()
        assert np.array_equal(run_once(runner, tiles), wanted)


def test_network_that_overflows_is_refused_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.opening.load_network", lambda model: quiet_network(model, gain=1e6))
    with pytest.raises(InferenceFailed, match="overflows in fp16") as caught:
        open_torch(precision="fp16")
    assert "fp32" in caught.value.hint


def test_too_large_a_tile_is_an_error_with_figures_and_takes_no_memory_with_it() -> None:
    gc.collect()
    before = torch.cuda.memory_allocated()
    with pytest.raises(OutOfDeviceMemory, match="32768x32768") as caught:
        open_torch(height=32768, width=32768)
    assert caught.value.needed_bytes > caught.value.free_bytes > 0
    assert "smaller tiles" in caught.value.hint
    assert torch.cuda.memory_allocated() < before + 2**30  # nothing but the weights, while the error is looked at
    del caught
    gc.collect()
    assert torch.cuda.memory_allocated() == before
    with open_torch() as runner:
        assert np.isfinite(run_once(runner, film_tiles(height=20, width=28))).all()


def test_closing_gives_the_memory_back() -> None:
    open_torch().close()
    gc.collect()
    before = torch.cuda.memory_allocated()
    open_torch(height=200, width=200).close()
    assert torch.cuda.memory_allocated() == before


def test_page_locked_arrays_are_used_in_place() -> None:
    with open_torch() as runner:
        tiles = film_tiles(height=20, width=28)
        wanted = run_once(runner, tiles)
        pinned = torch.from_numpy(tiles).pin_memory().numpy()
        outs = [torch.empty(runner.spec.output_shape, pin_memory=True).numpy() for _ in range(2 * runner.spec.slots)]
        for completion in [runner.infer(pinned, out=out) for out in outs]:
            completion.wait()
        assert all(np.array_equal(out, wanted) for out in outs)


class Handle:
    """A stream of another library."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.stream.cuda_stream)


class Interface:
    """An array of another library, seen through one protocol alone."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


class CudaArray(Interface):
    @property
    def __cuda_array_interface__(self) -> Any:
        return self.tensor.__cuda_array_interface__


class DlpackArray(Interface):
    def __dlpack__(self, **arguments: Any) -> Any:
        return self.tensor.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize("array", [lambda tensor: tensor, CudaArray, DlpackArray], ids=["torch", "cai", "dlpack"])
@pytest.mark.parametrize("form", [lambda s: s, lambda s: s.cuda_stream, Handle], ids=["torch", "handle", "protocol"])
def test_caller_stream_orders_a_call_that_does_not_wait(form: Any, array: Any) -> None:
    """Slow work before it in the stream is waited for, work after it sees the result, and the host goes on at once."""
    with open_torch() as runner:
        host = film_tiles(height=20, width=28)
        wanted = run_once(runner, host)
        source = torch.from_numpy(host).cuda()
        tiles = torch.zeros_like(source)
        out = torch.zeros(runner.spec.output_shape, device="cuda")
        stream = torch.cuda.Stream()
        torch.cuda.synchronize()
        begin_s = time.perf_counter()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(1_000_000_000)  # cycles: about half a second
            tiles.copy_(source)
            completion = runner.infer(array(tiles), out=array(out), stream=form(stream))
            after = out.clone()
            out.zero_()
        assert time.perf_counter() - begin_s < 0.2
        completion.wait()
        stream.synchronize()
        assert time.perf_counter() - begin_s > 0.2
        assert np.array_equal(after.cpu().numpy(), wanted)


def test_stream_of_none_and_zero_is_the_default_stream() -> None:
    with open_torch() as runner:
        host = film_tiles(height=20, width=28)
        wanted = run_once(runner, host)
        for stream in (None, 0):
            tiles, out = torch.from_numpy(host).cuda(), torch.zeros(runner.spec.output_shape, device="cuda")
            runner.infer(tiles, out=out, stream=stream)
            assert np.array_equal(out.cpu().numpy(), wanted)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda tiles, out: (tiles[:, :, 1:], out), id="short tiles"),
        pytest.param(lambda tiles, out: (tiles.half(), out), id="float16 tiles"),
        pytest.param(lambda tiles, out: (tiles.cpu(), out), id="tiles on the host"),
        pytest.param(lambda tiles, out: (tiles, out.contiguous(memory_format=torch.channels_last)), id="channels last"),
    ],
)
def test_wrong_arrays_on_the_gpu_are_refused_before_anything_runs(spoil: Any) -> None:
    with open_torch() as runner:
        tiles = torch.zeros(runner.spec.input_shape, device="cuda")
        out = torch.zeros(runner.spec.output_shape, device="cuda")
        wrong_tiles, wrong_out = spoil(tiles, out)
        with pytest.raises(UnsupportedShape):
            runner.infer(wrong_tiles, out=wrong_out)
        with pytest.raises(InferenceFailed, match="stream"):
            runner.infer(tiles, out=out, stream="fast lane")
        runner.infer(tiles, out=out).wait()
        assert bool(torch.isfinite(out).all())


def test_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendUnavailable, match="cuda:99") as caught:
        open_torch(device="cuda:99")
    assert "cuda:0" in caught.value.hint


def test_auto_takes_an_nvidia_gpu_and_tells_its_free_memory() -> None:
    choice = choose_backend(model=SRVGG, device="cuda")
    assert choice.backend in ("tensorrt", "tensorrt_rtx", "torch")
    assert choice.device == torch.cuda.get_device_name()
    assert choice.device_memory_bytes
    assert all(passed.reason for passed in choice.passed_over)

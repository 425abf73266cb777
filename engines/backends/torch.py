"""PyTorch: the reference on the CPU, and on a GPU an engine that needs no compiler beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch

from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.errors import (
    BackendUnavailable,
    EngineError,
    InferenceFailed,
    UnsupportedModel,
    UnsupportedPrecision,
    UnsupportedShape,
    run_error,
)
from engines.networks.layered import LayeredNetwork
from engines.runner import FinishedCompletion, Runner, Tiles, check_arrays
from engines.spec import ModelSpec, Precision, RunnerSpec
from engines.torch_modules import layered_module

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

GPU_SLOTS = 3
"""One inference that uploads, one that computes and one that downloads. Measured on an H200, realesr-animevideov3,
1920x1080, fp16, host arrays in float32: 25, 49, 53 and 53 tiles a second with 1, 2, 3 and 4 slots; 53 on GPU arrays."""


class TorchBackend:
    """Runs a network's torch module: float32 or bfloat16 on the CPU, all three precisions on a GPU."""

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest, device: str = "auto") -> BackendChoice:
        """See ``engines.backend.Backend``.

        ``auto`` is bf16 on a CPU that computes it natively, otherwise fp32; fp16 on a GPU with matrix units for it.
        """
        if model.architecture == "nearest":
            raise UnsupportedModel(f"backend torch cannot run {model.name}: it is no network", hint="use resize")
        if model.architecture == "onnx":
            raise UnsupportedModel(
                f"backend torch cannot run {model.name}: it is an ONNX file", hint="choose backend auto or onnxruntime"
            )
        target = _parse_device(device)
        chosen, why = _choose_precision(precision, device=target)
        on_gpu = target.type == "cuda"
        try:
            name = torch.cuda.get_device_name(target) if on_gpu else "CPU"
            free_bytes = torch.cuda.mem_get_info(target)[0] if on_gpu else None
        except RuntimeError as exc:
            raise BackendUnavailable(
                f"torch cannot use {target}: {exc}", missing=str(target), hint="update the driver, or choose device cpu"
            ) from exc
        return BackendChoice(
            backend="torch",
            precision=chosen,
            device=name,
            device_id=str(target),
            slots=GPU_SLOTS if on_gpu else 1,
            activation_share=0.0 if on_gpu else 1.0,
            device_memory_bytes=free_bytes,
            reason=f"torch {torch.__version__.partition('+')[0]} runs {model.name} in {chosen} on {name}: {why}",
        )

    def open(self, request: RunnerRequest) -> Runner:
        """See ``engines.backend.Backend``."""
        module = _network_module(request, dtype=DTYPES[request.precision])
        if request.device_id == "cpu":
            return TorchCpuRunner(request.runner_spec("torch"), module=module, threads=request.threads)
        from engines.backends.torch_cuda import TorchCudaRunner

        return TorchCudaRunner(
            request.runner_spec("torch", slots=request.slots),
            module=module,
            device=torch.device(request.device_id),
            use_graph=request.build.cuda_graph,
        )


class TorchCpuRunner:
    """A module on the CPU; an inference is over when ``infer`` returns."""

    def __init__(self, spec: RunnerSpec, *, module: torch.nn.Module, threads: int) -> None:
        self.spec = spec
        self._module: torch.nn.Module | None = module
        self._threads = threads

    def infer(self, tiles: Tiles, *, out: Tiles, stream: Any = None) -> FinishedCompletion:  # noqa: ARG002
        """See ``engines.runner.Runner``; done when it returns."""
        if self._module is None:
            raise EngineError("this runner is closed")
        check_arrays(self.spec, tiles=tiles, out=out)
        try:
            with torch.inference_mode(), _cpu_threads(self._threads):
                # torch warns of read-only memory, which it could write to
                image = torch.from_numpy(tiles) if tiles.flags.writeable else torch.tensor(tiles)
                result = self._module(image.float())
                check_result(self.spec, result)
                torch.from_numpy(out).copy_(result)
        except RuntimeError as exc:
            raise run_error(f"torch failed: {exc}", on_gpu=False) from exc
        return FinishedCompletion()

    def close(self) -> None:
        """See ``engines.runner.Runner``."""
        self._module = None

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        self.close()


def check_result(spec: RunnerSpec, result: torch.Tensor) -> None:
    """Check what a network returned, so that copying cannot broadcast it into something else.

    Raises:
        InferenceFailed: It has another shape than the runner promises.
    """
    if tuple(result.shape) != spec.output_shape:
        raise InferenceFailed(
            f"{spec.model.name} gave {tuple(result.shape)} for tiles of {spec.input_shape}, not {spec.output_shape}"
        )


class CastingNetwork(torch.nn.Module):
    """A network of another library, which takes tiles in no other type than its own."""

    def __init__(self, network: torch.nn.Module, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.dtype = dtype

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) of any floating type -> (N, 3, s*H, s*W) in the network's."""
        result: torch.Tensor = self.network(image.to(self.dtype))
        return result


def _network_module(request: RunnerRequest, *, dtype: torch.dtype) -> torch.nn.Module:
    """The module that computes in ``dtype``, takes float32 tiles and enlarges by exactly what was asked for."""
    network = request.network
    if isinstance(network, LayeredNetwork):
        return layered_module(network.weights, output_scale=request.output_scale).to(dtype)
    if request.output_scale != network.spec.scale:
        raise UnsupportedShape(
            f"{network.spec.name} enlarges by {network.spec.scale}, not {request.output_scale}",
            hint="leave output_scale out and resample the result",
        )
    return CastingNetwork(network.torch_module(), dtype=dtype)


def _parse_device(device: str) -> torch.device:
    """Say which torch device is meant by the user's words.

    Raises:
        BackendUnavailable: There is no such device here.
    """
    words = device.casefold().replace(".", ":").replace("gpu", "cuda")
    if words == "cpu" or (words == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    kind, _, number = "cuda:0".partition(":") if words == "auto" else words.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise BackendUnavailable(
            f"torch has no device {device!r}", missing=device, hint="choose device auto, cpu, cuda or cuda:1 ..."
        )
    if not torch.cuda.is_available():
        why = "it sees no CUDA GPU" if torch.version.cuda else "it is built for the CPU alone"
        raise BackendUnavailable(
            f"torch {torch.__version__} cannot run on {device}: {why}",
            missing=device,
            hint="install a CUDA build of torch (pytorch.org/get-started) and an NVIDIA driver, or choose device cpu",
        )
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise BackendUnavailable(
            f"there is no device {device}: torch sees {torch.cuda.device_count()} GPU(s)",
            missing=device,
            hint=f"choose device cuda:0 to cuda:{torch.cuda.device_count() - 1}",
        )
    return torch.device("cuda", index)


def _choose_precision(precision: PrecisionRequest, *, device: torch.device) -> tuple[Precision, str]:
    """Say the precision and why.

    Raises:
        UnsupportedPrecision: The device has no such arithmetic.
    """
    if precision == "fp8":
        raise UnsupportedPrecision("torch has no fp8 convolution", hint="choose precision auto, or backend cudnn")
    if device.type == "cpu":
        if precision == "fp16":
            raise UnsupportedPrecision(
                "torch convolves no fp16 on the CPU at a useful speed", hint="choose precision auto, fp32 or bf16"
            )
        if precision != "auto":
            return precision, "as the config says"
        if _has_native_bfloat16():
            return "bf16", "the CPU computes bfloat16 natively"
        return "fp32", "the CPU has no native bfloat16 that torch knows of"
    # Source: NVIDIA's tensor cores compute fp16 from compute capability 7.0, bf16 from 8.0
    capability = torch.cuda.get_device_capability(device)
    if precision == "bf16" and capability < (8, 0):
        raise UnsupportedPrecision(
            f"{torch.cuda.get_device_name(device)} has no bf16 arithmetic",
            hint="choose precision auto, fp32 or fp16",
        )
    if precision != "auto":
        return precision, "as the config says"
    if capability >= (7, 0):
        return "fp16", "the GPU has matrix units for it"
    return "fp32", "the GPU has no fp16 matrix units"


def _has_native_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; False where torch is too old to say (before 2.12)."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads for a while; 0 leaves it as it is. torch keeps the number per calling thread."""
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""A fake GPU with a double of TensorRT on it, and engines for it."""

from __future__ import annotations

import functools
import gc
from typing import Any

import numpy as np
import onnxruntime
import pytest
from helpers.gpu_double import FakeDeviceArray, FakeGpu
from helpers.trt_double import live_objects, make_trt
from helpers.trt_gate import load_flavour
from helpers.trt_plan import Plan
from numpy.typing import NDArray

import engines.backends.tensorrt as backend_module
from engines.gpu.cuda import DeviceIdentity
from engines.models import find_model
from engines.networks import GraphOptions, load_network
from engines.spec import RunnerSpec
from engines.tiles import film_tiles
from engines.trt.library import TrtLibrary, library_of
from engines.trt.session import TrtSession, open_session

MODEL = "realesr-animevideov3"


class World:
    """A fake GPU with one library on it."""

    def __init__(
        self, flavour: str, *, compute_capability: tuple[int, int] = (8, 9), total_bytes: int = 1 << 30
    ) -> None:
        self.flavour = flavour
        self.gpu = FakeGpu(compute_capability=compute_capability, total_bytes=total_bytes)
        self.trt = make_trt(flavour, self.gpu)
        self.library: TrtLibrary = library_of(load_flavour(flavour).library, self.trt)  # type: ignore[arg-type]
        self.arrays: list[FakeDeviceArray] = []
        self.streams: list[Any] = []

    def array(self, content: NDArray[Any]) -> FakeDeviceArray:
        """Put an array on the GPU; it is given back at the end of the test."""
        self.arrays.append(FakeDeviceArray(self.gpu, content))
        return self.arrays[-1]

    def stream(self) -> Any:
        """A stream of the caller's."""
        self.streams.append(self.gpu.make_stream())
        return self.streams[-1]

    def check_clean(self) -> None:
        """Check that the code under test gave everything back."""
        for stream in self.streams:
            stream.close()
        for array in self.arrays:
            array.buffer.close()
        self.gpu.check_clean()
        if live_objects(self.trt):
            gc.collect()  # what only a cycle held is nobody's leak
        assert live_objects(self.trt) == []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let the backends find this library and this GPU."""
        listed = DeviceIdentity(
            index=0,
            name=self.gpu.name,
            compute_capability=self.gpu.compute_capability,
            total_bytes=self.gpu.total_bytes,
            driver_version=self.gpu.driver_version,
        )
        patch.setattr(backend_module, "load_trt", lambda _: self.library)
        patch.setattr(backend_module, "list_devices", lambda: (listed,))
        patch.setattr(backend_module, "open_device", lambda _: self.gpu)


@functools.cache
def graph_bytes(**options: Any) -> bytes:
    """ONNX graph of the smallest network of the table."""
    content: bytes = load_network(find_model(MODEL)).graph(GraphOptions(**options)).SerializeToString()
    return content


def plan_of(
    world: World,
    *,
    least: tuple[int, ...] = (1, 3, 8, 12),
    most: tuple[int, ...] | None = None,
    **changes: Any,
) -> bytes:
    """An engine of the double, as its compiler would have written it."""
    is_static = most is None
    fields = {
        "library": load_flavour(world.flavour).library,
        "version": world.library.version,
        "compute_capabilities": ("8.9",),
        "input": "input",
        "output": "output",
        "dtype": "float32",
        "scale": 4,
        "profile": (least, most or least, most or least),
    }
    sizes = {"batch": least[0], "height": least[2], "width": least[3]} if is_static else {}
    return Plan(**(fields | changes)).pack(graph_bytes(**sizes))


def spec_of(world: World, **changes: Any) -> RunnerSpec:
    fields = {
        "model": find_model(MODEL),
        "backend": load_flavour(world.flavour).library,
        "device": "Fake GPU",
        "precision": "fp32",
        "batch": 1,
        "height": 8,
        "width": 12,
        "scale": 4,
        "slots": 2,
    }
    return RunnerSpec(**(fields | changes))


def open_on(world: World, plan: bytes, **changes: Any) -> TrtSession:
    options = {name: changes.pop(name) for name in ("cuda_graph", "kernels", "keep_kernels") if name in changes}
    return open_session(spec_of(world, **changes), library=world.library, plan=plan, device=world.gpu, **options)


def wanted_of(plan: bytes, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(Plan.unpack(plan)[1], providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"input": tiles})[0]
    return result


def tiles_of(session: TrtSession) -> NDArray[np.float32]:
    spec = session.spec
    return film_tiles(height=spec.height, width=spec.width, batch=spec.batch)

"""Finds TensorRT or TensorRT for RTX and holds all that differs between the two and between their versions.

The rest of the package is written against one ``TrtLibrary`` and branches on its properties only.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from engines.errors import BackendUnavailable
from engines.trt.log import TrtLog

TrtName = Literal["tensorrt", "tensorrt_rtx"]

TITLES = MappingProxyType({"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"})
"""The libraries in words, by backend name. Read-only."""

INSTALL = MappingProxyType(
    {
        "tensorrt": "pip install tensorrt-cu13",
        "tensorrt_rtx": "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs",
    }
)
"""Command that brings each library. Read-only. Source: the names of NVIDIA's wheels for CUDA 13."""

_TARGET = re.compile(r"^SM(\d+)(\d)$")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrtLibrary:
    """An imported library and what it can do. One per library and process."""

    name: TrtName
    """Backend name."""
    trt: Any
    """The module."""
    version: str
    """Full version, such as ``10.13.3.9``."""
    log: TrtLog
    """Its logger."""
    targets: tuple[str, ...]
    """GPUs that can be compiled for without being here, as compute capabilities in ascending order (``8.9``); empty
    where the library compiles for the GPU here only."""

    @property
    def title(self) -> str:
        """Name and version in words."""
        return f"{TITLES[self.name]} {self.version}"

    @property
    def major(self) -> int:
        """First number of the version."""
        return int(self.version.partition(".")[0])

    @property
    def builds_for_targets(self) -> bool:
        """Whether GPUs are named when building, so that none need be here. True for TensorRT-RTX."""
        return bool(self.targets)

    @property
    def has_timing_cache(self) -> bool:
        """Whether tactics are timed on the GPU and the times can be kept. TensorRT-RTX: deprecated no-ops.
        Source: TensorRT-RTX documentation, timing cache migration.
        """
        return self.name == "tensorrt"

    @property
    def has_compatibility(self) -> bool:
        """Whether version and hardware compatibility can be asked for. TensorRT-RTX 1.7 warns and ignores the second
        and fails at the first, for want of its lean runtime (observed).
        """
        return self.name == "tensorrt"

    @property
    def has_build_effort(self) -> bool:
        """Whether optimisation level and auxiliary streams do anything. On TensorRT-RTX 1.7 neither changes time or
        plan (observed).
        """
        return self.name == "tensorrt"

    @property
    def has_runtime_cache(self) -> bool:
        """Whether kernels are compiled at load time and can be kept (``IRuntimeCache``)."""
        return hasattr(self.trt, "IRuntimeCache")

    @property
    def network_flags(self) -> int:
        """Flags of ``create_network``: strongly typed, by name, because its number differs between versions."""
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def target(self, compute_capability: str) -> Any:
        """The library's constant for one of ``targets``.

        Raises:
            KeyError: It has none.
        """
        if compute_capability not in self.targets:
            raise KeyError(compute_capability)
        return getattr(self.trt.ComputeCapability, f"SM{compute_capability.replace('.', '')}")


def load_trt(name: TrtName) -> TrtLibrary:
    """Import TensorRT or TensorRT-RTX.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``. The full package is preferred; the bindings alone will do.

    Returns:
        The same object every time.

    Raises:
        BackendUnavailable: It is not installed, or its shared libraries do not load; the loader's words are given.
    """
    failure: Exception | None = None
    for module_name in (name, f"{name}_bindings"):
        try:
            return library_of(name, importlib.import_module(module_name))
        except ModuleNotFoundError as exc:
            failure = failure or exc
        except (ImportError, OSError) as exc:  # found, but a shared library of it is not
            failure = exc
            break
    if isinstance(failure, ModuleNotFoundError):
        raise BackendUnavailable(
            f"backend {name}: {TITLES[name]} is not installed", missing=name, hint=INSTALL[name]
        ) from failure
    raise BackendUnavailable(
        f"backend {name}: {TITLES[name]} is installed but does not load: {failure}",
        missing=name,
        hint=f"install it anew with its libraries: {INSTALL[name]}",
    ) from failure


@functools.cache
def library_of(name: TrtName, module: Any) -> TrtLibrary:
    """Describe an imported module. The same module gives the same object, because it takes one logger only."""
    return TrtLibrary(
        name=name, trt=module, version=str(module.__version__), log=TrtLog(module), targets=_targets(module)
    )


def _targets(module: Any) -> tuple[str, ...]:
    if not hasattr(module, "ComputeCapability"):
        return ()
    found = [_TARGET.match(member) for member in module.ComputeCapability.__members__]
    numbers = sorted((int(match[1]), int(match[2])) for match in found if match)
    return tuple(f"{major}.{minor}" for major, minor in numbers)

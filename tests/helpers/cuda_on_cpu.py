"""The kernels of ``pipeline.cuda`` as host functions of a C++ compiler: the same sources, run by the GPU double."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from helpers.gpu_double import FakeGpu

from pipeline.cuda.compile import SOURCES, KernelBuild

COMPILER = shutil.which("g++") or shutil.which("clang++")
"""None where kernels cannot be run without a GPU."""

_PLATFORM = Path(__file__).with_name("cuda_on_cpu.cuh")
_LIBRARIES = Path(__file__).resolve().parents[2] / ".pytest_cache" / "cuda_on_cpu"
# Like the CPU path, the kernels do not rely on a sum's rounding; without contraction a test gives the same everywhere.
_FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-Wall",
    "-Werror",
    "-Wno-unknown-pragmas",
)


class HostLauncher:
    """See ``pipeline.cuda.launcher.Launcher``. Kernels are compiled when they are first launched.

    Args:
        gpu: Whose memory and streams; it checks every launch.
    """

    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu = gpu
        self.is_closed = False
        self.multiprocessors = 2

    def load(self, build: KernelBuild) -> HostKernel:
        return HostKernel(self._gpu, build)

    def close(self) -> None:
        self.is_closed = True


class HostKernel:
    def __init__(self, gpu: FakeGpu, build: KernelBuild) -> None:
        self._gpu = gpu
        self._build = build
        self._library: ctypes.CDLL | None = None

    def launch(
        self,
        arguments: ctypes.Structure,
        *,
        blocks: tuple[int, int, int],
        stream: Any,
        reads: tuple[tuple[int, int], ...],
        writes: tuple[tuple[int, int], ...],
    ) -> None:
        self._library = self._library or host_library(self._build)
        function = getattr(self._library, self._build.name)
        kept = type(arguments).from_buffer_copy(arguments)
        assert min(blocks) >= 1, "CUDA refuses empty grids"

        def run() -> None:
            here = type(kept).from_buffer_copy(kept)  # a graph may run it again, with memory elsewhere
            self._bring_here(here)
            function(ctypes.byref(here), *blocks)

        self._gpu.enqueue(stream.handle, run, name=self._build.name, reads=reads, writes=writes)

    def _bring_here(self, arguments: ctypes.Structure) -> None:
        """Turn device addresses into the host's."""
        for name, kind in arguments._fields_:  # type: ignore[misc]  # no field is a bit field
            value = getattr(arguments, name)
            if kind is ctypes.c_uint64 and value:
                setattr(arguments, name, self._gpu.bytes_at(value, 1).ctypes.data)
            elif isinstance(value, ctypes.Array) and issubclass(value._type_, ctypes.Structure):
                for item in value:
                    self._bring_here(item)


def host_library(build: KernelBuild) -> ctypes.CDLL:
    """Compile one variant of a kernel, once for all test runs with the same sources."""
    assert COMPILER is not None, "there is no C++ compiler"
    digest = hashlib.sha256(repr((COMPILER, _FLAGS, build)).encode())
    for path in (_PLATFORM, *sorted(SOURCES.glob("*.cu*"))):
        digest.update(path.read_bytes())
    library = _LIBRARIES / f"{digest.hexdigest()[:32]}.so"
    if not library.is_file():
        headers = _LIBRARIES / f"headers.{os.getpid()}"
        headers.mkdir(parents=True, exist_ok=True)
        for path in SOURCES.glob("*.cuh"):
            shutil.copy(path, headers)
        shutil.copy(_PLATFORM, headers / "platform.cuh")
        part = library.with_suffix(f".{os.getpid()}.part")
        source = SOURCES / f"{build.name}.cu"
        subprocess.run(
            [COMPILER, *_FLAGS, f"-I{headers}", *build.macros, "-x", "c++", str(source), "-o", str(part)], check=True
        )
        part.replace(library)
        shutil.rmtree(headers)
    return ctypes.CDLL(str(library))

"""This engine's own kernels: CUDA C to machine code by NVRTC, loaded and launched through the driver.

The same as ``pipeline.cuda.compile`` and ``launcher`` do for the pipeline, which this package may not import.
"""

from __future__ import annotations

from ctypes import Structure, addressof, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import BackendUnavailable, InferenceFailed
from engines.gpu import Device, Stream

SOURCES = Path(__file__).parent / "sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSource:
    """One kernel in one of its variants."""

    name: str
    """Of the kernel and of its file in ``sources``."""
    defines: tuple[tuple[str, int], ...] = ()
    threads: int = 256
    shared_bytes: int = 0
    """Dynamic shared memory of a block."""
    is_for_hopper: bool = False
    """Whether it uses instructions that only compute capability 9.0 has (target ``sm_90a``)."""

    @property
    def macros(self) -> tuple[str, ...]:
        """As compilers take them."""
        return (f"-DTHREADS={self.threads}", *(f"-D{name}={value}" for name, value in self.defines))


def compile_kernel(source: KernelSource, *, capability: tuple[int, int]) -> bytes:
    """Compile one kernel to machine code; needs no GPU.

    Raises:
        BackendUnavailable: NVRTC is not installed.
        InferenceFailed: It refuses the kernel; the message holds its log.
    """
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as exc:
        raise BackendUnavailable(
            f"NVIDIA's runtime compiler cannot be used: {exc}",
            missing="nvidia-cuda-nvrtc",
            hint='pip install "nightscale[nvidia]"',
        ) from exc

    def call(name: str, *arguments: Any) -> Any:
        error, *values = getattr(nvrtc, name)(*arguments)
        if int(error) != 0:
            raise InferenceFailed(f"NVRTC failed: {name} gave {error.name}")
        return values[0] if len(values) == 1 else tuple(values)

    def read(program: Any, name: str) -> bytes:
        content = b" " * int(call(f"{name}Size", program))
        call(name, program, content)
        return content

    headers = sorted(SOURCES.glob("*.cuh"))
    program = call(
        "nvrtcCreateProgram",
        (SOURCES / f"{source.name}.cu").read_bytes(),
        f"{source.name}.cu".encode(),
        len(headers),
        [path.read_bytes() for path in headers],
        [path.name.encode() for path in headers],
    )
    try:
        architecture = f"sm_{capability[0]}{capability[1]}" + ("a" if source.is_for_hopper else "")
        options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17", *map(str.encode, source.macros)]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if int(error) != 0:
            log = read(program, "nvrtcGetProgramLog").rstrip(b"\0").decode("utf-8", errors="replace").strip()
            raise InferenceFailed(f"NVRTC cannot compile {source.name} for {architecture} ({error.name}):\n{log}")
        return read(program, "nvrtcGetCUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(program)


class OwnKernel:
    """A loaded kernel. Its one argument is a structure passed by value.

    Args:
        device: Where it runs.
        source: What to compile.
    """

    def __init__(self, device: Device, source: KernelSource) -> None:
        from engines.gpu.cuda_driver import CudaCalls, load_driver

        driver = load_driver()
        device.make_current()
        self._calls = CudaCalls(driver, context=CudaCalls(driver, context=None).call("cuCtxGetCurrent"))
        self._source = source
        binary = compile_kernel(source, capability=device.compute_capability)
        self._module: Any = self._calls.call("cuModuleLoadData", binary)
        self._function = self._calls.call("cuModuleGetFunction", self._module, source.name.encode())
        if source.shared_bytes > 48 * 1024:  # more only on demand. Source: CUDA C++ Programming Guide, "Shared Memory"
            kind = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._calls.call("cuFuncSetAttribute", self._function, kind, source.shared_bytes)

    def launch(self, arguments: Structure, *, blocks: tuple[int, int, int], stream: Stream) -> None:
        """Enqueue it; ``arguments`` are copied before the call returns."""
        parameters = (c_void_p * 1)(addressof(arguments))
        self._calls.call(
            "cuLaunchKernel",
            self._function,
            *blocks,
            self._source.threads,
            1,
            1,
            self._source.shared_bytes,
            stream.handle,
            addressof(parameters),
            0,
        )

    def close(self) -> None:
        """Unload it; it must not be running. Can be called twice."""
        module, self._module = self._module, None
        if module is not None:
            self._calls.call("cuModuleUnload", module)

"""Kernels as things that can be called: one protocol, the real thing here and one over host memory in the tests."""

from __future__ import annotations

from ctypes import Structure, addressof, c_void_p
from typing import Any, Protocol

from engines.gpu import Device, Stream
from pipeline.cuda.cache import KernelCache, default_kernel_folder
from pipeline.cuda.compile import KernelBuild, KernelCompiler

Span = tuple[int, int]
"""Device address and length in bytes."""


class Kernel(Protocol):
    """One kernel, ready to run."""

    def launch(
        self,
        arguments: Structure,
        *,
        blocks: tuple[int, int, int],
        stream: Stream,
        reads: tuple[Span, ...],
        writes: tuple[Span, ...],
    ) -> None:
        """Enqueue it.

        Args:
            arguments: Its one argument; copied before the call returns.
            blocks: Size of the grid along x, y and z; a block has as many threads as its build says.
            stream: Where to.
            reads, writes: All device memory that it touches, for whoever checks the order of streams.

        Raises:
            InferenceFailed: The device refuses, or something before failed on it.
        """
        ...


class Launcher(Protocol):
    """Makes kernels of their sources, for one device."""

    @property
    def multiprocessors(self) -> int:
        """Of the device: how many blocks run at once is a multiple of it."""
        ...

    def load(self, build: KernelBuild) -> Kernel:
        """Compile and load a kernel; it stays loaded until ``close``.

        Raises:
            SetupError: It cannot be compiled.
        """
        ...

    def close(self) -> None:
        """Unload all kernels; none may be running. Can be called twice."""
        ...


class CudaLauncher:
    """Kernels on a real GPU.

    Args:
        device: Opened; stays the caller's.
        cache: Where compiled kernels are kept; None: the user's cache folder.

    Raises:
        SetupError: NVRTC is not installed or cannot compile for this GPU.
        BackendUnavailable: There is no CUDA driver.
    """

    def __init__(self, device: Device, *, cache: KernelCache | None = None) -> None:
        from engines.gpu.cuda_driver import CudaCalls, load_driver

        self._compiler = KernelCompiler(device.compute_capability)
        self._cache = cache or KernelCache(default_kernel_folder())
        driver = load_driver()
        device.make_current()
        context = CudaCalls(driver, context=None).call("cuCtxGetCurrent")
        self._calls = CudaCalls(driver, context=context)
        self._modules: list[Any] = []
        kind = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        self._multiprocessors = int(self._calls.call("cuDeviceGetAttribute", kind, self._calls.call("cuCtxGetDevice")))

    @property
    def multiprocessors(self) -> int:
        """See ``Launcher``."""
        return self._multiprocessors

    def load(self, build: KernelBuild) -> CudaKernel:
        """See ``Launcher``."""
        module = self._calls.call("cuModuleLoadData", load_binary(build, compiler=self._compiler, cache=self._cache))
        self._modules.append(module)
        function = self._calls.call("cuModuleGetFunction", module, build.name.encode())
        return CudaKernel(self._calls, function=function, threads=build.threads)

    def close(self) -> None:
        """See ``Launcher``."""
        while self._modules:
            self._calls.call("cuModuleUnload", self._modules.pop())


class CudaKernel:
    """A loaded function. See ``Kernel``."""

    def __init__(self, calls: Any, *, function: Any, threads: int) -> None:
        self._calls = calls
        self._function = function
        self._threads = threads

    def launch(
        self,
        arguments: Structure,
        *,
        blocks: tuple[int, int, int],
        stream: Stream,
        reads: tuple[Span, ...],  # noqa: ARG002  # for the double that checks order
        writes: tuple[Span, ...],  # noqa: ARG002
    ) -> None:
        """See ``Kernel``."""
        parameters = (c_void_p * 1)(addressof(arguments))
        self._calls.call(
            "cuLaunchKernel", self._function, *blocks, self._threads, 1, 1, 0, stream.handle, addressof(parameters), 0
        )


def load_binary(build: KernelBuild, *, compiler: KernelCompiler, cache: KernelCache) -> bytes:
    """A compiled kernel: from the cache, or compiled now and put there.

    Raises:
        SetupError: It cannot be compiled.
    """
    key = compiler.key(build)
    binary = cache.read(key)
    if binary is None:
        binary = compiler.compile(build)
        cache.write(key, binary)
    return binary

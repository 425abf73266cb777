"""Calls of CUDA's driver API through ``cuda.bindings``, with its codes turned into this package's errors.

Only the driver API is used, not ``cuda.core`` above it: its functions are the same in CUDA 12 and 13, each gives a code
that can be named, and each lets other Python threads run while it blocks.
"""

from __future__ import annotations

from typing import Any

from engines.errors import BackendUnavailable, InferenceFailed, OutOfDeviceMemory


def load_driver() -> Any:
    """Import and initialise CUDA's driver API; costs next to nothing the second time.

    Returns:
        The module ``cuda.bindings.driver``.

    Raises:
        BackendUnavailable: The bindings are not installed, or there is no driver or no GPU that it can use.
    """
    try:
        from cuda.bindings import driver
    except ImportError as exc:
        raise BackendUnavailable(
            f"CUDA cannot be used from Python: {exc}", missing="cuda-bindings", hint='pip install "nightscale[nvidia]"'
        ) from exc
    try:
        (error,) = driver.cuInit(0)
    except RuntimeError as exc:  # cuda.pathfinder: libcuda is not on this machine
        raise BackendUnavailable(
            "there is no NVIDIA driver on this machine (libcuda cannot be loaded)",
            missing="NVIDIA driver",
            hint="install NVIDIA's display driver, or choose device cpu",
        ) from exc
    if int(error) != 0:
        raise BackendUnavailable(
            f"the NVIDIA driver cannot be used: {error.name}",
            missing="NVIDIA GPU",
            hint="see whether nvidia-smi lists the GPU, or choose device cpu",
        )
    return driver


class CudaCalls:
    """Calls driver functions in one context, from any thread, and turns their codes into errors.

    Args:
        driver: From ``load_driver``.
        context: Made current before every call; None for calls that need none.
    """

    def __init__(self, driver: Any, *, context: Any) -> None:
        self.driver = driver
        self._context = context

    def make_current(self) -> None:
        """Make the context current in this thread."""
        if self._context is not None:
            self._check("cuCtxSetCurrent", self.driver.cuCtxSetCurrent(self._context), needed_bytes=0)

    def call(self, name: str, *arguments: Any, needed_bytes: int = 0) -> Any:
        """Call one function; return what it gives beside its code: nothing, one value or a tuple."""
        self.make_current()
        return self._check(name, getattr(self.driver, name)(*arguments), needed_bytes=needed_bytes)

    def _check(self, name: str, answer: tuple[Any, ...], *, needed_bytes: int) -> Any:
        error, *values = answer
        if int(error) == 0:
            return values[0] if len(values) == 1 else tuple(values)
        codes = self.driver.CUresult
        if error == codes.CUDA_ERROR_OUT_OF_MEMORY:
            free = self._free_bytes()
            raise OutOfDeviceMemory(
                f"the GPU has not enough free memory: {needed_bytes} bytes asked for, {free} free ({name})",
                needed_bytes=needed_bytes,
                free_bytes=free,
                hint="choose smaller tiles, a smaller batch or fewer slots, or end other programs on the GPU",
            )
        raise InferenceFailed(f"CUDA failed: {name} gave {getattr(error, 'name', error)}")

    def _free_bytes(self) -> int:
        answer = self.driver.cuMemGetInfo()
        return int(answer[1]) if int(answer[0]) == 0 else 0

"""What a GPU says of itself while a run goes on, asked of NVIDIA's management library (``nvidia-ml-py``)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pipeline.night.gpu_health import find_gpu

PCIE_EVERY_S = 1.0
"""Between two measurements of PCIe, of one direction each: the library counts for 20 ms each time, and keeps a core
busy with it."""
PCIE_DIRECTIONS = ("NVML_PCIE_UTIL_RX_BYTES", "NVML_PCIE_UTIL_TX_BYTES")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU at one moment; None is what it does not say, or was not asked for this time."""

    sm_percent: int | None
    """Share of the last moments, up to a second, in which any kernel ran. Not how full the GPU was."""
    memory_percent: int | None
    """The same for accesses to its memory."""
    encoder_percent: int | None
    """Of NVENC."""
    decoder_percent: int | None
    """Of NVDEC."""
    sm_mhz: int | None
    memory_mhz: int | None
    video_mhz: int | None
    """Clock of NVDEC and NVENC."""
    used_bytes: int | None
    """Memory taken, by anybody."""
    watts: float | None
    pcie_rx_bytes_per_s: float | None
    """Into the GPU. Asked for in turn with the other direction, each every other second."""
    pcie_tx_bytes_per_s: float | None


class GpuMeter:
    """Asks one GPU. Made by `open_gpu_meter`.

    Args:
        library: The module ``pynvml``, initialised.
        handle: The library's handle of the GPU.
        clock: Seconds; in place of the system's, for tests.
    """

    def __init__(self, library: Any, handle: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._library = library
        self._handle = handle
        self._clock = clock
        self._pcie_count = 0
        self._pcie_from_s = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.nvmlShutdown()

    def read(self) -> GpuReading:
        """How it is now."""
        load = self._ask("nvmlDeviceGetUtilizationRates")
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        encoder, decoder = self._ask("nvmlDeviceGetEncoderUtilization"), self._ask("nvmlDeviceGetDecoderUtilization")
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        received, sent = self._measure_pcie()
        clock = "nvmlDeviceGetClockInfo"
        return GpuReading(
            sm_percent=None if load is None else int(load.gpu),
            memory_percent=None if load is None else int(load.memory),
            encoder_percent=None if encoder is None else int(encoder[0]),
            decoder_percent=None if decoder is None else int(decoder[0]),
            sm_mhz=self._ask(clock, "NVML_CLOCK_SM"),
            memory_mhz=self._ask(clock, "NVML_CLOCK_MEM"),
            video_mhz=self._ask(clock, "NVML_CLOCK_VIDEO"),
            used_bytes=None if memory is None else int(memory.used),
            watts=None if milliwatts is None else milliwatts / 1e3,
            pcie_rx_bytes_per_s=None if received is None else received * 1e3,  # the library counts KB/s
            pcie_tx_bytes_per_s=None if sent is None else sent * 1e3,
        )

    def _measure_pcie(self) -> tuple[float | None, float | None]:
        """Into the GPU and out of it, KB/s: one of both if it is time again, else none."""
        found: list[float | None] = [None, None]
        if self._clock() >= self._pcie_from_s:
            way = self._pcie_count % 2
            found[way] = self._ask("nvmlDeviceGetPcieThroughput", PCIE_DIRECTIONS[way])
            self._pcie_count += 1
            self._pcie_from_s = self._clock() + PCIE_EVERY_S
        return found[0], found[1]

    def _ask(self, question: str, constant: str | None = None) -> Any:
        """One answer; None if this GPU or driver does not give it."""
        ask = getattr(self._library, question, None)
        extra = () if constant is None else (getattr(self._library, constant, None),)
        if ask is None or None in extra:
            return None
        try:
            return ask(self._handle, *extra)
        except self._library.NVMLError:
            return None


def open_gpu_meter(
    index: int, *, library: Any = None, clock: Callable[[], float] = time.monotonic
) -> tuple[GpuMeter | None, str]:
    """Begin to ask a GPU.

    Args:
        index: As CUDA counts.
        library: In place of ``pynvml``, for tests.
        clock: Of `GpuMeter`.

    Returns:
        The meter, and why there is none, a sentence; one of both.
    """
    if library is None:
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            return None, "The GPU was not asked for its load and clocks: pip install nvidia-ml-py."
    try:
        library.nvmlInit()
    except library.NVMLError as exc:
        return None, f"The GPU was not asked for its load and clocks: {exc}."
    try:
        return GpuMeter(library, find_gpu(library, index), clock=clock), ""
    except (library.NVMLError, ValueError) as exc:
        library.nvmlShutdown()
        return None, f"The GPU was not asked for its load and clocks: {exc}."

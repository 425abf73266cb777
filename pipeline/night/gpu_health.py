"""Whether the GPU is well: lost, slowed down by heat or power, too hot. Asked of NVIDIA's management library.

That library looks at the GPU from outside and creates no context on it, so the process that watches over a run may use
it: nothing that happens to the GPU does anything to that process.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pipeline.show.wording import format_span

logger = logging.getLogger(__name__)

_PACKAGE = "pynvml"
"""The module of the package ``nvidia-ml-py``."""

_SLOWED = (
    (0x0000000000000008, "by the hardware, for its temperature or its supply"),  # HwSlowdown
    (0x0000000000000040, "by the hardware, because it is too hot"),  # HwThermalSlowdown
    (0x0000000000000080, "by the hardware, because its supply asks for it"),  # HwPowerBrakeSlowdown
    (0x0000000000000020, "by its driver, because it is too hot"),  # SwThermalSlowdown
)
"""Reasons of a clock that is lower than it could be, which are no part of a healthy GPU's work; that it reaches its
power limit (SwPowerCap, 0x4) under full load is. Source: ``nvmlClocksEventReasons`` of nvml.h."""

_LOST_AFTER = 3
"""Questions in a row that get no answer, for whatever reason, before the GPU counts as lost."""


class GpuHealth:
    """Watches one GPU, from ``open`` on.

    Args:
        library: The module ``pynvml``, initialised.
        handle: The library's handle of the GPU.
        name: What people call it.
        clock_s: Steady seconds.
    """

    def __init__(self, library: Any, handle: Any, *, name: str, clock_s: Callable[[], float]) -> None:
        self._library = library
        self._handle = handle
        self._name = name
        self._clock_s = clock_s
        # the older name, which every driver knows, while the package has it
        older = getattr(library, "nvmlDeviceGetCurrentClocksThrottleReasons", None)
        self._ask_reasons = older if older is not None else library.nvmlDeviceGetCurrentClocksEventReasons
        self._seen: set[str] = set()
        self._slow_since_s: float | None = None
        self._slow_s = 0.0
        self._failures = 0
        self._is_lost = False

    @classmethod
    def open(cls, index: int, *, clock_s: Callable[[], float] = time.monotonic, library: Any = None) -> Self | None:
        """Begin to watch a GPU.

        Args:
            index: Of the GPU, as CUDA counts: among those that ``CUDA_VISIBLE_DEVICES`` lets a program see.
            clock_s: Steady seconds.
            library: In place of ``pynvml``, for tests.

        Returns:
            None if there is no such GPU, or nothing to ask: no driver, or no ``nvidia-ml-py``.
        """
        if library is None:
            try:
                library = importlib.import_module(_PACKAGE)
            except ImportError:
                logger.info("the GPU is not watched: pip install nvidia-ml-py")
                return None
        try:
            library.nvmlInit()
        except library.NVMLError as exc:
            logger.info("the GPU is not watched: %s", exc)
            return None
        try:
            handle = find_gpu(library, index)
            return cls(library, handle, name=f"GPU {index}", clock_s=clock_s)
        except (library.NVMLError, ValueError) as exc:
            logger.info("GPU %d is not watched: %s", index, exc)
            library.nvmlShutdown()
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See ``close``."""
        self.close()

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer any more."""
        return self._is_lost

    @property
    def slow_s(self) -> float:
        """For how long it was slowed down so far, seconds, as far as it was looked."""
        return self._slow_s

    def close(self) -> None:
        """Watch no longer."""
        try:
            self._library.nvmlShutdown()
        except self._library.NVMLError as exc:
            logger.debug("the management library did not end well: %s", exc)

    def look(self) -> tuple[str, ...]:
        """Ask how it is.

        Returns:
            What a person should know and was not told yet, one sentence each; of each kind once.
        """
        if self._is_lost:
            return ()
        try:
            temperature = self._library.nvmlDeviceGetTemperature(self._handle, self._library.NVML_TEMPERATURE_GPU)
            reasons = self._ask_reasons(self._handle)
            self._failures = 0
        except self._library.NVMLError_GpuIsLost as exc:
            return self._lose(str(exc))
        except (self._library.NVMLError_NotSupported, self._library.NVMLError_FunctionNotFound):
            return ()  # virtual GPUs and old drivers do not say
        except self._library.NVMLError as exc:
            self._failures += 1
            return self._lose(str(exc)) if self._failures >= _LOST_AFTER else ()
        return self._judge(int(reasons), temperature=int(temperature))

    def _judge(self, reasons: int, *, temperature: int) -> tuple[str, ...]:
        now_s = self._clock_s()
        if self._slow_since_s is not None:
            self._slow_s += now_s - self._slow_since_s
        slowed = [why for bit, why in _SLOWED if reasons & bit]
        self._slow_since_s = now_s if slowed else None
        return tuple(
            self._once(why, f"{self._name} is slowed down {why} ({temperature} °C)")
            for why in slowed
            if why not in self._seen
        )

    def _once(self, kind: str, sentence: str) -> str:
        self._seen.add(kind)
        return sentence

    def _lose(self, why: str) -> tuple[str, ...]:
        self._is_lost = True
        return (
            f"{self._name} does not answer any more: {why}; as a rule only a restart of the machine brings it back",
        )

    def summary(self) -> str:
        """What to say of it in the end, one sentence; empty if there is nothing to say."""
        if self._slow_s <= 0:
            return ""
        return f"{self._name} was slowed down for {format_span(self._slow_s)}"


def find_gpu(library: Any, index: int) -> Any:
    """The library's handle of a GPU; the library sees all GPUs, whatever ``CUDA_VISIBLE_DEVICES`` says.

    Raises:
        ValueError: There is no such GPU among the visible ones, or it is a part of one.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not visible:
        return library.nvmlDeviceGetHandleByIndex(index)
    names = [name.strip() for name in visible.split(",")]
    name = names[index] if index < len(names) else ""
    if name.startswith("GPU-"):
        return library.nvmlDeviceGetHandleByUUID(name)
    if not name.isdecimal():
        raise ValueError(f"CUDA_VISIBLE_DEVICES is {visible}")
    return library.nvmlDeviceGetHandleByIndex(int(name))

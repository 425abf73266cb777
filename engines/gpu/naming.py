"""Finds the GPU that a user's words mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.errors import BackendUnavailable

if TYPE_CHECKING:
    from engines.gpu.cuda import DeviceIdentity

_DEVICE = re.compile(r"(?:auto|cuda|gpu)(?::(\d+))?")


def find_gpu(device: str, *, gpus: Sequence[DeviceIdentity], backend: str) -> DeviceIdentity:
    """Find a GPU by name.

    Args:
        device: ``auto``, ``cuda``, ``gpu``, ``cuda:1`` ..., in any case.
        gpus: All that there are.
        backend: Who asks, for the error.

    Raises:
        BackendUnavailable: It is no NVIDIA GPU, or there is none of that number.
    """
    match = _DEVICE.fullmatch(device.lower())
    if match is None:
        raise BackendUnavailable(
            f"backend {backend} runs on NVIDIA GPUs only, not on {device!r}",
            missing=device,
            hint="choose device auto, cuda or cuda:0, or another backend",
        )
    index = int(match[1] or 0)
    if index >= len(gpus):
        raise BackendUnavailable(
            f"there is no GPU number {index}: this machine shows {len(gpus)}",
            missing=device,
            hint="choose device " + " or ".join(f"cuda:{gpu.index}" for gpu in gpus),
        )
    return gpus[index]

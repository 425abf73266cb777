"""Device memory with a shape, as engines take it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceArray:
    """A C-contiguous array in a GPU's memory, which belongs to someone else."""

    pointer: int
    """Device address of the first element."""
    shape: tuple[int, ...]
    dtype: str
    """numpy's name of the type: ``float32``, ``uint8`` ..."""

    @property
    def bytes(self) -> int:
        """Length."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def row_bytes(self) -> int:
        """Length of one entry of the first axis."""
        return self.bytes // self.shape[0]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """How other libraries see it. No stream is named: whoever hands it over orders the access itself.

        Source: version 3 of the interface, Numba's documentation "CUDA Array Interface".
        """
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }

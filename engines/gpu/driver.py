"""Whether an NVIDIA driver is on this machine: the cheap question before anything that costs seconds is imported."""

from __future__ import annotations

import ctypes
import sys


def has_nvidia_driver() -> bool:
    """Say whether the CUDA driver's library can be loaded. Initialises no GPU and creates no context.

    A yes does not promise a working GPU (a container may hold the library alone); a no is certain: without the library
    no CUDA program runs.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True

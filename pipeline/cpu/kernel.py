"""How every kernel of this package is compiled: single-threaded, without the GIL, cached on disk where that works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar, cast

import numba

_LOG = logging.getLogger(__name__)

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

_FASTMATH = {"contract"}
"""Only fused multiply-add: reordered sums would change results with the vector width, and comparisons must see NaN."""


def kernel(function: FunctionT) -> FunctionT:
    """Compile a function with numba on first call.

    Several stages call kernels at once, so none is parallel inside: numba's portable threading layer may not be entered
    by two threads. A kernel's helpers stand in the kernel's own file, because numba's disk cache does not notice a
    change in another one.

    Args:
        function: Plain Python in numba's subset.

    Returns:
        The dispatcher. It is cached beside the module or in the user's cache folder, and compiled anew in each process
        where neither is writable.
    """
    try:
        return _compile(function, cache=True)
    except RuntimeError as exc:  # "cannot cache function ...: no locator available"
        _LOG.info("compiling %s in every process: %s", function.__name__, exc)
        return _compile(function, cache=False)


def _compile(function: FunctionT, *, cache: bool) -> FunctionT:
    compiled = numba.njit(nogil=True, fastmath=_FASTMATH, error_model="numpy", cache=cache)(function)
    return cast("FunctionT", compiled)

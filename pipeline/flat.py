"""Arrays with contiguous rows as kernels take them: one dimension, and the distance between rows as a number.

A compiled loop over a strided array cannot know that neighbours in a row are neighbours in memory and does not
vectorise; over a flat array it does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def flat_input(array: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """A read-only one-dimensional view of an array with contiguous rows (or of a copy), and its outer
    strides in items.

    Always read-only, so that each kernel is compiled for one kind of input only.
    """
    if not _has_plain_rows(array):
        array = np.ascontiguousarray(array)
    return _flat_view(array, writeable=False)


def flat_output(array: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """A writeable one-dimensional view of an array with contiguous rows, and its outer strides."""
    if not _has_plain_rows(array) or not array.flags.writeable:
        raise ValueError(f"the output must be writeable with contiguous rows, not have strides {array.strides}")
    return _flat_view(array, writeable=True)


def _has_plain_rows(array: NDArray[Any]) -> bool:
    """Whether each row is contiguous and rows follow each other at whole items."""
    item = array.itemsize
    inner_is_plain = array.strides[-1] == item or array.shape[-1] == 1
    return inner_is_plain and all(stride >= 0 and stride % item == 0 for stride in array.strides[:-1])


def _flat_view(array: NDArray[Any], *, writeable: bool) -> tuple[NDArray[Any], Any]:
    item = array.itemsize
    strides = tuple(stride // item for stride in array.strides[:-1])
    length = array.shape[-1] + sum((n - 1) * s for n, s in zip(array.shape[:-1], strides, strict=True))
    flat = np.lib.stride_tricks.as_strided(array, shape=(length,), strides=(item,), writeable=writeable)
    return flat, strides

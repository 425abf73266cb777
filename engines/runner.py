"""The one interface between the pipeline and whatever executes a network.

A backend is this protocol, one line in ``engines.backends.BACKENDS`` and one subclass of the runner contract test.
Nothing else may ask which backend it is.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.spec import RunnerSpec

Tiles = NDArray[np.float32] | NDArray[np.float16]


class Completion(Protocol):
    """The end of one inference, not yet waited for."""

    def wait(self) -> None:
        """Block until the output array is whole.

        Raises:
            InferenceFailed: The library failed; the output array's content is undefined.
        """
        ...


class Runner(Protocol):
    """A network, compiled and loaded, for tiles of one shape. Used by one thread; close it in the same thread."""

    spec: RunnerSpec

    def infer(self, tiles: Tiles, *, out: Tiles, stream: Any = None) -> Completion:
        """Start one inference and return at once where the backend can, at most ``spec.slots`` in flight.

        Args:
            tiles: ``spec.input_shape`` ``spec.io_dtype`` RGB planar, C-contiguous. Must stay untouched until the
                completion was waited for.
            out: ``spec.output_shape`` ``spec.io_dtype``, C-contiguous; written by the backend. Values are the network's
                own, not clamped to [0, 1].
            stream: The CUDA stream that orders the call; None on the CPU.

        Returns:
            The completion. ``out`` may be read after its ``wait()``.

        Raises:
            UnsupportedShape: An array has another shape or dtype than ``spec`` says.
            InferenceFailed: The library refused to start.
        """
        ...

    def close(self) -> None:
        """Wait for what is in flight and give everything back. Can be called twice."""
        ...

"""The one interface between the pipeline and whatever executes a network.

A backend is this protocol, one line in ``engines.backends.BACKENDS`` and one subclass of the runner contract test.
Nothing else may ask which backend it is.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from engines.errors import UnsupportedShape
from engines.spec import RunnerSpec

Tiles = NDArray[np.float32] | NDArray[np.float16]
"""Arrays in the host's memory."""


class Completion(Protocol):
    """The end of one inference, not yet waited for."""

    def wait(self) -> None:
        """Block until the output array is whole.

        Raises:
            InferenceFailed: The library failed; the output array's content is undefined.
        """
        ...


class Runner(Protocol):
    """A network, compiled and loaded, for tiles of one shape. Used by one thread at a time; its opener closes it."""

    spec: RunnerSpec

    def infer(self, tiles: Tiles | Any, *, out: Tiles | Any, stream: Any = None) -> Completion:
        """Start one inference and return at once where the backend can, at most ``spec.slots`` in flight.

        Args:
            tiles: ``spec.input_shape`` ``spec.io_dtype`` RGB planar, C-contiguous. Must stay untouched until the
                completion was waited for. In the host's memory; or, where ``spec.takes_device_arrays``, both arrays
                in the GPU's, as objects with ``__cuda_array_interface__``.
            out: ``spec.output_shape`` ``spec.io_dtype``, C-contiguous; written by the backend. Values are the network's
                own, not clamped to [0, 1].
            stream: For arrays on the GPU, the CUDA stream that orders the call: what is in it already comes before,
                what is put into it afterwards sees ``out``. None is the default stream. Host arrays need none.

        Returns:
            The completion. The host may read ``out`` after its ``wait()``.

        Raises:
            UnsupportedShape: An array has another shape or dtype than ``spec`` says.
            InferenceFailed: The library refused to start.
        """
        ...

    def close(self) -> None:
        """Wait for what is in flight and give everything back. Can be called twice."""
        ...

    def __enter__(self) -> Self:
        """Return the runner itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        ...


class FinishedCompletion:
    """The completion of an inference that was over when ``infer`` returned."""

    def wait(self) -> None:
        """Return at once."""


def check_arrays(spec: RunnerSpec, *, tiles: Tiles, out: Tiles) -> None:
    """Check the arrays of one ``infer`` call against what the runner was opened for.

    Raises:
        UnsupportedShape: One has another shape or dtype, is not C-contiguous, or ``out`` cannot be written.
    """
    for name, array, shape in (("tiles", tiles, spec.input_shape), ("out", out, spec.output_shape)):
        if not isinstance(array, np.ndarray):
            raise UnsupportedShape(f"{name} must be a numpy array, not {type(array).__name__}")
        if array.shape != shape or array.dtype != spec.io_dtype:
            raise UnsupportedShape(
                f"{name} is {array.shape} {array.dtype}; this {spec.backend} runner of {spec.model.name} "
                f"takes {shape} {spec.io_dtype}"
            )
        if not array.flags.c_contiguous:
            raise UnsupportedShape(f"{name} is not C-contiguous", hint="pass numpy.ascontiguousarray of it")
    if not out.flags.writeable:
        raise UnsupportedShape("out is read-only")

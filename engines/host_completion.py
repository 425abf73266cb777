"""The end of an inference on arrays of the host that a library runs by itself."""

from __future__ import annotations

from collections.abc import Callable

from engines.errors import EngineError
from engines.runner import Tiles


class HostCompletion:
    """An inference that may still be running; how it ended is kept, whoever waited for it first.

    Args:
        finish: Blocks until the inference is over; raises RuntimeError if it failed. Called once.
        arrays: What goes in and out: the library may be using their memory without owning it.
        to_error: From what ``finish`` raised to what ``wait`` raises.
    """

    def __init__(
        self,
        finish: Callable[[], object],
        *,
        arrays: tuple[Tiles, Tiles],
        to_error: Callable[[RuntimeError], EngineError],
    ) -> None:
        self._finish = finish
        self._arrays = arrays
        self._to_error = to_error
        self._is_over = False
        self._failure: RuntimeError | None = None

    def settle(self) -> None:
        """Block until the inference is over, well or not."""
        if self._is_over:
            return
        try:
            self._finish()
        except RuntimeError as exc:
            self._failure = exc
        self._is_over = True

    def wait(self) -> None:
        """See ``engines.runner.Completion``."""
        self.settle()
        if self._failure is not None:
            raise self._to_error(self._failure) from self._failure

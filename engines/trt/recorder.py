"""Collects what TensorRT reports about one object, because a recorder is told instead of the logger."""

from __future__ import annotations

from typing import Any

_KEPT_ERRORS = 64
"""Errors that are kept between two calls; one failing call reports a handful."""


def make_recorder(trt: Any) -> Any:
    """An ``IErrorRecorder`` of a library, with ``take() -> str``: what was reported since the last call, in one line.

    It must outlive the object that it is set on. The library may report from several threads; appending to a list is
    atomic.

    Args:
        trt: The library's module.
    """

    class Recorder(trt.IErrorRecorder):  # type: ignore[misc]  # the base is known only at run time
        """Keeps the texts in order."""

        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self._errors: list[tuple[Any, str]] = []

        def num_errors(self) -> int:
            """Count of errors since the last ``clear``."""
            return len(self._errors)

        def get_error_code(self, index: int) -> Any:
            """Code of one error."""
            return self._errors[index][0]

        def get_error_desc(self, index: int) -> str:
            """Text of one error."""
            return self._errors[index][1]

        def has_overflowed(self) -> bool:
            """Whether errors were left out."""
            return len(self._errors) >= _KEPT_ERRORS

        def report_error(self, code: Any, text: str) -> bool:
            """Called by the library; True says that what it is doing must end."""
            if len(self._errors) < _KEPT_ERRORS:
                self._errors.append((code, text))
            return True

        def clear(self) -> None:
            """Forget all errors."""
            self._errors.clear()

        def take(self) -> str:
            """What was reported since the last call; empty if nothing was."""
            texts = dict.fromkeys(" ".join(text.split()) for _, text in self._errors)
            self._errors.clear()
            return "; ".join(texts)

    return Recorder()

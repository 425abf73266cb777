"""What can go wrong with a model, a backend or an engine.

::

    EngineError              .hint: one line, what to do next
    ├── UnknownModel         no model of that name; the hint names the nearest
    ├── WeightsError         the weight file is missing, short, long or not what its table entry says
    ├── BackendUnavailable   the library or the device that a backend needs is not there; .missing
    ├── UnsupportedModel     the backend cannot run that model at all
    ├── UnsupportedPrecision the backend cannot compute in that precision on this device
    ├── UnsupportedShape     the engine cannot take tiles of that size
    └── InferenceFailed      the library failed while running a loaded model

`engines` never imports `pipeline`; the command line turns both trees into one line each.
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors of this package.

    Args:
        message: What is wrong, with the value that is wrong.
        hint: One line that says what to do next; empty if the message says it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownModel(EngineError):
    """No model of that name is in the table."""


class WeightsError(EngineError):
    """A weight file is missing, or its length or content is not that of the model."""


class BackendUnavailable(EngineError):
    """A backend's library or device is not there.

    Args:
        message: What is missing and for which backend.
        missing: Name of the missing package, library or device.
        hint: The command that installs it, or what to choose instead.
    """

    def __init__(self, message: str, *, missing: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


class UnsupportedModel(EngineError):
    """The backend cannot run that model at all."""


class UnsupportedPrecision(EngineError):
    """The backend cannot compute in the precision asked for on this device."""


class UnsupportedShape(EngineError):
    """The engine cannot take tiles of the size or dtype asked for, or not give that enlargement."""


class InferenceFailed(EngineError):
    """The inference library reported an error while a loaded model ran."""

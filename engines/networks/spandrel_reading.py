"""Reads checkpoints for spandrel, and finds spandrel. Runs no code that a file brings."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.errors import BackendUnavailable, ModelFileError

SAFETENSORS_SUFFIX = ".safetensors"

INSTALL = 'pip install "nightscale[export]"'

READ_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""A damaged pickle, and weights that only look like an architecture's, fail with whatever they first run into."""


def import_spandrel(path: Path) -> Any:
    """Import spandrel, or say what is missing. It imports torchvision, which fails in ways of its own."""
    try:
        import spandrel
    except ModuleNotFoundError as exc:
        missing = exc.name or "spandrel"
        raise BackendUnavailable(
            f"{path} cannot be opened: no package {missing}", missing=missing, hint=INSTALL
        ) from exc
    except (ImportError, AttributeError, OSError, RuntimeError) as exc:
        # A torchvision built for another torch, as PyPI's is for the CPU's torch, raises RuntimeError when imported.
        raise BackendUnavailable(
            f"{path} cannot be opened: spandrel needs torchvision, which does not work here ({first_line(exc)})",
            missing="torchvision",
            hint="install torch and torchvision from the same index, such as https://download.pytorch.org/whl/cpu",
        ) from exc
    return spandrel


def read_state(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint's tensors. Runs no code that the file brings."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ModelFileError(f"cannot read {path}: {exc.strerror}") from exc
    is_safetensors = path.suffix.lower() == SAFETENSORS_SUFFIX
    try:
        loaded = _load_safetensors(content) if is_safetensors else _load_pickle(content)
    except pickle.UnpicklingError as exc:  # torch's own text advises to load the file unsafely
        raise ModelFileError(
            f"{path} was refused: it is damaged, or holds Python objects beside tensors, and unpickling objects can "
            "run any code",
            hint="save only the network's state dict, best as .safetensors, where you trust the file",
        ) from exc
    except READ_ERRORS as exc:
        raise ModelFileError(
            f"{path} is not a whole checkpoint: {first_line(exc)} ({len(content)} bytes)",
            hint="the file is truncated, damaged or of another kind (TorchScript programs are not read); give the "
            "network's state dict",
        ) from exc
    if not isinstance(loaded, Mapping) or not all(isinstance(name, str) for name in loaded):
        raise ModelFileError(
            f"{path} holds no weights by name, but an object of type {type(loaded).__name__}",
            hint="save the network's state dict",
        )
    return loaded


def _load_pickle(content: bytes) -> object:
    """Read what ``torch.save`` wrote, by the restricted unpickler."""
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _load_safetensors(content: bytes) -> object:
    """Read a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as exc:
        raise ValueError(str(exc)) from exc


def first_line(exc: BaseException) -> str:
    """An exception's own words, in one line."""
    return str(exc).strip().partition("\n")[0][:300] or type(exc).__name__

"""Reads the tensors of PyTorch's ``.pth`` files and of ``.safetensors`` files. Runs no code that a file brings.

A ``.pth`` file is a pickle, which can carry any program; it is read by torch's restricted unpickler, which builds
tensors and plain containers and nothing else. A ``.safetensors`` file holds tensors only and is read without torch.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, ModelFileError

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, NDArray[np.float32]]
"""Arrays by the names that the file gives them."""

CONTAINERS = ("params_ema", "params")
"""Entries that hold the state dict in files of the official training code, best first: the running average of the
weights is what was published. Without either, the file is the state dict. Source: ``RealESRGANer`` of Real-ESRGAN."""

SAFETENSORS_SUFFIX = ".safetensors"

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of torch's zip archives, and of pickles of protocol 2 and newer, which it wrote before."""

_SAFETENSORS_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}

_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""A pickle is a program: a damaged one fails with whatever its first wrong instruction causes."""

_DATA_PARALLEL_PREFIX = "module."


def read_tensors(path: Path, *, content: bytes) -> Tensors:
    """Read all tensors of a checkpoint.

    Args:
        path: Says the format, by its suffix, and names the file in errors.
        content: The whole file.

    Returns:
        float32 arrays without the prefix that ``torch.nn.DataParallel`` adds; exact, except for float64. Empty if the
        file is a checkpoint of some other kind: no mapping from names to tensors of numbers.

    Raises:
        ModelFileError: The file is empty, damaged, no checkpoint at all, or holds more than tensors.
        BackendUnavailable: The library that reads the format is not installed.
    """
    if not content:
        raise ModelFileError(f"{path} is empty", hint="copy or download the file again")
    if path.suffix.lower() == SAFETENSORS_SUFFIX:
        tensors = _read_safetensors(path, content=content)
    else:
        tensors = _read_pickle(path, content=content)
    if tensors and all(name.startswith(_DATA_PARALLEL_PREFIX) for name in tensors):
        return {name.removeprefix(_DATA_PARALLEL_PREFIX): array for name, array in tensors.items()}
    return tensors


def _read_safetensors(path: Path, *, content: bytes) -> Tensors:
    """Read a ``.safetensors`` file without torch."""
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError as exc:
        raise BackendUnavailable(
            f"{path} cannot be read: no package safetensors", missing="safetensors", hint="pip install safetensors"
        ) from exc
    try:
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as exc:
        raise ModelFileError(
            f"{path} is not a whole safetensors file: {exc} ({len(content)} bytes)",
            hint="the file is truncated, damaged or of another kind; copy or download it again",
        ) from exc
    tensors = {}
    for name, entry in entries:
        array = _from_bytes(bytes(entry["data"]), dtype=entry["dtype"])
        if array is None:
            return {}
        tensors[name] = array.reshape(entry["shape"])
    return tensors


def _from_bytes(raw: bytes, *, dtype: str) -> NDArray[np.float32] | None:
    """Convert little-endian numbers to float32; None for types that are not floating point or too coarse."""
    if dtype == "BF16":
        # A bfloat16 is the upper half of a float32.
        return (np.frombuffer(raw, dtype="<u2").astype("<u4") << 16).view("<f4").astype(np.float32)
    known = _SAFETENSORS_DTYPES.get(dtype)
    return None if known is None else np.frombuffer(raw, dtype=known).astype(np.float32)


def _read_pickle(path: Path, *, content: bytes) -> Tensors:
    """Read a file of ``torch.save``, by the restricted unpickler."""
    if not content.startswith(_PICKLE_STARTS):
        raise ModelFileError(
            f"{path} is not a PyTorch checkpoint: it begins with {content[:8]!r}",
            hint="a download that failed often leaves a web page under the file's name; look at the file",
        )
    try:
        import torch
    except ImportError as exc:
        raise BackendUnavailable(
            f"{path} cannot be read without torch", missing="torch", hint='pip install "nightscale[export]"'
        ) from exc
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an unusual pickle protocol is either read or refused
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _UNPICKLING_ERRORS as exc:
        raise _refusal(path, exc, byte_count=len(content)) from exc
    state = _state_dict(loaded)
    if not all(isinstance(name, str) and _is_array(tensor) for name, tensor in state.items()):
        return {}
    return {name: tensor.detach().to(torch.float32).numpy().copy() for name, tensor in state.items()}


def _state_dict(loaded: object) -> Mapping[Any, Any]:
    """Find the state dict in what a file holds; empty if there is none."""
    if not isinstance(loaded, Mapping):
        return {}
    for name in CONTAINERS:
        inner = loaded.get(name)
        if isinstance(inner, Mapping):
            return inner
    return loaded


def _is_array(value: object) -> bool:
    """Whether a value of a state dict is a plain tensor of floating-point numbers."""
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    tensor: Tensor = value
    return tensor.is_floating_point() and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _refusal(path: Path, exc: Exception, *, byte_count: int) -> ModelFileError:
    """Say why torch did not read a file: because of what it would have run, or because it is damaged."""
    wanted = re.search(r"GLOBAL:? (\S+)", str(exc)) if isinstance(exc, pickle.UnpicklingError) else None
    if wanted is not None:
        return ModelFileError(
            f"{path} was refused: beside tensors it holds a Python object ({wanted[1].rstrip('.')}), and unpickling "
            "objects can run any code",
            hint="save only its state dict, best as .safetensors, where you trust the file",
        )
    # Of the unpickler's own errors no text helps, and one advises to load the file unsafely.
    reason = str(exc).partition("\n")[0] if isinstance(exc, RuntimeError) else "its contents are no pickle of tensors"
    return ModelFileError(
        f"{path} is not a whole PyTorch checkpoint: {reason} ({byte_count} bytes)",
        hint="the file is truncated, damaged or of another kind; copy or download it again",
    )

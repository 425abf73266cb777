"""What the engine of a config is: its network, the files that this is read from, and the backend that runs it here."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import MODELS, BackendChoice, ModelSpec, WeightsError, choose_backend, find_model
from engines.models import is_model_file
from engines.weights import find_weights_files
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config import InferSection

KEPT_FILES = 16
"""Files whose content is remembered while they stay as they are: a run of many films reads its model once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file that a network is read from."""

    path: Path
    sha256: str
    """Of the whole file, lower-case hex."""


def find_network(infer: InferSection) -> ModelSpec:
    """Find the network of a config: an entry of the table, or the user's own file, which is inspected.

    Raises:
        UnknownModel: There is none of that name.
        ModelFileError: The file is missing, or not a network that upscales pictures.
        ConfigError: ``infer.denoise`` is given for a network that has none.
    """
    stamp = _stamp(Path(infer.model)) if is_model_file(infer.model) else ()
    model = _find_network(infer.model, denoise=None, stamp=stamp)
    if infer.denoise is None:
        return model
    if not model.denoise_files:
        able = ", ".join(name for name, known in MODELS.items() if known.denoise_files)
        raise ConfigError(
            (f"infer.denoise: must be null with infer.model {model.name} (got {infer.denoise:g})",),
            hint=f"networks with a choice: {able}",
        )
    return _find_network(infer.model, denoise=infer.denoise, stamp=stamp)


def choose_engine(infer: InferSection, *, model: ModelSpec) -> BackendChoice:
    """Choose the backend of a config.

    Args:
        infer: What the config says.
        model: From ``find_network``.

    Raises:
        EngineError: None can run it; see ``engines.choose_backend``.
    """
    return choose_backend(
        model=model,
        backend=infer.backend,
        precision=infer.precision,
        device=infer.device,
        build=infer.engine.build_options(),
    )


def list_model_files(model: ModelSpec) -> tuple[ModelFile, ...]:
    """Say what a network is read from; nothing for networks without weights.

    Raises:
        WeightsError: A file is missing or cannot be read.
    """
    if model.path is None and not model.files:
        return ()
    paths = find_weights_files(model)
    if model.architecture == "onnx":
        paths += _external_files(paths[0], stamp=_stamp(paths[0]))
    return tuple(ModelFile(path=path, sha256=_sha256(path, stamp=_stamp(path))) for path in paths)


def choice_as_json(choice: BackendChoice) -> dict[str, Any]:
    """A choice as JSON-native values, with what was passed over and why."""
    return {
        "backend": choice.backend,
        "device": choice.device,
        "device_id": choice.device_id,
        "precision": choice.precision,
        "reason": choice.reason,
        "passed_over": [
            {"backend": one.backend, "device": one.device, "reason": one.reason, "hint": one.hint}
            for one in choice.passed_over
        ],
    }


def passed_over_lines(choice: BackendChoice) -> tuple[str, ...]:
    """Every better backend that ``auto`` did not take, a line each with the reason and what would change it."""
    return tuple(
        f"not {one.backend} on {one.device}: {one.reason}" + (f" ({one.hint})" if one.hint else "")
        for one in choice.passed_over
    )


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does; nothing if it cannot be looked at, which whoever reads it will say."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=KEPT_FILES)  # inspecting a large file takes a second, and every film asks
def _find_network(name: str, *, denoise: float | None, stamp: tuple[int, ...]) -> ModelSpec:  # noqa: ARG001
    return find_model(name, denoise=denoise)


@functools.lru_cache(maxsize=KEPT_FILES)
def _sha256(path: Path, *, stamp: tuple[int, ...]) -> str:  # noqa: ARG001 - part of what is remembered
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise WeightsError(f"cannot read {path}: {exc.strerror}") from exc


@functools.lru_cache(maxsize=KEPT_FILES)
def _external_files(path: Path, *, stamp: tuple[int, ...]) -> tuple[Path, ...]:  # noqa: ARG001
    """Files beside an ONNX file that hold its weights, each once. The file was inspected, so it can be read."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    from engines.networks.onnx_reading import walk_tensors

    graph = onnx.load(str(path), load_external_data=False).graph
    places = (ExternalDataInfo(tensor).location for tensor in walk_tensors(graph) if uses_external_data(tensor))
    return tuple(path.absolute().parent / place for place in dict.fromkeys(places))

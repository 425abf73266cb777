"""The table of models, and the way from a name or a file to a model. Adding a model is one entry here (and, for a new
architecture, its layers and its graph).

The hashes of the official files were each found, the same, in at least five public repositories of different owners
that pin them (package recipes, download scripts, model registries); those of the package's files are of its version
1.0.1.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from engines.costs import with_costs
from engines.errors import EngineError, ModelFileError, UnknownModel
from engines.spec import ModelSpec, WeightFile

_RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"

DEFAULT_DENOISE = 0.5
"""Share of the denoising network in the mix of ``realesr-general-x4v3``. Source: the default of ``--denoise_strength``
in Real-ESRGAN's ``inference_realesrgan.py``."""

MODEL_SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".safetensors", ".onnx", ".bin"})
"""Of names that mean a file, lower case; names with a path separator mean one too."""

_ENTRIES = (
    ModelSpec(
        name="realesr-animevideov3",
        architecture="srvgg",
        scale=4,
        features=64,
        blocks=16,
        overlap_px=32,
        files=(
            WeightFile(
                name="REALESRGAN_ANIMAVIDEOV3_UP4X.bin",
                sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
            ),
            WeightFile(
                name="realesr-animevideov3.pth",
                sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
                url=f"{_RELEASES}/v0.2.5.0/realesr-animevideov3.pth",
            ),
        ),
        summary="small and fast, made for animation video; the default",
    ),
    ModelSpec(
        name="realesr-general-x4v3",
        architecture="srvgg",
        scale=4,
        features=64,
        blocks=32,
        files=(
            WeightFile(
                name="realesr-general-x4v3.pth",
                sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
                url=f"{_RELEASES}/v0.2.5.0/realesr-general-x4v3.pth",
            ),
        ),
        denoise_files=(
            WeightFile(
                name="realesr-general-wdn-x4v3.pth",
                sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
                url=f"{_RELEASES}/v0.2.5.0/realesr-general-wdn-x4v3.pth",
            ),
        ),
        denoise=DEFAULT_DENOISE,
        summary="small, for photographs and live action; how much it denoises can be set",
    ),
    ModelSpec(
        name="RealESRGAN_x4plus",
        architecture="rrdb",
        scale=4,
        features=64,
        blocks=23,
        growth=32,
        overlap_px=64,
        files=(
            WeightFile(
                name="REALESRGAN_X4PLUS_UP4X.bin",
                sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
            ),
            WeightFile(
                name="RealESRGAN_x4plus.pth",
                sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
                url=f"{_RELEASES}/v0.1.0/RealESRGAN_x4plus.pth",
            ),
        ),
        summary="large, for photographs and live action; needs a GPU for whole films",
    ),
    ModelSpec(
        name="RealESRNet_x4plus",
        architecture="rrdb",
        scale=4,
        features=64,
        blocks=23,
        growth=32,
        overlap_px=64,  # RealESRGAN_x4plus's: the same layers, so the same receptive field
        files=(
            WeightFile(
                name="RealESRNet_x4plus.pth",
                sha256="a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
                url=f"{_RELEASES}/v0.1.1/RealESRNet_x4plus.pth",
            ),
        ),
        summary="large, for photographs; smoother than RealESRGAN_x4plus and without invented detail",
    ),
    ModelSpec(
        name="RealESRGAN_x2plus",
        architecture="rrdb",
        scale=2,
        features=64,
        blocks=23,
        growth=32,
        unshuffle=2,
        size_multiple=2,
        min_px=2,
        overlap_px=128,  # RealESRGAN_x4plus's 64 pixels of the trunk, which has half the input's size here
        files=(
            WeightFile(
                name="RealESRGAN_x2plus.pth",
                sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
                url=f"{_RELEASES}/v0.2.1/RealESRGAN_x2plus.pth",
            ),
        ),
        summary="large, for photographs and live action, twice the size; a quarter of RealESRGAN_x4plus's work",
    ),
    ModelSpec(
        name="RealESRGAN_x4plus_anime_6B",
        architecture="rrdb",
        scale=4,
        features=64,
        blocks=6,
        growth=32,
        overlap_px=48,
        files=(
            WeightFile(
                name="REALESRGAN_X4PLUSANIME_UP4X.bin",
                sha256="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
            ),
            WeightFile(
                name="RealESRGAN_x4plus_anime_6B.pth",
                sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
                url=f"{_RELEASES}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
            ),
        ),
        summary="medium, for anime pictures",
    ),
    ModelSpec(name="nearest-x1", architecture="nearest", scale=1, summary="no network: copies the picture; for tests"),
    ModelSpec(name="nearest-x2", architecture="nearest", scale=2, summary="no network: repeats pixels; for tests"),
    ModelSpec(name="nearest-x4", architecture="nearest", scale=4, summary="no network: repeats pixels; for tests"),
)

MODELS: Mapping[str, ModelSpec] = MappingProxyType({model.name: with_costs(model) for model in _ENTRIES})
"""Every model by name, in the order in which lists show them. Read-only."""

DEFAULT_MODEL = "realesr-animevideov3"
"""The model of configs that name none: the only network of the table that a CPU can run over a film."""


def find_model(name: str | Path, *, denoise: float | None = None) -> ModelSpec:
    """Look a model up by its exact name, or inspect the user's own file.

    Args:
        name: A name of the table, or a file: a path, or a string with a path separator or one of ``MODEL_SUFFIXES``.
        denoise: Share of the denoising network in the mix, [0, 1], for models that have a sibling; None is
            ``DEFAULT_DENOISE``.

    Returns:
        The model with its costs. A file's model is called as the file is, without suffix.

    Raises:
        UnknownModel: There is none of that name; the hint names the nearest.
        EngineError: ``denoise`` is out of range, or the model has none.
        ModelFileError: The file is missing or damaged, or not a network that upscales pictures.
        WeightsError: The file has the name of a published one, but is another.
        BackendUnavailable: A library that reads the file is not installed.
    """
    model = _inspect(Path(name)) if is_model_file(name) else _look_up(str(name))
    return _with_denoise(model, denoise=denoise)


def is_model_file(name: str | Path) -> bool:
    """Whether a model's name means a file and not an entry of the table. Looks at nothing but the name."""
    if isinstance(name, Path):
        return True
    return "/" in name or "\\" in name or Path(name).suffix.lower() in MODEL_SUFFIXES


def _look_up(name: str) -> ModelSpec:
    """Find an entry of the table."""
    model = MODELS.get(name)
    if model is not None:
        return model
    by_folded = {known.casefold(): known for known in MODELS}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    hint = f"did you mean {by_folded[near[0]]}?" if near else f"known models: {', '.join(MODELS)}, or a file"
    raise UnknownModel(f"unknown model {name!r}", hint=hint)


def _inspect(path: Path) -> ModelSpec:
    """Inspect a file, which is to be one of the table's if it has one's name or content."""
    from engines.model_files import inspect_model_file

    try:
        expanded = path.expanduser()
    except RuntimeError as exc:
        raise ModelFileError(f"there is no model file {path}: {exc}", hint="check the path") from exc
    return inspect_model_file(expanded, table=MODELS)


def _with_denoise(model: ModelSpec, *, denoise: float | None) -> ModelSpec:
    """Set the share of the denoising network."""
    if denoise is None:
        return model
    if not model.denoise_files:
        able = ", ".join(name for name, known in MODELS.items() if known.denoise_files)
        raise EngineError(
            f"model {model.name} has no denoise: there is no second network to mix it with",
            hint=f"leave denoise out, or choose {able}",
        )
    if not (math.isfinite(denoise) and 0 <= denoise <= 1):
        raise EngineError(f"denoise must be from 0 (keeps the noise) to 1 (removes it), not {denoise}")
    return replace(model, denoise=float(denoise))

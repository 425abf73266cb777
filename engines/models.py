"""The table of models. Adding one is one entry here (and, for a new architecture, its layers and its graph)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from engines.errors import UnknownModel
from engines.fold import foldable_scales
from engines.layers import activation_bytes_per_px, flop_per_px, receptive_px
from engines.spec import ModelSpec


def _with_costs(model: ModelSpec) -> ModelSpec:
    """Fill in what follows from the layers."""
    return replace(
        model,
        receptive_px=receptive_px(model),
        output_scales=foldable_scales(model),
        flop_per_px=flop_per_px(model),
        activation_bytes_per_px=activation_bytes_per_px(model),
    )


_ENTRIES = (
    ModelSpec(
        name="realesr-animevideov3",
        architecture="srvgg",
        scale=4,
        features=64,
        blocks=16,
        overlap_px=32,
        weights_file="REALESRGAN_ANIMAVIDEOV3_UP4X.bin",
        weights_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        summary="small and fast, made for animation video; the default",
    ),
    ModelSpec(
        name="RealESRGAN_x4plus",
        architecture="rrdb",
        scale=4,
        features=64,
        blocks=23,
        growth=32,
        overlap_px=64,
        weights_file="REALESRGAN_X4PLUS_UP4X.bin",
        weights_sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        summary="large, for photographs and live action; needs a GPU for whole films",
    ),
    ModelSpec(
        name="RealESRGAN_x4plus_anime_6B",
        architecture="rrdb",
        scale=4,
        features=64,
        blocks=6,
        growth=32,
        overlap_px=48,
        weights_file="REALESRGAN_X4PLUSANIME_UP4X.bin",
        weights_sha256="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        summary="medium, for anime pictures",
    ),
    ModelSpec(name="nearest-x1", architecture="nearest", scale=1, summary="no network: copies the picture; for tests"),
    ModelSpec(name="nearest-x2", architecture="nearest", scale=2, summary="no network: repeats pixels; for tests"),
    ModelSpec(name="nearest-x4", architecture="nearest", scale=4, summary="no network: repeats pixels; for tests"),
)

MODELS: Mapping[str, ModelSpec] = MappingProxyType({model.name: _with_costs(model) for model in _ENTRIES})
"""Every model by name, in the order in which lists show them. Read-only."""

DEFAULT_MODEL = "realesr-animevideov3"
"""The model of configs that name none: the only network of the table that a CPU can run over a film."""


def find_model(name: str) -> ModelSpec:
    """Look a model up by its exact name.

    Raises:
        UnknownModel: There is none; the hint names the nearest.
    """
    model = MODELS.get(name)
    if model is not None:
        return model
    by_folded = {known.casefold(): known for known in MODELS}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    hint = f"did you mean {by_folded[near[0]]}?" if near else f"known models: {', '.join(MODELS)}"
    raise UnknownModel(f"unknown model {name!r}", hint=hint)

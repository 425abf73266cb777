"""The model table and the figures that follow from the layers."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from helpers.reference import run_reference
from numpy.typing import NDArray

from engines import DEFAULT_MODEL, MODELS, EngineError, ModelSpec, UnknownModel, find_model, find_weights_file
from engines.layers import activation_bytes_per_px, convolutions, flop_per_px, receptive_px
from engines.weights import ConvWeights, ModelWeights

SMALL = (
    ModelSpec(name="small-srvgg", architecture="srvgg", scale=4, features=4, blocks=2),
    ModelSpec(name="small-srvgg-x2", architecture="srvgg", scale=2, features=4, blocks=1),
    ModelSpec(name="small-rrdb", architecture="rrdb", scale=4, features=4, blocks=1, growth=2),
)


def positive_weights(model: ModelSpec) -> ModelWeights:
    """Every weight positive, so that every dependency shows in the output."""
    layers = tuple(
        ConvWeights(
            shape=shape,
            kernel=np.full((shape.outputs, shape.inputs, 3, 3), 1 / (9 * shape.inputs), dtype=np.float32),
            bias=np.zeros(shape.outputs, dtype=np.float32),
            slopes=np.ones(shape.outputs, dtype=np.float32) if shape.has_slopes else None,
        )
        for shape in convolutions(model)
    )
    return ModelWeights(model=model, layers=layers)


def reach_measured(model: ModelSpec, *, edge_px: int) -> int:
    """How far from an output pixel's place the farthest input pixel lies that changes it."""
    weights = positive_weights(model)
    image: NDArray[np.float32] = np.zeros((1, 3, edge_px, edge_px), dtype=np.float32)
    base = run_reference(weights, tiles=image)
    centre = edge_px // 2
    image[:, :, centre, centre] = 1e6
    changed = np.nonzero(run_reference(weights, tiles=image)[0, 0] != base[0, 0])[0] // model.scale
    return int(max(centre - changed.min(), changed.max() - centre))


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.name)
def test_receptive_field_is_what_a_single_changed_pixel_reaches(model):
    bound = receptive_px(model)
    assert reach_measured(model, edge_px=4 * bound + 5) == bound


@pytest.mark.parametrize(("name", "reach"), [("realesr-animevideov3", 18), ("RealESRGAN_x4plus_anime_6B", 94)])
def test_receptive_field_of_the_table(name, reach):
    assert find_model(name).receptive_px == reach


def test_arithmetic_of_animevideov3_is_the_sum_written_out():
    by_hand = 2 * 9 * (3 * 64 + 16 * 64 * 64 + 64 * 48)
    assert find_model("realesr-animevideov3").flop_per_px == by_hand


def test_arithmetic_of_x4plus_counts_the_enlarged_convolutions_as_often_as_they_run():
    dense = 64 * 32 + 96 * 32 + 128 * 32 + 160 * 32 + 192 * 64
    trunk = 3 * 64 + 23 * 3 * dense + 64 * 64
    tail = 4 * 64 * 64 + 16 * (64 * 64 + 64 * 64 + 64 * 3)
    assert find_model("RealESRGAN_x4plus").flop_per_px == 2 * 9 * (trunk + tail)


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.name)
def test_memory_bound_holds_the_widest_convolution_and_the_result(model):
    widest = max((shape.inputs + shape.outputs) * shape.resolution**2 for shape in convolutions(model))
    bound = activation_bytes_per_px(model)
    assert bound >= 4 * widest
    assert bound >= 4 * 3 * model.scale**2


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_table_entries_carry_their_own_figures(model):
    assert model.receptive_px == receptive_px(model)
    assert model.flop_per_px == flop_per_px(model)
    assert model.activation_bytes_per_px == activation_bytes_per_px(model) > 0
    assert model.output_scales[-1] == model.scale
    assert model.overlap_px % 2 == 0
    assert model.summary


@pytest.mark.parametrize("model", [model for model in MODELS.values() if model.weights_file], ids=lambda m: m.name)
def test_hashes_are_those_of_the_installed_files(model):
    assert hashlib.sha256(find_weights_file(model).read_bytes()).hexdigest() == model.weights_sha256


def test_names_of_the_table_find_their_entries_and_the_default_is_one_of_them():
    assert all(find_model(name).name == name for name in MODELS)
    assert DEFAULT_MODEL in MODELS


def test_table_cannot_be_written_to():
    with pytest.raises(TypeError):
        MODELS["other"] = SMALL[0]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("realesrgan_x4plus", "RealESRGAN_x4plus"),
        ("animevideov3", "realesr-animevideov3"),
        ("realesrgan-x4plus-anime", "RealESRGAN_x4plus_anime_6B"),
        ("nearest-x3", "nearest-x"),
    ],
)
def test_misspelt_name_is_answered_with_the_nearest(wrong, meant):
    with pytest.raises(UnknownModel, match=wrong) as caught:
        find_model(wrong)
    assert meant in caught.value.hint


def test_name_near_nothing_is_answered_with_all():
    with pytest.raises(UnknownModel) as caught:
        find_model("qqqqqq")
    assert all(name in caught.value.hint for name in MODELS)


def test_rrdb_of_another_scale_is_refused():
    with pytest.raises(EngineError, match="x2"):
        convolutions(replace(SMALL[2], scale=2))

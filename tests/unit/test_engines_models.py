"""The model table and the figures that follow from the layers."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.reference import run_reference
from helpers.weight_files import RRDB_X1, RRDB_X2
from numpy.typing import NDArray

from engines import DEFAULT_MODEL, MODELS, EngineError, ModelSpec, UnknownModel, find_model, find_weights_file
from engines.costs import activation_bytes_per_px, estimate_overlap_px, flop_per_px, receptive_px, with_costs
from engines.layers import convolutions
from engines.weights import ConvWeights, ModelWeights

PACKAGED = ("realesr-animevideov3", "RealESRGAN_x4plus_anime_6B", "RealESRGAN_x4plus")
SMALL = (
    ModelSpec(name="small-srvgg", architecture="srvgg", scale=4, features=4, blocks=2),
    ModelSpec(name="small-srvgg-x2", architecture="srvgg", scale=2, features=4, blocks=1),
    ModelSpec(name="small-rrdb", architecture="rrdb", scale=4, features=4, blocks=1, growth=2),
    replace(RRDB_X2, features=4, growth=2),
    replace(RRDB_X1, features=4, growth=2),
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
    centre = edge_px // 2 // model.unshuffle * model.unshuffle  # the first pixel of those that are unshuffled together
    image[:, :, centre, centre] = 1e6
    changed = np.nonzero(run_reference(weights, tiles=image)[0, 0] != base[0, 0])[0] // model.scale
    return int(max(centre - changed.min(), changed.max() - centre))


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.name)
def test_receptive_field_is_what_a_single_changed_pixel_reaches(model):
    bound = receptive_px(model)
    assert reach_measured(model, edge_px=4 * (bound + 1)) == bound


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("realesr-animevideov3", 18),
        ("realesr-general-x4v3", 34),
        ("RealESRGAN_x4plus_anime_6B", 94),
        ("RealESRGAN_x4plus", 349),
        ("RealESRGAN_x2plus", 2 * 349),
    ],
)
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


def test_x2plus_does_a_quarter_of_x4plus_and_its_first_convolution_more():
    x4, x2 = find_model("RealESRGAN_x4plus"), find_model("RealESRGAN_x2plus")
    first = 2 * 9 * 64
    assert 4 * x2.flop_per_px == x4.flop_per_px + first * (12 - 3)


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.name)
def test_memory_bound_holds_the_widest_convolution_and_the_result(model):
    at_trunk = max((shape.inputs + shape.outputs) * shape.resolution**2 for shape in convolutions(model))
    widest = at_trunk / model.unshuffle**2
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


@pytest.mark.parametrize("model", [MODELS[name] for name in PACKAGED], ids=PACKAGED)
def test_hashes_are_those_of_the_installed_files(model):
    assert hashlib.sha256(find_weights_file(model).read_bytes()).hexdigest() == model.files[0].sha256


@pytest.mark.parametrize("model", [model for model in MODELS.values() if model.files], ids=lambda m: m.name)
def test_every_network_of_the_table_has_an_official_file_and_says_its_hash(model):
    published = [file for file in (*model.files, *model.denoise_files) if file.url]
    assert published
    for file in (*model.files, *model.denoise_files):
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
    for file in published:
        assert file.url.startswith("https://github.com/xinntao/Real-ESRGAN/releases/download/v")
        assert file.url.endswith(f"/{file.name}")


def test_no_two_files_of_the_table_have_a_name_or_a_hash_in_common():
    files = [file for model in MODELS.values() for file in (*model.files, *model.denoise_files)]
    assert len({file.name for file in files}) == len({file.sha256 for file in files}) == len(files) == 10


def test_all_models_of_the_official_script_are_in_the_table():
    assert {
        "RealESRGAN_x4plus",
        "RealESRNet_x4plus",
        "RealESRGAN_x4plus_anime_6B",
        "RealESRGAN_x2plus",
        "realesr-animevideov3",
        "realesr-general-x4v3",
    } <= MODELS.keys()


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_tile_sides_are_divisible_by_the_unshuffle(model):
    assert model.size_multiple == model.min_px == model.unshuffle
    assert model.overlap_px % model.size_multiple == 0


def test_overlap_of_an_unmeasured_compact_network_is_its_whole_reach_on_both_sides():
    model = find_model("realesr-general-x4v3")
    assert model.overlap_px == 2 * model.receptive_px == 68


def test_overlap_of_an_unmeasured_dense_network_is_that_of_the_next_larger_measured_one():
    measured = {find_model(name).blocks: find_model(name).overlap_px for name in PACKAGED[1:]}
    dense = find_model("RealESRGAN_x4plus")
    assert {blocks: estimate_overlap_px(replace(dense, blocks=blocks)) for blocks in measured} == measured
    estimates = [estimate_overlap_px(replace(dense, blocks=blocks)) for blocks in range(1, 60)]
    assert estimates == sorted(estimates)
    assert all(overlap % 2 == 0 for overlap in estimates)


def test_measured_overlap_is_kept():
    assert with_costs(replace(SMALL[0], overlap_px=6)).overlap_px == 6


def test_denoise_is_half_unless_said_as_in_the_official_script():
    assert find_model("realesr-general-x4v3").denoise == 0.5
    assert [find_model("realesr-general-x4v3", denoise=share).denoise for share in (0, 0.25, 1)] == [0, 0.25, 1]
    assert find_model("RealESRGAN_x4plus").denoise is None


@pytest.mark.parametrize("denoise", [-0.1, 1.01, math.nan, math.inf])
def test_denoise_out_of_range_is_refused(denoise):
    with pytest.raises(EngineError, match=f"not {denoise}"):
        find_model("realesr-general-x4v3", denoise=denoise)


def test_denoise_of_a_model_without_a_sibling_is_refused_with_one_that_has_it():
    with pytest.raises(EngineError, match="RealESRGAN_x4plus has no denoise") as caught:
        find_model("RealESRGAN_x4plus", denoise=0.5)
    assert "realesr-general-x4v3" in caught.value.hint


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


def test_rrdb_of_another_scale_than_its_unshuffle_gives_is_refused():
    with pytest.raises(EngineError, match="not by 2"):
        convolutions(replace(SMALL[2], scale=2))

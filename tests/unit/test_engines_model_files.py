"""The user's own PyTorch and safetensors files: recognised by their tensors, or refused in one sentence."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import types
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers.weight_files import (
    RRDB,
    RRDB_X1,
    RRDB_X2,
    SRVGG,
    random_weights,
    rrdb_state,
    save_pth,
    save_safetensors,
    srvgg_state,
    state_of,
)

import engines.networks
from engines import EngineError, WeightsError, find_model, find_weights_file, load_weights
from engines.costs import with_costs
from engines.errors import BackendUnavailable, ModelFileError
from engines.graph import build_graph
from engines.models import is_model_file
from engines.networks import load_network
from engines.weights import ModelWeights

MODELS = {model.name: model for model in (SRVGG, RRDB, RRDB_X2, RRDB_X1)}


def save(folder, state, *, kind="pth", name="mine"):
    if kind == "safetensors":
        return save_safetensors(folder / f"{name}.safetensors", state)
    return save_pth(folder / f"{name}.{kind}", {"params_ema": state})


def assert_same_numbers(left: ModelWeights, right: ModelWeights) -> None:
    for ours, theirs in zip(left.layers, right.layers, strict=True):
        assert np.array_equal(ours.kernel, theirs.kernel)
        assert np.array_equal(ours.bias, theirs.bias)
        assert (ours.slopes is None) == (theirs.slopes is None)
        assert ours.slopes is None or np.array_equal(ours.slopes, theirs.slopes)


@pytest.fixture
def spandrel(monkeypatch):
    """Stands for whatever recognises other architectures; the paths that it was asked about."""
    asked = []

    def inspect_checkpoint(path):
        asked.append(path)
        raise ModelFileError(f"{path} is of no architecture that spandrel knows")

    module = types.ModuleType("engines.networks.spandrel_file")
    module.inspect_checkpoint = inspect_checkpoint
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(engines.networks, "spandrel_file", module, raising=False)
    return asked


class Program:
    """Unpickling it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("kind", ["pth", "pt", "ckpt", "bin", "safetensors"])
@pytest.mark.parametrize("name", MODELS)
def test_sizes_and_numbers_of_a_file_are_those_of_its_network(tmp_path, kind, name):
    weights = random_weights(MODELS[name])
    path = save(tmp_path, state_of(weights), kind=kind)
    model = find_model(path)
    assert model == replace(with_costs(MODELS[name]), name="mine", path=path, summary=model.summary)
    assert_same_numbers(load_weights(model), weights)
    assert find_weights_file(model) == path


@pytest.mark.parametrize("layout", ["basicsr", "esrgan", "old"])
@pytest.mark.parametrize("model", [RRDB, RRDB_X2], ids=lambda model: model.name)
def test_every_layout_of_the_same_network_gives_the_same_graph(tmp_path, layout, model):
    weights = random_weights(model)
    path = save(tmp_path, rrdb_state(weights, layout=layout))
    written = load_network(find_model(path)).spec
    assert (written.scale, written.unshuffle, written.blocks) == (model.scale, model.unshuffle, model.blocks)
    graphs = [
        build_graph(ModelWeights(model=replace(model, name="mine"), layers=layers), batch=1, height=8, width=8)
        for layers in (weights.layers, load_weights(written).layers)
    ]
    assert graphs[0].SerializeToString(deterministic=True) == graphs[1].SerializeToString(deterministic=True)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_scale_of_a_compact_network_is_that_of_its_last_convolution(tmp_path, scale):
    weights = random_weights(replace(SRVGG, scale=scale, features=5, blocks=0))
    model = find_model(save(tmp_path, srvgg_state(weights)))
    assert (model.scale, model.features, model.blocks) == (scale, 5, 0)


def test_averaged_weights_come_before_the_last_ones_and_both_before_a_bare_state_dict(tmp_path):
    best, last = (srvgg_state(random_weights(SRVGG, seed=seed)) for seed in (1, 2))
    for content, wanted in (
        ({"params": last, "params_ema": best}, best),
        ({"params": last, "iter": 7}, last),
        (best, best),
        ({f"module.{key}": array for key, array in best.items()}, best),
    ):
        weights = load_weights(find_model(save_pth(tmp_path / "mine.pth", content)))
        assert np.array_equal(weights.layers[0].kernel, wanted["body.0.weight"])


def test_file_of_torchs_first_format_is_read(tmp_path):
    weights = random_weights(SRVGG)
    path = save_pth(tmp_path / "mine.pth", {"params": srvgg_state(weights)}, _use_new_zipfile_serialization=False)
    assert_same_numbers(load_weights(find_model(path)), weights)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_half_precision_is_widened_exactly(tmp_path, kind, dtype):
    torch = pytest.importorskip("torch", reason="torch (export extra) is not installed")
    state = {
        key: torch.tensor(array).to(getattr(torch, dtype)) for key, array in srvgg_state(random_weights(SRVGG)).items()
    }
    path = tmp_path / f"mine.{kind}"
    if kind == "pth":
        torch.save(state, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, str(path))
    read = srvgg_state(load_weights(find_model(path)))
    assert all(np.array_equal(read[key], tensor.float().numpy()) for key, tensor in state.items())


def test_safetensors_files_are_read_without_torch(tmp_path):
    path = save(tmp_path, srvgg_state(random_weights(SRVGG)), kind="safetensors")
    code = (
        "import sys; from engines import find_model, load_weights\n"
        f"load_weights(find_model({str(path)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_with_a_separator_or_a_suffix_mean_files():
    assert all(is_model_file(name) for name in ("a/b", "./x", "x.pth", "X.ONNX", "a.b.safetensors", "c\\d.pt"))
    assert not any(is_model_file(name) for name in ("RealESRGAN_x4plus", "realesr-general-x4v3", "a.b"))


def test_ncnn_file_is_known_by_its_content_under_any_name(tmp_path):
    official = find_model("realesr-animevideov3")
    copy = tmp_path / "copied.bin"
    copy.write_bytes(find_weights_file(official).read_bytes())
    model = find_model(copy)
    assert model == replace(official, name="copied", path=copy)
    assert_same_numbers(load_weights(model), load_weights(official))


def test_unknown_ncnn_file_is_answered_with_the_formats_that_say_what_they_hold(tmp_path):
    path = tmp_path / "other.bin"
    path.write_bytes(find_weights_file(find_model("realesr-animevideov3")).read_bytes()[:-4])
    with pytest.raises(ModelFileError, match="ncnn") as caught:
        find_model(path)
    assert ".onnx" in caught.value.hint


def test_another_file_under_an_official_name_is_called_damaged(tmp_path):
    path = save(tmp_path, srvgg_state(random_weights(SRVGG)), name="RealESRGAN_x4plus")
    with pytest.raises(WeightsError, match="SHA-256") as caught:
        find_model(path)
    assert find_model("RealESRGAN_x4plus").files[1].url in caught.value.hint
    assert "name of its own" in caught.value.hint


def test_pickled_code_is_refused_and_not_run(tmp_path):
    torch = pytest.importorskip("torch", reason="torch (export extra) is not installed")
    trace = tmp_path / "ran"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        path = tmp_path / "evil.pth"
        torch.save({"params": {"body.0.weight": Program(trace)}}, path, **options)
        with pytest.raises(ModelFileError, match=r"refused.*system.*can run any code") as caught:
            find_model(path)
        assert "safetensors" in caught.value.hint
    path.write_bytes(pickle.dumps(Program(trace)))
    with pytest.raises(ModelFileError):
        find_model(path)
    assert not trace.exists()


def test_whole_pickled_module_is_refused_with_the_way_to_save_it(tmp_path):
    torch = pytest.importorskip("torch", reason="torch (export extra) is not installed")
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ModelFileError, match="Linear") as caught:
        find_model(path)
    assert "state dict" in caught.value.hint


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_truncated_file_is_one_error_with_its_length(tmp_path, kind, share):
    path = save(tmp_path, state_of(random_weights(RRDB)), kind=kind)
    cut = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(cut)
    with pytest.raises(ModelFileError, match=rf"mine\.{kind} is not a whole .*\({len(cut)} bytes\)") as caught:
        find_model(path)
    assert caught.value.hint


@pytest.mark.parametrize("share", [0.9, 0.3])
def test_truncated_file_of_torchs_first_format_is_one_error(tmp_path, share):
    path = save_pth(tmp_path / "mine.pth", state_of(random_weights(RRDB)), _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ModelFileError, match="not a whole PyTorch checkpoint"):
        find_model(path)


def test_a_damaged_pickle_is_one_error_wherever_it_is_damaged(tmp_path, spandrel):
    path = save_pth(tmp_path / "mine.pth", srvgg_state(random_weights(SRVGG)), _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(300):
        position = int(random.integers(2, len(whole)))
        path.write_bytes(whole[:position] + random.bytes(1) + whole[position + 1 :])
        try:
            find_model(path)
        except EngineError as exc:
            assert str(path) in str(exc)


@pytest.mark.parametrize("kind", ["pth", "safetensors", "bin"])
@pytest.mark.parametrize("content", [b"hello world", b"\x89PNG\r\n\x1a\n" + bytes(50), b"<html>not found</html>"])
def test_file_of_another_kind_is_one_error(tmp_path, kind, content):
    path = tmp_path / f"mine.{kind}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="mine") as caught:
        find_model(path)
    assert caught.value.hint


def test_zip_archive_without_tensors_is_one_error(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    path = tmp_path / "mine.pth"
    path.write_bytes(stream.getvalue())
    with pytest.raises(ModelFileError, match="not a whole PyTorch checkpoint"):
        find_model(path)


def test_empty_file_folder_and_missing_file_are_one_error_each(tmp_path):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "folder.pth").mkdir()
    for name, message in (("empty.pth", "is empty"), ("folder.pth", "is a folder"), ("gone.pth", "there is no")):
        with pytest.raises(ModelFileError, match=message) as caught:
            find_model(tmp_path / name)
        assert caught.value.hint


def test_path_that_cannot_be_looked_at_is_one_error():
    for path in ("a/" + "b" * 300 + ".pth", "~nobody-of-that-name/x.pth", "null\0character.pth"):
        with pytest.raises(ModelFileError, match="model file") as caught:
            find_model(path)
        assert caught.value.hint == "check the path"


def test_a_device_is_no_model_file():
    with pytest.raises(ModelFileError, match="not a regular file"):
        find_model("/dev/null")


def test_names_with_absurd_numbers_do_not_ask_for_absurd_networks(tmp_path, spandrel):
    state = state_of(random_weights(SRVGG)) | {"body.99999999999.weight": np.zeros(3, dtype=np.float32)}
    with pytest.raises(ModelFileError):
        find_model(save(tmp_path, state))
    dense = state_of(random_weights(RRDB))
    key = "body.99999999999.rdb1.conv1.weight"
    with pytest.raises(ModelFileError, match=f"{key} is not part of it"):
        find_model(save(tmp_path, dense | {key: dense["body.0.rdb1.conv1.weight"]}))


def test_missing_file_with_a_name_of_the_table_is_answered_with_that_name():
    with pytest.raises(ModelFileError, match=r"RealESRGAN_x2plus\.pth") as caught:
        find_model("RealESRGAN_x2plus.pth")
    assert "is called RealESRGAN_x2plus" in caught.value.hint


def test_file_that_went_away_after_its_inspection_is_named(tmp_path):
    path = save(tmp_path, srvgg_state(random_weights(SRVGG)))
    model = find_model(path)
    path.unlink()
    with pytest.raises(WeightsError, match="gone"):
        load_weights(model)


@pytest.mark.parametrize("model", [SRVGG, RRDB], ids=lambda model: model.name)
def test_missing_superfluous_and_misshapen_tensors_are_named(tmp_path, model):
    whole = state_of(random_weights(model))
    key = list(whole)[4]
    faulty = {
        "is missing": {name: array for name, array in whole.items() if name != key},
        r"has shape \(1, 2\), expected": whole | {key: np.zeros((1, 2), dtype=np.float32)},
        "holds values that are not finite": whole | {key: np.full_like(whole[key], np.nan)},
    }
    for message, state in faulty.items():
        with pytest.raises(ModelFileError, match=f"{key} {message}"):
            find_model(save(tmp_path, state))


def test_tensor_that_does_not_belong_to_the_network_is_named(tmp_path):
    state = state_of(random_weights(RRDB)) | {"conv_extra.weight": np.zeros(3, dtype=np.float32)}
    with pytest.raises(ModelFileError, match=r"conv_extra\.weight is not part of it"):
        find_model(save(tmp_path, state))


def test_block_that_is_missing_in_the_middle_is_named(tmp_path):
    state = state_of(random_weights(replace(RRDB, blocks=3)))
    state = {key: array for key, array in state.items() if not key.startswith("body.1.")}
    with pytest.raises(ModelFileError, match=r"body\.1\.rdb1\.conv1\.weight is missing.*and \d+ more"):
        find_model(save(tmp_path, state))


def test_network_of_another_architecture_is_left_to_spandrel(tmp_path, spandrel):
    rrdb = state_of(random_weights(RRDB))
    compact = state_of(random_weights(SRVGG))
    four = np.zeros((4, 4, 3, 3), dtype=np.float32)
    states = (
        {"layers.0.weight": four},
        {key: array for key, array in compact.items() if array.ndim != 1 or key.endswith("bias")},
        rrdb | {"body.0.rdb1.conv1x1.weight": four},
        {
            key: array
            for key, array in rrdb_state(random_weights(RRDB), layout="old").items()
            if not key.startswith("model.10.")
        },
        {},
    )
    paths = [save(tmp_path, state, name=f"other{index}") for index, state in enumerate(states)]
    paths.append(save_pth(tmp_path / "training.pth", {"optimizer": {"step": 3}, "epoch": 1}))
    for path in paths:
        with pytest.raises(ModelFileError, match="spandrel"):
            find_model(path)
    assert spandrel == paths


def test_onnx_files_are_left_to_their_reader(tmp_path, monkeypatch):
    wanted = replace(SRVGG, architecture="onnx")
    module = types.ModuleType("engines.networks.onnx_file")
    module.inspect_onnx = lambda path: replace(wanted, path=path)
    module.load_onnx = lambda model: ("network of", model)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(engines.networks, "onnx_file", module, raising=False)
    path = tmp_path / "mine.ONNX"
    path.write_bytes(b"onnx")
    model = find_model(str(path))
    assert model.path == path
    assert load_network(model) == ("network of", model)


@pytest.mark.parametrize("model", [SRVGG, RRDB], ids=lambda model: model.name)
def test_network_for_grey_pictures_is_refused(tmp_path, model):
    state = state_of(random_weights(model))
    first = next(iter(state))
    with pytest.raises(ModelFileError, match="pictures of 1 channels"):
        find_model(save(tmp_path, state | {first: state[first][:, :1]}))


def test_reading_checkpoints_needs_torch_and_says_so(tmp_path, monkeypatch):
    path = save(tmp_path, srvgg_state(random_weights(SRVGG)))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match="without torch") as caught:
        find_model(path)
    assert "pip install" in caught.value.hint
    assert caught.value.missing == "torch"


def test_denoise_of_a_file_is_refused(tmp_path):
    path = save(tmp_path, srvgg_state(random_weights(SRVGG)))
    with pytest.raises(EngineError, match="no denoise") as caught:
        find_model(path, denoise=0.5)
    assert "realesr-general-x4v3" in caught.value.hint

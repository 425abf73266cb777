"""``engines list``, ``prune`` and ``verify`` as a user runs them."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace

import numpy as np
import pytest
from helpers.engine_cache import OTHER_PLAN, PLAN, sample_key, sample_record

import engines.gpu.cuda
import engines.trt.checking
import engines.trt.session
from engines.build_options import BuildOptions
from engines.cache.pruning import PruneLimits
from engines.cache.store import EngineStore
from engines.cli import main
from engines.commands.engine_words import age_text, size_text
from engines.commands.table import put_table
from engines.errors import BackendUnavailable, EngineMismatch
from engines.gpu.cuda import DeviceIdentity
from engines.models import MODELS, find_model
from engines.networks import load_network
from engines.runner import FinishedCompletion
from engines.trt.library import load_trt
from engines.trt.planning import plan_engine

MODEL = "realesr-animevideov3"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Nobody's models and engines but the test's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            logging.root.removeHandler(handler)  # main installs one for the stream of this test


@pytest.fixture
def store(home):
    return EngineStore()


@pytest.fixture
def call(capsys):
    def call(*arguments):
        code = main([str(one) for one in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_list_shows_every_model_and_where_missing_ones_come_from(call, home, tmp_path):
    code, out, _ = call("list")
    assert code == 0
    assert all(any(line.startswith(name) for line in out.splitlines()) for name in MODELS)
    assert "RealESRGAN_x2plus.pth in " + str(tmp_path / "data" / "nightscale" / "models") in out
    assert "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.1/RealESRGAN_x2plus.pth" in out
    assert "0 compiled engines" in out


def test_list_says_the_same_to_programs(call, store, tmp_path):
    store.put(sample_key(), plan=PLAN, record=sample_record())
    code, out, _ = call("list", "--json")
    value = json.loads(out)
    assert code == 0
    models = {model["name"]: model for model in value["models"]}
    assert set(models) == set(MODELS)
    assert models[MODEL]["present"]
    assert models["nearest-x2"]["present"]
    missing = models["RealESRNet_x4plus"]
    assert not missing["present"]
    assert missing["files"] == []
    assert missing["published"][0]["url"] in missing["hint"]
    assert value["models_dir"] == str(tmp_path / "data" / "nightscale" / "models")
    assert [entry["key"]["model"] for entry in value["entries"]] == [MODEL]


def test_list_shows_engines_and_everything_else_in_the_cache(call, store):
    key = sample_key()
    store.put(key, plan=PLAN, record=sample_record())
    store.record_accuracy(key, {"psnr_film_db": 61.25})
    store.put(sample_key(precision="fp32"), plan=PLAN, record=sample_record()).path.write_bytes(b"")
    (store.folder / "notes.txt").write_text("mine")
    _, out, _ = call("list")
    assert "1 compiled engines" in out
    row = next(line for line in out.splitlines() if "61.2 dB" in line)
    for words in (MODEL, "tensorrt 10.13.3.9", "fp16", "1x3x64x96", "NVIDIA GeForce RTX 4090 (SM 8.9)", "kB"):
        assert words in row
    assert "damaged, will be built anew: it is empty" in out
    assert "not ours" in out


def test_list_looks_into_the_folder_that_is_named(call, tmp_path):
    EngineStore(tmp_path / "other").put(sample_key(), plan=PLAN, record=sample_record())
    assert "1 compiled engines" in call("list", "--cache-dir", tmp_path / "other")[1]
    (tmp_path / "file").write_text("")
    code, _, err = call("list", "--cache-dir", tmp_path / "file")
    assert code == 1
    assert str(tmp_path / "file") in err


def test_prune_removes_by_age_and_says_what(call, store):
    old = store.put(sample_key(), plan=PLAN, record=sample_record()).path
    store.put(sample_key(precision="fp32"), plan=PLAN, record=sample_record())
    os.utime(old, (1000, 1000))
    code, out, err = call("prune", "--older-than", 30, "--dry-run")
    assert (code, out.count("would remove"), old.exists()) == (0, 1, True)
    code, out, err = call("prune", "--older-than", 30)
    assert (code, out.count("removed "), old.exists()) == (0, 1, False)
    assert old.name in out
    assert "removed 1 files" in err
    assert len(store.entries()) == 1


def test_prune_without_a_limit_keeps_engines_and_says_how_to_remove_them(call, store):
    store.put(sample_key(), plan=PLAN, record=sample_record())
    code, out, err = call("prune")
    assert (code, out) == (0, "")
    assert "--older-than" in err
    assert len(store.entries()) == 1


def test_prune_all_removes_all_and_nothing_foreign(call, store):
    for precision in ("fp16", "fp32"):
        store.put(sample_key(precision=precision), plan=PLAN, record=sample_record())
    (store.folder / "notes.txt").write_text("mine")
    code, out, _ = call("prune", "--all", "--json")
    assert code == 0
    assert len(json.loads(out)["removed"]) == 2
    assert [path.name for path in store.folder.iterdir()] == ["notes.txt"]


def test_prune_to_a_size(call, store):
    store.put(sample_key(), plan=PLAN, record=sample_record())
    call("prune", "--max-gb", 1)
    assert len(store.entries()) == 1
    call("prune", "--max-gb", 0)
    assert store.entries() == ()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--all", "--older-than", "3"], 1),
        (["--all", "--max-gb", "3"], 1),
        (["--older-than", "-1"], 2),
        (["--max-gb", "nan"], 2),
        (["--max-gb", "much"], 2),
    ],
)
def test_prune_refuses_limits_that_make_no_sense(call, store, arguments, code):
    store.put(sample_key(), plan=PLAN, record=sample_record())
    assert call("prune", *arguments)[0] == code
    assert len(store.entries()) == 1


RTX = load_trt("tensorrt_rtx")
NETWORK = load_network(find_model(MODEL))


class Source:
    """The real network's graph, with arithmetic that takes no time."""

    def __init__(self):
        self.spec = NETWORK.spec
        self.graph = NETWORK.graph

    def run_reference(self, tiles):
        return tiles.repeat(self.spec.scale, axis=2).repeat(self.spec.scale, axis=3)


def planned(store, *, dynamic=False, targets=("8.9",)):
    """An engine as the builder would store it, with a plan that nobody loads."""
    options = BuildOptions(
        dynamic=dynamic, min_px=16, opt_px=24, max_px=32, compute_capabilities=targets, cache_dir=store.folder
    )
    key = plan_engine(
        RTX,
        network=NETWORK,
        precision="fp32",
        batch=1,
        height=24,
        width=24,
        output_scale=4,
        options=options,
        gpu=None,
    ).key
    store.put(key, plan=PLAN, record=sample_record())
    return key


@pytest.fixture
def no_gpu(monkeypatch):
    def refuse():
        raise BackendUnavailable("no GPU in this test", missing="GPU")

    monkeypatch.setattr(engines.gpu.cuda, "list_devices", refuse)


class Session:
    """Stands in for a loaded engine: computes what its source does, ``error`` beside the truth."""

    def __init__(self, spec, error):
        self.spec, self._error = spec, error

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None

    def infer(self, tiles, *, out, stream=None):
        out[...] = Source().run_reference(tiles) + self._error
        return FinishedCompletion()


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of compute capability 8.9 whose engines are off by ``error`` or do not load."""
    state = {"error": 0.0, "mismatch": None, "plans": []}
    identity = DeviceIdentity(
        index=0, name="a GPU", compute_capability=(8, 9), total_bytes=1 << 34, driver_version="580.1"
    )

    def open_session(spec, *, library, plan, device, **options):
        state["plans"].append(plan)
        if state["mismatch"]:
            raise EngineMismatch(state["mismatch"])
        return Session(spec, state["error"])

    monkeypatch.setattr(engines.gpu.cuda, "list_devices", lambda: (identity,))
    monkeypatch.setattr(engines.gpu.cuda, "open_device", lambda index: identity)
    monkeypatch.setattr(engines.trt.session, "open_session", open_session)
    monkeypatch.setattr(engines.trt.checking, "load_network", lambda model: Source())
    return state


def test_verify_without_a_gpu_says_what_it_could_not_check(call, store, no_gpu):
    planned(store)
    code, out, err = call("verify")
    assert code == 0
    assert out.startswith("sound, but not run: ")
    assert "no GPU in this test" in out
    assert "1 sound, but not run" in err


@pytest.mark.parametrize("dynamic", [False, True])
def test_verify_compares_with_the_float32_network_and_notes_the_result(call, store, gpu, dynamic):
    key = planned(store, dynamic=dynamic)
    os.utime(store.path_of(key), (1000, 1000))
    code, out, _ = call("verify", "--json")
    (result,) = json.loads(out)
    assert (code, result["verdict"], result["remarks"]) == (0, "ok", [])
    assert gpu["plans"] == [PLAN]
    assert result["accuracy"]["psnr_film_db"] > 100
    assert store.get(key, notes_use=False).record.accuracy == result["accuracy"]
    assert store.entries()[0].last_used_s == 1000  # looking is not using


def test_verify_finds_an_engine_that_computes_something_else(call, store, gpu):
    key = planned(store)
    gpu["error"] = np.float32(0.1)
    code, out, _ = call("verify")
    assert code == 1
    assert out.startswith("WRONG: ")
    assert "0.1" in out
    assert store.get(key).record.accuracy is None


def test_verify_finds_an_engine_that_does_not_load(call, store, gpu):
    planned(store)
    gpu["mismatch"] = "the driver is too old for it"
    code, out, _ = call("verify")
    assert code == 1
    assert "the driver is too old for it" in out


def test_verify_runs_engines_only_on_the_gpu_they_are_for(call, store, gpu):
    planned(store, targets=("12.0",))
    code, out, _ = call("verify")
    assert code == 0
    assert "compiled for SM 12.0, which is not in this machine" in out
    assert gpu["plans"] == []


def test_verify_runs_nothing_when_told_so(call, store, gpu):
    planned(store)
    assert "not run, as asked for" in call("verify", "--no-run")[1]
    assert gpu["plans"] == []


def test_verify_calls_engines_of_another_compiler_version_or_weights_stale(call, store, gpu):
    key = planned(store)
    for other in (replace(key, compiler_version="0.1"), replace(key, onnx_sha256="0" * 64)):
        store.put(other, plan=OTHER_PLAN, record=sample_record())
    code, out, err = call("verify")
    assert code == 0
    assert out.count("stale: ") == 2
    assert "compiled by tensorrt_rtx 0.1" in out
    assert "other weights or another graph" in out
    assert gpu["plans"] == [PLAN]
    assert "prune" in err


@pytest.mark.parametrize(
    ("model", "path"), [("RealESRNet_x4plus", None), ("unknown-model", None), ("mine", "/nowhere/mine.pth")]
)
def test_verify_says_which_source_it_could_not_compare_with(call, store, no_gpu, model, path):
    key = planned(store)
    store.prune(PruneLimits(everything=True))
    store.put(replace(key, model=model), plan=PLAN, record=sample_record(model_path=path))
    code, out, _ = call("verify")
    assert code == 0
    assert "not compared with its source: " in out
    assert (path or model) in out


def test_verify_goes_on_after_an_engine_that_would_not_be_built_today(call, store, no_gpu):
    key = planned(store)
    store.put(replace(key, output_scale=3), plan=PLAN, record=sample_record())
    code, out, _ = call("verify")
    assert code == 0
    assert "would not be built today" in out
    assert "no GPU in this test" in out


def test_verify_without_the_compiler_says_so(call, store, gpu):
    store.put(sample_key(compiler="tensorrt"), plan=PLAN, record=sample_record())
    try:
        load_trt("tensorrt")
    except BackendUnavailable as exc:
        code, out, _ = call("verify")
        assert code == 0
        assert str(exc) in out
    else:
        pytest.skip("TensorRT is installed here")


def test_verify_finds_damage_without_touching_it(call, store, no_gpu):
    path = store.path_of(planned(store))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    code, out, _ = call("verify")
    assert code == 1
    assert "WRONG" in out
    assert "checksum" in out
    assert path.exists()


def test_verify_of_a_model_without_engines_is_an_error(call, store, no_gpu):
    planned(store)
    code, _, err = call("verify", "--model", "RealESRGAN_x4plus")
    assert code == 1
    assert "no engine of RealESRGAN_x4plus" in err
    assert call("verify", "--model", MODEL)[0] == 0


def test_verify_of_an_empty_cache_is_fine(call):
    code, out, err = call("verify")
    assert (code, out) == (0, "")
    assert "0 files" in err


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (39_400_000, "39.4 MB"), (2 * 10**9, "2.0 GB")]
)
def test_sizes_read_well(count, text):
    assert size_text(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (1e6, "11 d")])
def test_ages_read_well(seconds, text):
    assert age_text(seconds) == text


class Lines:
    def __init__(self):
        self.lines = []

    def put(self, text):
        self.lines += text.splitlines()


@pytest.mark.parametrize("columns", [30, 200])
def test_a_table_fits_the_terminal_and_loses_no_cell(monkeypatch, columns):
    monkeypatch.setattr("engines.commands.table.sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    output = Lines()
    rows = [("first-model", "some words that go on", "x4"), ("second", "[b]other[/b] words", "x2")]
    put_table(output, columns=("name", "text", "scale"), rows=rows)
    plain = [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in output.lines]
    assert max(map(len, plain)) <= columns
    text = " ".join(" ".join(plain).split())
    assert all(cell in text for row in rows for cell in row)

"""Exported ONNX files: whole or not there, compared with their source, and every refusal before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.checkpoints import save_checkpoint
from onnx import numpy_helper

from engines import AccuracyFailed, UnsupportedShape, cli, find_model
from engines.commands import COMMANDS
from engines.errors import EngineError, ExportFailed
from engines.export import export_network
from engines.export_proof import PROOF_SIZES, proof_sizes
from engines.networks import GraphOptions, Network, load_network
from engines.spec import ModelSpec

pytest.importorskip("torch", reason="torch (export extra), which runs the source, is not installed")

MODEL = "realesr-animevideov3"


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(find_model(MODEL))


@pytest.mark.parametrize(
    ("precision", "library"), [("fp32", "onnxruntime"), ("fp16", "onnxruntime"), ("bf16", "OpenVINO")]
)
def test_the_file_is_written_and_the_report_says_what_is_in_it(network, precision, library, tmp_path):
    path = tmp_path / "net.onnx"
    report = export_network(network, path, options=GraphOptions(precision=precision))
    content = path.read_bytes()
    assert (report.sha256, report.file_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    model = onnx.load_from_string(content)
    assert (report.opset, report.node_count) == (model.opset_import[0].version, len(model.graph.node))
    assert report.input_shape == ("batch", 3, "height", "width")
    assert report.output_shape == ("batch", 3, "4*height", "4*width")
    assert report.verified_with.startswith(library) and not report.unverified_because
    assert [(accuracy.height, accuracy.width) for accuracy in report.accuracy] == list(PROOF_SIZES)
    assert list(tmp_path.iterdir()) == [path]


def test_a_fixed_size_is_proved_at_that_size_and_batch(network, tmp_path):
    options = GraphOptions(precision="fp16", io_dtype="float16", batch=2, height=18, width=21, output_scale=2)
    report = export_network(network, tmp_path / "net.onnx", options=options)
    assert (report.input_shape, report.output_shape) == ((2, 3, 18, 21), (2, 3, 36, 42))
    (accuracy,) = report.accuracy
    assert (accuracy.batch, accuracy.height, accuracy.width, accuracy.output_scale) == (2, 18, 21, 2)


def test_proof_sizes_fit_the_network_and_are_odd_and_non_square_where_possible():
    model = ModelSpec(name="m", architecture="spandrel", scale=2, size_multiple=4, min_px=32)
    assert proof_sizes(model, GraphOptions()) == ((32, 36), (36, 32))
    assert proof_sizes(model, GraphOptions(height=64)) == ((64, 36), (64, 32))
    assert any(height % 2 for height, _ in PROOF_SIZES) and all(height != width for height, width in PROOF_SIZES)


class WrongNetwork:
    """Writes another graph than it computes."""

    def __init__(self, inner: Network) -> None:
        self.spec, self._inner = inner.spec, inner

    def graph(self, options: GraphOptions) -> onnx.ModelProto:
        model = self._inner.graph(options)
        last = next(constant for constant in model.graph.initializer if constant.name.startswith("conv_last.b"))
        last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) + np.float32(0.1), last.name))
        return model

    def run_reference(self, tiles: np.ndarray) -> np.ndarray:
        return self._inner.run_reference(tiles)


def test_a_file_that_computes_something_else_is_not_written(network, tmp_path):
    with pytest.raises(AccuracyFailed, match="tile film"):
        export_network(WrongNetwork(network), tmp_path / "net.onnx", options=GraphOptions())
    assert not list(tmp_path.iterdir())
    report = export_network(WrongNetwork(network), tmp_path / "net.onnx", options=GraphOptions(), verify=False)
    assert report.unverified_because and not report.verified_with and not report.accuracy


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"opset": 99}, "99 is too new"),
        ({"opset": 6}, "6 is too old"),
        ({"opset": 20, "precision": "bf16"}, "no bfloat16"),
        ({"opset": 7}, "opset"),
    ],
)
def test_operator_sets_that_are_not_possible_are_named(network, options, text, tmp_path):
    with pytest.raises(EngineError, match=text) as caught:
        export_network(network, tmp_path / "net.onnx", options=GraphOptions(**options))
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_enlargement_that_is_not_possible_is_refused(network, tmp_path):
    with pytest.raises(UnsupportedShape, match="by 3"):
        export_network(network, tmp_path / "net.onnx", options=GraphOptions(output_scale=3))


def test_a_file_that_is_there_is_replaced_only_by_force(network, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(ExportFailed, match="there already"):
        export_network(network, path, options=GraphOptions(), verify=False)
    assert path.read_bytes() == b"mine"
    export_network(network, path, options=GraphOptions(), verify=False, force=True)
    onnx.checker.check_model(path)


@pytest.mark.parametrize(
    ("name", "text"), [("net.pth", "ONNX"), ("folder.onnx", "folder"), ("absent/net.onnx", "no folder")]
)
def test_paths_that_cannot_be_written_are_refused_first(network, name, text, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ExportFailed, match=text) as caught:
        export_network(network, tmp_path / name, options=GraphOptions())
    assert caught.value.hint


@pytest.mark.parametrize(("number", "text"), [(28, "No space left"), (13, "Permission denied"), (30, "Read-only")])
def test_a_disk_that_refuses_is_named_and_nothing_is_left(network, number, text, tmp_path, monkeypatch):
    def refuse(path: Path, content: bytes) -> bool:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("engines.atomic._write_unnamed", refuse)
    with pytest.raises(ExportFailed, match=text) as caught:
        export_network(network, tmp_path / "net.onnx", options=GraphOptions(), verify=False)
    assert "bytes" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run_command(monkeypatch, capsys) -> Any:
    """Run ``engines export`` and give the exit code, standard output and standard error."""
    monkeypatch.setattr(cli, "COMMANDS", {"export": COMMANDS["export"]})

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["export", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_the_command_writes_a_file_and_tells_its_figures(run_command, tmp_path):
    path = tmp_path / "net.onnx"
    code, out, err = run_command("--model", MODEL, "--precision", "fp16", "--output", path)
    assert (code, err) == (0, "")
    for word in (str(path), MODEL, "fp16", "opset 20", "sha256", "film", "onnxruntime"):
        assert word in out
    code, out, err = run_command("--model", MODEL, "--output", path)
    assert code == 1 and out == "" and "there already" in err and "hint: " in err


def test_the_command_gives_json_alone_on_standard_output(run_command, tmp_path):
    path = save_checkpoint("plksr", tmp_path / "mine.safetensors")
    code, out, _ = run_command(
        "--model", path, "--output", tmp_path / "mine.onnx", "--json", "--height", 16, "--width", 24
    )
    report = json.loads(out)
    assert code == 0
    assert (report["model"], report["input_shape"]) == ("mine", ["batch", 3, 16, 24])
    assert report["accuracy"][0]["psnr_film_db"] > 80


def test_the_command_says_loudly_that_nothing_was_compared(run_command, tmp_path):
    code, out, _ = run_command("--model", MODEL, "--output", tmp_path / "net.onnx", "--no-verify")
    assert code == 0 and "NOT compared" in out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--model", "realesr-animevideo"), 1, "did you mean"),
        (("--model", "./absent.pth"), 1, "absent.pth"),
        (("--model", MODEL, "--opset", "99"), 1, "too new"),
        (("--model", MODEL, "--denoise", "0.5"), 1, "denoise"),
        (("--model", MODEL, "--height", "0"), 2, "whole number"),
        (("--model", MODEL, "--precision", "int8"), 2, "int8"),
        (("--model", "nearest-x2"), 1, "nearest-x2"),
        ((), 2, "--model"),
    ],
)
def test_wrong_command_lines_end_in_one_clear_error(run_command, arguments, code, text, tmp_path):
    found, out, err = run_command(*arguments, "--output", tmp_path / "net.onnx")
    assert (found, out) == (code, "")
    assert text in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())

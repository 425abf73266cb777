"""The user's own checkpoints of architectures that spandrel knows: read safely, described, and written as ONNX."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
import torch
from helpers import torchvision_stand_in
from helpers.checkpoints import save_checkpoint, small_network
from helpers.onnx_runs import run_onnx

from engines import ModelFileError, UnsupportedPrecision, UnsupportedShape, find_model
from engines.errors import ExportFailed
from engines.networks import GraphOptions, load_network
from engines.networks.spandrel_file import SpandrelNetwork, inspect_checkpoint, load_checkpoint
from engines.tiles import film_tiles

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def torchvision() -> None:
    """Whichever test comes first: an import of spandrel that fails halfway fails ever after."""
    torchvision_stand_in.install()


@cache  # read-only networks; building one takes a second
def network_of(kind: str, suffix: str = ".pth") -> SpandrelNetwork:
    with TemporaryDirectory() as folder:
        path = save_checkpoint(kind, Path(folder) / f"my-{kind}{suffix}")
        return load_checkpoint(inspect_checkpoint(path))


def dimensions(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def test_a_checkpoint_is_described(tmp_path):
    path = save_checkpoint("plksr", tmp_path / "2x_mine.pth")
    model = inspect_checkpoint(path)
    assert (model.name, model.architecture, model.scale, model.path) == ("2x_mine", "spandrel", 2, path)
    assert (model.size_multiple, model.min_px, model.output_scales) == (1, 1, (2,))
    assert "PLKSR" in model.summary
    assert model.overlap_px % 2 == 0 and 0 < model.overlap_px <= 64


@pytest.mark.parametrize(
    ("kind", "multiple", "least"), [("unshuffle", 4, 4), ("swinir", 1, 16)], ids=["pixel unshuffle", "windows"]
)
def test_size_requirements_are_told_and_kept(kind, multiple, least):
    network = network_of(kind)
    assert (network.spec.scale, network.spec.size_multiple, network.spec.min_px) == (2, multiple, least)
    with pytest.raises(UnsupportedShape, match=f"at least {least}, divisible by {multiple}"):
        network.graph(GraphOptions(height=least + 1 if multiple > 1 else least - 1, width=32))
    with pytest.raises(UnsupportedShape, match="width"):
        network.run_reference(np.zeros((1, 3, least, 3), dtype=np.float32))


def test_costs_of_a_network_of_convolutions_are_those_of_its_layers(tmp_path):
    """A Compact network, whose figures follow from its sizes: 16 features, 4 inner convolutions, x2."""
    model = inspect_checkpoint(save_checkpoint("compact", tmp_path / "c.pth"))
    weights = 9 * (3 * 16 + 4 * 16 * 16 + 16 * 12)
    assert model.flop_per_px == 2 * weights
    assert model.receptive_px == 6
    assert model.overlap_px == 6
    assert 4 * 2 * 16 <= model.activation_bytes_per_px <= 4 * 4 * 16


def test_pth_and_safetensors_give_the_same_network():
    options = GraphOptions(batch=1, height=16, width=16)
    left, right = network_of("plksr", ".pth").graph(options), network_of("plksr", ".safetensors").graph(options)
    assert left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True)


@pytest.mark.parametrize("kind", ["span", "plksr", "unshuffle"])
def test_the_source_is_the_authors_module(kind):
    tiles = film_tiles(height=20, width=28)
    with torch.no_grad():
        wanted = small_network(kind)(torch.from_numpy(tiles)).numpy()
    np.testing.assert_allclose(network_of(kind).run_reference(tiles), wanted, rtol=0, atol=1e-6)
    with torch.no_grad():
        module = network_of(kind).torch_module()
        np.testing.assert_allclose(module(torch.from_numpy(tiles)).numpy(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["plksr", "unshuffle"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
def test_one_graph_serves_every_size_in_every_type(kind, precision, io_dtype):
    network = network_of(kind)
    graph = network.graph(GraphOptions(precision=precision, io_dtype=io_dtype))
    onnx.checker.check_model(graph, full_check=True)
    assert dimensions(graph.graph.input[0]) == ["batch", 3, "height", "width"]
    assert dimensions(graph.graph.output[0]) == ["batch", 3, "2*height", "2*width"]
    is_exact = precision == io_dtype.replace("float", "fp") == "fp32"
    for batch, height, width in ((1, 28, 36), (3, 16, 20)):
        tiles = film_tiles(batch=batch, height=height, width=width)
        out = run_onnx(graph, tiles.astype(io_dtype))
        assert out.dtype == io_dtype
        wanted = network.run_reference(tiles)
        np.testing.assert_allclose(out.astype(np.float32), wanted, rtol=0, atol=1e-5 if is_exact else 8e-3)


def test_sizes_given_are_constants_and_the_others_are_free():
    graph = network_of("plksr").graph(GraphOptions(batch=2, height=18))
    assert dimensions(graph.graph.input[0]) == [2, 3, 18, "width"]
    assert dimensions(graph.graph.output[0]) == [2, 3, 36, "2*width"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_same_options_give_the_same_bytes(precision):
    graphs = [network_of("plksr").graph(GraphOptions(precision=precision)) for _ in range(2)]
    onnx.checker.check_model(graphs[0], full_check=True)
    assert graphs[0].SerializeToString(deterministic=True) == graphs[1].SerializeToString(deterministic=True)


def test_what_depends_on_the_size_is_written_for_one_size_only():
    network = network_of("swinir")
    with pytest.raises(ExportFailed, match="depends on") as caught:
        network.graph(GraphOptions())
    assert "batch" in caught.value.hint
    graph = network.graph(GraphOptions(batch=1, height=21, width=34))
    tiles = film_tiles(height=21, width=34)
    np.testing.assert_allclose(run_onnx(graph, tiles), network.run_reference(tiles), rtol=0, atol=1e-5)


def test_precision_that_the_architecture_lacks_is_refused():
    with pytest.raises(UnsupportedPrecision, match="fp16, only in fp32, bf16") as caught:
        network_of("swinir").graph(GraphOptions(precision="fp16"))
    assert caught.value.hint


def test_another_enlargement_is_refused():
    with pytest.raises(UnsupportedShape, match="by 1, only by 2"):
        network_of("plksr").graph(GraphOptions(output_scale=1))


def test_an_operator_set_that_torch_cannot_write_is_refused():
    with pytest.raises(ExportFailed, match="opset 9"):
        network_of("plksr").graph(GraphOptions(opset=9))


@pytest.mark.parametrize("kind", ["compact", "esrgan", "unshuffle"])
def test_our_own_graph_and_torchs_agree_on_the_same_weights(kind, tmp_path):
    path = save_checkpoint(kind, tmp_path / "same.pth")
    own = load_network(find_model(path))
    assert own.spec.architecture in {"srvgg", "rrdb"}
    traced = load_checkpoint(inspect_checkpoint(path))
    assert own.spec.scale == traced.spec.scale
    tiles = film_tiles(height=16, width=24, batch=2)
    ours, theirs = (run_onnx(network.graph(GraphOptions()), tiles) for network in (own, traced))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    np.testing.assert_allclose(own.run_reference(tiles), traced.run_reference(tiles), rtol=0, atol=1e-5)


def test_find_model_opens_them_by_path(tmp_path):
    path = save_checkpoint("span", tmp_path / "x2-span.safetensors")
    model = find_model(path)
    assert (model.name, model.architecture, model.scale) == ("x2-span", "spandrel", 2)
    assert isinstance(load_network(model), SpandrelNetwork)


def test_grey_networks_are_refused_by_their_channels(tmp_path):
    with pytest.raises(ModelFileError, match="1 channels"):
        inspect_checkpoint(save_checkpoint("compact-grey", tmp_path / "grey.pth"))


def test_weights_of_nothing_known_are_refused_with_what_they_look_like(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match=r"encoder\.weight") as caught:
        inspect_checkpoint(path)
    assert "ONNX" in caught.value.hint


def test_weights_that_lack_a_layer_are_refused(tmp_path):
    state = small_network("plksr").state_dict()
    del state["feats.0.bias"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(ModelFileError, match="do not fit"):
        inspect_checkpoint(tmp_path / "short.pth")


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    state = small_network("plksr").state_dict()
    state["feats.0.bias"] = torch.full_like(state["feats.0.bias"], float("nan"))
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(ModelFileError, match="finite"):
        inspect_checkpoint(tmp_path / "nan.pth")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"params": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ModelFileError, match="refused") as caught:
        inspect_checkpoint(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_damaged_files_are_refused_by_name(suffix, share, tmp_path):
    content = save_checkpoint("compact", tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"part{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match="part"):
        inspect_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="No such file"):
        inspect_checkpoint(tmp_path / "nothing.pth")


def test_a_list_is_no_checkpoint(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(ModelFileError, match="type list"):
        inspect_checkpoint(tmp_path / "list.pth")


def test_a_file_that_changed_since_it_was_inspected_is_refused(tmp_path):
    path = save_checkpoint("compact", tmp_path / "c.pth")
    model = inspect_checkpoint(path)
    save_checkpoint("esrgan", path)
    with pytest.raises(ModelFileError, match="no longer"):
        load_checkpoint(model)


@pytest.mark.parametrize(
    ("torchvision", "missing"),
    [("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision"), (None, "torchvision")],
    ids=["of another torch", "not installed"],
)
def test_without_a_working_torchvision_the_error_says_what_to_install(torchvision, missing, tmp_path):
    """In a process of its own: a failed import cannot be undone."""
    if torchvision is None:
        torchvision = "raise ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')"
    (tmp_path / "torchvision.py").write_text(torchvision)
    code = (
        "import pathlib, engines.errors as e, engines.networks.spandrel_file as s\n"
        "try:\n    s.inspect_checkpoint(pathlib.Path('x.pth'))\n"
        "except e.BackendUnavailable as exc:\n    print(exc.missing, '|', exc, '|', exc.hint)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith(f"{missing} |"), done.stderr
    assert "install" in done.stdout

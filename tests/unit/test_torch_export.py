"""torch's two exporters behind one function: what the older cannot write the newer does, and neither talks."""

from __future__ import annotations

import builtins

import numpy as np
import onnx
import pytest
import torch
from helpers.onnx_runs import run_onnx

from engines.errors import ExportFailed
from engines.networks import GraphOptions
from engines.networks.torch_export import export_module
from engines.spec import ModelSpec
from engines.tiles import film_tiles

MODEL = ModelSpec(name="small", architecture="spandrel", scale=1)


class Shuffle(torch.nn.Module):
    """Has an operation that torch's older exporter does not know."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.channel_shuffle(image, 3) * 0.5


class Frozen(torch.nn.Module):
    """Computes with its size in Python."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * (1.0 / int(image.shape[2]))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_the_older_exporter_lacks_the_newer_writes(precision, capfd):
    graph = export_module(Shuffle(), model=MODEL, options=GraphOptions(precision=precision))
    onnx.checker.check_model(graph, full_check=True)
    tiles = film_tiles(batch=2, height=9, width=14)
    np.testing.assert_allclose(run_onnx(graph, tiles), tiles * 0.5, rtol=0, atol=1e-3)
    assert capfd.readouterr() == ("", "")


def test_without_the_newer_exporter_the_error_says_what_torch_lacks(monkeypatch, capfd):
    real = builtins.__import__

    def without_onnxscript(name, *rest):
        if name == "onnxscript":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_onnxscript)
    with pytest.raises(ExportFailed, match="channel_shuffle") as caught:
        export_module(Shuffle(), model=MODEL, options=GraphOptions())
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_size_frozen_into_the_graph_is_noticed():
    with pytest.raises(ExportFailed, match="depends on the size") as caught:
        export_module(Frozen(), model=MODEL, options=GraphOptions(batch=1))
    assert "height and width" in caught.value.hint
    graph = export_module(Frozen(), model=MODEL, options=GraphOptions(batch=1, height=10, width=6))
    tiles = film_tiles(height=10, width=6)
    np.testing.assert_allclose(run_onnx(graph, tiles), tiles / 10, rtol=0, atol=1e-6)


def test_the_module_is_not_changed():
    module = torch.nn.Conv2d(3, 3, 3, padding=1)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    export_module(module, model=MODEL, options=GraphOptions(precision="bf16"))
    assert module.weight.requires_grad and module.weight.dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())

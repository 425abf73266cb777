"""Films through the user's own networks: files named in the config, with what they demand of tiles."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import media, onnx_models
from helpers.runs import Ran, run_films

HEIGHT, WIDTH = 41, 55
"""Odd, and no multiple of what any network here folds."""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return media.write_counter_video(
        tmp_path / "film.mkv", frames=2, height=HEIGHT, width=WIDTH, codec="ffv1", pixel_format="yuv444p"
    )


def upscale(
    capfd: pytest.CaptureFixture[str], folder: Path, film: Path, model: str, *, name: str, **tile: object
) -> Ran:
    return run_films(
        capfd,
        folder,
        film,
        infer={"model": model, "backend": "auto", "device": "cpu", "precision": "fp32"},
        tile=tile,
        encode={"kind": "ffv1"},
        output={"name": name, "verify": "off"},  # random weights show no film
    )


def x2_weights() -> dict[str, np.ndarray]:
    """Random weights of a small RRDBNet that folds 2x2 pixels, as RealESRGAN_x2plus, under BasicSR's names."""
    dense = [(f"body.0.rdb{block}.conv{n + 1}", 8 + 4 * n, 4 if n < 4 else 8) for block in (1, 2, 3) for n in range(5)]
    tail = [(name, 8, 8) for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr")]
    random, state = np.random.default_rng(0), {}
    for name, inputs, outputs in [("conv_first", 12, 8), *dense, *tail, ("conv_last", 8, 3)]:
        kernel = random.normal(scale=(9 * inputs) ** -0.5, size=(outputs, inputs, 3, 3))
        state |= {f"{name}.weight": kernel.astype(np.float32), f"{name}.bias": np.full(outputs, 0.01, np.float32)}
    return state


def frames_of(ran: Ran) -> np.ndarray:
    assert ran.code == 0, ran.err
    with av.open(str(ran.outputs[0])) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)]).astype(int)


def same_in_tiles(capfd: pytest.CaptureFixture[str], folder: Path, film: Path, model: str) -> np.ndarray:
    """Upscale a film whole and in tiles; where no tile shows what it knows nothing of, the pictures are the same."""
    whole = frames_of(upscale(capfd, folder, film, model, name="whole"))
    tiled = frames_of(upscale(capfd, folder, film, model, name="tiled", max_px=36, blend="cut"))
    assert whole.shape == tiled.shape
    assert np.abs(whole - tiled).max() <= 1
    return whole


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_an_odd_film_through_an_onnx_file_that_folds_pixels_is_the_same_in_tiles(
    tmp_path: Path, film: Path, capfd: pytest.CaptureFixture[str], unshuffle: int
) -> None:
    onnx_models.saved(onnx_models.network(onnx_models.Form(unshuffle=unshuffle)), tmp_path)
    made = same_in_tiles(capfd, tmp_path, film, "user.onnx")
    assert made.shape == (2, 3, 2 * HEIGHT, 2 * WIDTH)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_odd_film_through_an_x2_checkpoint_is_the_same_in_tiles(
    tmp_path: Path, film: Path, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch = pytest.importorskip("torch", reason="torch (export extra) is not installed")
        tensors = {name: torch.tensor(array) for name, array in x2_weights().items()}
        torch.save({"params_ema": tensors}, path)
    else:
        numpy_format = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
        numpy_format.save_file(x2_weights(), str(path))
    whole = frames_of(upscale(capfd, tmp_path, film, path.name, name="whole"))
    assert whole.shape == (2, 3, 2 * HEIGHT, 2 * WIDTH)
    cut = upscale(capfd, tmp_path, film, path.name, name="cut", max_px=54, overlap_px=24)
    assert np.abs(whole - frames_of(cut)).mean() < 1  # its receptive field is wider than these tiles


def test_a_network_of_one_tile_size_gives_the_picture_of_its_free_twin(
    tmp_path: Path, film: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx_models.saved(onnx_models.network(onnx_models.Form()), tmp_path, name="free.onnx")
    fixed = onnx_models.Form(batch=1, height=24, width=32, has_sizes_inside=True)
    onnx_models.saved(onnx_models.network(fixed), tmp_path, name="fixed.onnx")
    ran = upscale(capfd, tmp_path, film, "fixed.onnx", name="fixed", blend="cut")
    tiles = ran.report()["tiles"]
    free = frames_of(upscale(capfd, tmp_path, film, "free.onnx", name="free"))
    assert (tiles["height_px"], tiles["width_px"]) == (24, 32)
    # At the bottom and the right, one network sees the frame's end and the other its reflection.
    margin = 2 * 4
    difference = np.abs(free - frames_of(ran))[..., :-margin, :-margin]
    assert difference.max() <= 1


def test_the_report_says_which_file_ran(tmp_path: Path, film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = onnx_models.saved(onnx_models.network(), tmp_path)
    engine = upscale(capfd, tmp_path, film, "user.onnx", name="{stem}-{model}").report()["engine"]
    assert engine["model"] == "user"
    assert engine["files"] == [{"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}]
    assert engine["precision"] == "fp32"
    assert (tmp_path / "out" / "film-user.mkv").exists()


@pytest.mark.parametrize("name", ["gone.onnx", "text.pth", "text.onnx"])
def test_a_file_that_is_no_network_is_one_clear_error(
    tmp_path: Path, film: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.onnx").write_text("hello")
    ran = upscale(capfd, tmp_path, film, name, name="x")
    assert ran.code == 2, ran.err
    assert len([line for line in ran.err.splitlines() if "error: " in line]) == 1
    assert name in ran.err
    assert ran.outputs == []

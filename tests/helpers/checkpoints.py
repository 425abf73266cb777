"""Checkpoints of small networks with random weights, as their authors would save them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from helpers import torchvision_stand_in


def small_network(kind: str) -> torch.nn.Module:
    """A network of an architecture that spandrel knows, a few thousand weights, of moderate output."""
    torchvision_stand_in.install()
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.ESRGAN import ESRGAN
    from spandrel.architectures.FBCNN import FBCNN
    from spandrel.architectures.PLKSR import PLKSR
    from spandrel.architectures.SPAN import SPAN
    from spandrel.architectures.SwinIR import SwinIR

    makers = {
        "compact": lambda: Compact(num_in_ch=3, num_out_ch=3, num_feat=16, num_conv=4, upscale=2),
        "compact-grey": lambda: Compact(num_in_ch=1, num_out_ch=1, num_feat=16, num_conv=2, upscale=2),
        "esrgan": lambda: ESRGAN(num_filters=16, num_blocks=1, scale=4),
        "unshuffle": lambda: ESRGAN(in_nc=12, num_filters=16, num_blocks=1, scale=4, shuffle_factor=2),
        "span": lambda: SPAN(num_in_ch=3, num_out_ch=3, upscale=2, feature_channels=16),
        "plksr": lambda: PLKSR(dim=16, n_blocks=2, upscaling_factor=2),
        "swinir": lambda: SwinIR(
            img_size=16,
            window_size=8,
            depths=[2],
            embed_dim=12,
            num_heads=[2],
            upscale=2,
            upsampler="pixelshuffledirect",
        ),
        "fbcnn-grey": lambda: FBCNN(in_nc=1, out_nc=1, nc=[8, 8, 8, 8], nb=1),
    }
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch.meshgrid's, to SwinIR's authors
        return makers[kind]().eval()


def save_checkpoint(kind: str, path: Path) -> Path:
    """Save such a network; the suffix says the format."""
    state = small_network(kind).state_dict()
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save({"params": state}, path)
    return path

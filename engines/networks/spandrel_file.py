"""Networks of the user's own PyTorch checkpoints, in any architecture that ``spandrel`` knows.

The file gives numbers only: it is read by torch's restricted unpickler, or by safetensors. ``spandrel`` tells the
architecture from the names and shapes of the weights and builds the module.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import (
    InferenceFailed,
    ModelFileError,
    UnsupportedPrecision,
    UnsupportedShape,
)
from engines.layers import IMAGE_CHANNELS
from engines.networks import GraphOptions
from engines.networks.spandrel_reading import READ_ERRORS, first_line, import_spandrel, read_state
from engines.spec import ModelSpec

if TYPE_CHECKING:
    from onnx import ModelProto
    from spandrel import ImageModelDescriptor
    from torch import Tensor
    from torch.nn import Module

PURPOSES = ("SR", "Restoration")
"""What spandrel may say that a network is for; faces and inpainting need more than a tile of a film."""

NOMINAL_PX = 32
"""Shortest side of the tile with which a network is tried and its costs are measured, input pixels."""

OVERLAP_PX = 64
"""Overlap of tiles where a network's reach is unknown or larger: the most that any network of the model table needs,
measured by ``tools/bench_seams.py``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpandrelNetwork:
    """A network in memory, as torch module."""

    spec: ModelSpec
    """The model."""
    module: Module
    """float32, on the CPU, in evaluation mode; not changed by anyone."""
    has_fp16: bool
    """Whether its architecture computes in float16 without overflow or loss. Source: spandrel's ``supports_half``."""
    has_bf16: bool
    """The same for bfloat16."""

    def graph(self, options: GraphOptions) -> ModelProto:
        """See ``engines.networks.Network``. Written by torch's exporters."""
        from engines.networks.torch_export import export_module

        self._check_precision(options)
        model = self.spec
        if options.output_scale not in {None, model.scale}:
            raise UnsupportedShape(
                f"{model.name} cannot enlarge by {options.output_scale}, only by {model.scale}",
                hint="leave output_scale out and resample the result",
            )
        _check_sides(model, height=options.height, width=options.width)
        return export_module(self.module, model=model, options=options)

    def torch_module(self) -> Module:
        """See ``engines.networks.Network``. A copy that is the caller's."""
        import copy

        return copy.deepcopy(self.module)

    def run_reference(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``engines.networks.Network``.

        Raises:
            UnsupportedShape: The network does not take tiles of that size.
            InferenceFailed: The network failed.
        """
        import torch

        _check_sides(self.spec, height=tiles.shape[2], width=tiles.shape[3])
        try:
            with torch.inference_mode():
                result = self.module(torch.tensor(np.ascontiguousarray(tiles, dtype=np.float32)))
        except RuntimeError as exc:
            raise InferenceFailed(
                f"{self.spec.name} failed on tiles of shape {tiles.shape}: {first_line(exc)}"
            ) from exc
        picture: NDArray[np.float32] = result.float().contiguous().numpy()
        return picture

    def _check_precision(self, options: GraphOptions) -> None:
        possible = {"fp32": True, "fp16": self.has_fp16, "bf16": self.has_bf16}
        if not possible[options.precision]:
            others = ", ".join(name for name, is_possible in possible.items() if is_possible)
            raise UnsupportedPrecision(
                f"the architecture of {self.spec.name} does not compute in {options.precision}, only in {others}",
                hint="choose precision fp32",
            )


def inspect_checkpoint(path: Path) -> ModelSpec:
    """Say what network a checkpoint holds, by building it and running it once.

    Args:
        path: ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``.

    Raises:
        ModelFileError: The file cannot be read, holds no architecture that spandrel knows, or is not a network that
            takes and gives RGB pictures.
        BackendUnavailable: spandrel, or a package that it needs, is not installed or does not work.
    """
    return _open(path).spec


def load_checkpoint(model: ModelSpec) -> SpandrelNetwork:
    """Build the network of a checkpoint.

    Args:
        model: From ``inspect_checkpoint``.

    Raises:
        ModelFileError: As ``inspect_checkpoint``, or the file is not the one that was inspected.
        BackendUnavailable: As there.
    """
    if model.path is None:
        raise ModelFileError(
            f"model {model.name} has no file of its own", hint="give the checkpoint's path as the model"
        )
    network = _open(model.path)
    if (network.spec.scale, network.spec.size_multiple) != (model.scale, model.size_multiple):
        raise ModelFileError(
            f"{model.path} is no longer the file that was inspected: it enlarges by {network.spec.scale}, not by "
            f"{model.scale}",
            hint="start again",
        )
    return network


def _open(path: Path) -> SpandrelNetwork:
    """Read, build, judge and try."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the architectures' authors to themselves, such as torch.meshgrid's
        return _build(path)


def _build(path: Path) -> SpandrelNetwork:
    spandrel = import_spandrel(path)
    import torch

    from engines.networks.module_costs import run_measured

    state = read_state(path)
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except spandrel.UnsupportedModelError as exc:
        raise ModelFileError(
            f"{path} holds no network of a known architecture ({len(state)} entries, the first is "
            f"{next(iter(state), 'missing')!r})",
            hint="if it is a model of an upscaling program, export it to ONNX there and give that file",
        ) from exc
    except READ_ERRORS as exc:
        raise ModelFileError(
            f"{path} looks like a known architecture, but its weights do not fit: {first_line(exc)}",
            hint="the file is incomplete, or of a variant that spandrel does not know",
        ) from exc
    descriptor = _checked(descriptor, spandrel=spandrel, path=path)
    module = _picture_module(descriptor).eval().float().requires_grad_(False)
    needs = descriptor.size_requirements
    side_px = _nominal_side(minimum=needs.minimum, multiple=needs.multiple_of)
    tile = torch.rand((1, IMAGE_CHANNELS, side_px, side_px), generator=torch.Generator().manual_seed(0))
    try:
        result, costs = run_measured(module, tile)
    except READ_ERRORS as exc:
        raise ModelFileError(f"the network of {path} fails on a {side_px}x{side_px} tile: {first_line(exc)}") from exc
    wanted = (1, IMAGE_CHANNELS, descriptor.scale * side_px, descriptor.scale * side_px)
    if tuple(result.shape) != wanted or not bool(torch.isfinite(result).all()):
        raise ModelFileError(
            f"the network of {path} makes {tuple(result.shape)} from a {side_px}x{side_px} tile, expected finite "
            f"numbers in {wanted}",
            hint="the weights are damaged, or trained for something else than pictures",
        )
    overlap_px = min(OVERLAP_PX, costs.kernel_reach_px + costs.kernel_reach_px % 2)
    spec = ModelSpec(
        name=path.stem,
        architecture="spandrel",
        scale=descriptor.scale,
        size_multiple=needs.multiple_of,
        min_px=max(1, needs.minimum),
        path=path,
        receptive_px=costs.kernel_reach_px,
        overlap_px=overlap_px if costs.is_convolutional else OVERLAP_PX,
        output_scales=(descriptor.scale,),
        activation_bytes_per_px=costs.activation_bytes_per_px,
        flop_per_px=costs.flop_per_px,
        summary=f"{descriptor.architecture.name} x{descriptor.scale}, from {path.name}",
    )
    return SpandrelNetwork(
        spec=spec, module=module, has_fp16=descriptor.supports_half, has_bf16=descriptor.supports_bfloat16
    )


def _nominal_side(*, minimum: int, multiple: int) -> int:
    """Side of the tile that a network is tried with."""
    return _rounded_up(max(NOMINAL_PX, minimum), multiple=multiple)


def _rounded_up(side_px: int, *, multiple: int) -> int:
    return -(-side_px // multiple) * multiple


def _checked(descriptor: Any, *, spandrel: Any, path: Path) -> ImageModelDescriptor[Any]:
    """Refuse networks that do something else than turn an RGB picture into an RGB picture."""
    kind = f"{path} is a network of architecture {descriptor.architecture.name}"
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise ModelFileError(f"{kind} that fills holes in pictures; it does not upscale")
    if descriptor.purpose not in PURPOSES:
        raise ModelFileError(f"{kind} made for {descriptor.purpose}, not for whole pictures")
    channels = (descriptor.input_channels, descriptor.output_channels)
    if channels != (IMAGE_CHANNELS, IMAGE_CHANNELS):
        raise ModelFileError(
            f"{kind} that takes {channels[0]} channels and gives {channels[1]}; RGB pictures have {IMAGE_CHANNELS}",
            hint="choose the colour variant of the model",
        )
    if descriptor.size_requirements.square:
        raise ModelFileError(f"{kind} that takes square pictures only; films are cut into tiles of their own shape")
    return descriptor


def _picture_module(descriptor: ImageModelDescriptor[Any]) -> Module:
    """The network as a module from picture to picture; several architectures return more, or want another range."""
    import torch

    call = descriptor._call_fn  # the public way in clamps and pads, which belongs to neither graph nor reference

    class Picture(torch.nn.Module):
        """Calls the network as spandrel does."""

        def __init__(self) -> None:
            super().__init__()
            self.network = descriptor.model

        def forward(self, image: Tensor) -> Tensor:
            picture: Tensor = call(self.network, image)
            return picture

    return Picture()


def _check_sides(model: ModelSpec, *, height: int | None, width: int | None) -> None:
    """Refuse tile sizes that the network cannot take."""
    for name, side_px in (("height", height), ("width", width)):
        if side_px is None:
            continue
        if side_px < model.min_px or side_px % model.size_multiple:
            raise UnsupportedShape(
                f"{model.name} takes no tiles of {name} {side_px}: at least {model.min_px}, divisible by "
                f"{model.size_multiple}",
                hint=f"choose {_rounded_up(max(side_px, model.min_px), multiple=model.size_multiple)}",
            )

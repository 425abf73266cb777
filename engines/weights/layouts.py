"""Knows the names that PyTorch files of SRVGGNetCompact and RRDBNet give to their tensors, and what their shapes tell.

Four layouts: BasicSR's SRVGGNetCompact (``body.0.weight`` ...) and RRDBNet (``body.0.rdb1.conv1.weight`` ...), which
are Real-ESRGAN's own, and ESRGAN's two older ones for the same RRDBNet (``RRDB_trunk.0.RDB1.conv1.weight`` ... and
``model.1.sub.0.RDB1.conv1.0.weight`` ...). Sources: ``srvgg_arch.py`` and ``rrdbnet_arch.py`` of BasicSR 1.4.2,
``RRDBNet_arch.py`` of xinntao/ESRGAN, ``transfer_RRDB_models.py`` there for the oldest names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from engines.errors import ModelFileError
from engines.layers import DENSE_BLOCKS, DENSE_CONVOLUTIONS, IMAGE_CHANNELS, RRDB_ENLARGEMENT, convolutions
from engines.spec import ModelSpec
from engines.weights.arrays import ConvWeights, ModelWeights
from engines.weights.checkpoint import Tensors

_INDEX = r"\d{1,4}"
"""Number in a tensor's name; bounded, so that a wrong name cannot ask for a network of billions of layers."""

_NAMED_AT_MOST = 4
"""Wrong names that one error message lists; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RrdbNames:
    """How one layout names RRDBNet's convolutions."""

    first: str
    dense: str
    """One convolution of a dense block; ``block`` counts from 0, ``dense`` and ``index`` from 1."""
    tail: tuple[str, str, str, str, str]
    """After the blocks, in order of execution; ``blocks`` is the number of blocks."""

    def of(self, blocks: int) -> tuple[str, ...]:
        """All names, in the order of ``engines.layers.convolutions``."""
        dense = (
            self.dense.format(block=block, dense=dense, index=index)
            for block in range(blocks)
            for dense in range(1, DENSE_BLOCKS + 1)
            for index in range(1, DENSE_CONVOLUTIONS + 1)
        )
        return (self.first, *dense, *(name.format(blocks=blocks) for name in self.tail))


_RRDB_LAYOUTS = (
    _RrdbNames(
        first="conv_first",
        dense="body.{block}.rdb{dense}.conv{index}",
        tail=("conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"),
    ),
    _RrdbNames(
        first="conv_first",
        dense="RRDB_trunk.{block}.RDB{dense}.conv{index}",
        tail=("trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last"),
    ),
    _RrdbNames(
        first="model.0",
        dense="model.1.sub.{block}.RDB{dense}.conv{index}.0",
        tail=("model.1.sub.{blocks}", "model.3", "model.6", "model.8", "model.10"),
    ),
)


def detect_model(tensors: Tensors, *, name: str, origin: str) -> ModelSpec | None:
    """Tell from the names and shapes of a file's tensors which network of a known architecture it holds.

    Args:
        tensors: All tensors of the file.
        name: Name that the model is to have.
        origin: The file's name in error messages.

    Returns:
        The architecture and its sizes, without costs; None if the file holds another architecture.

    Raises:
        ModelFileError: It is such a network, but for other pictures than RGB, or of impossible sizes.
    """
    if "body.0.weight" in tensors and all(re.fullmatch(rf"body\.{_INDEX}\.(weight|bias)", key) for key in tensors):
        return _detect_srvgg(tensors, name=name, origin=origin)
    layout = _rrdb_layout(tensors)
    return None if layout is None else _detect_rrdb(tensors, layout, name=name, origin=origin)


def arrange_tensors(model: ModelSpec, *, tensors: Tensors, origin: str) -> ModelWeights:
    """Put a file's tensors in the order in which the network uses them.

    Args:
        model: What the file should hold.
        tensors: All tensors of the file.
        origin: The file's name in error messages.

    Raises:
        ModelFileError: Tensors are missing, too many, of another shape or not finite; they are named.
    """
    if model.architecture == "srvgg":
        # The activations stand between the convolutions, so every second number is a convolution's.
        names: tuple[str, ...] = tuple(f"body.{2 * index}" for index in range(model.blocks + 2))
        slope_keys = [f"body.{2 * index + 1}.weight" for index in range(model.blocks + 1)]
    else:
        layout = _rrdb_layout(tensors)
        if layout is None:
            raise ModelFileError(f"{origin} does not hold {model.name}: no tensors of an RRDBNet", hint=_OTHER_FILE)
        names, slope_keys = layout.of(model.blocks), []
    shapes = convolutions(model)
    expected: dict[str, tuple[int, ...]] = {}
    for shape, conv in zip(shapes, names, strict=True):
        expected[f"{conv}.weight"] = shape.kernel_shape
        expected[f"{conv}.bias"] = (shape.outputs,)
    for key in slope_keys:
        expected[key] = (model.features,)
    _check_tensors(tensors, expected, model=model, origin=origin)
    slopes = [tensors[key] for key in slope_keys] + [None] * (len(shapes) - len(slope_keys))
    return ModelWeights(
        model=model,
        layers=tuple(
            ConvWeights(
                shape=shape,
                kernel=np.ascontiguousarray(tensors[f"{conv}.weight"]),
                bias=np.ascontiguousarray(tensors[f"{conv}.bias"]),
                slopes=slope,
            )
            for shape, conv, slope in zip(shapes, names, slopes, strict=True)
        ),
    )


def _detect_srvgg(tensors: Tensors, *, name: str, origin: str) -> ModelSpec | None:
    """SRVGGNetCompact with learnt slopes; None for other activations, whose kind the file does not tell."""
    last = max(int(key.split(".")[1]) for key in tensors)
    features, inputs = _kernel_channels(tensors, "body.0.weight", origin=origin)
    outputs, _ = _kernel_channels(tensors, f"body.{last}.weight", origin=origin)
    _check_channels(inputs, allowed=(IMAGE_CHANNELS,), origin=origin)
    if last % 2 or not any(array.ndim == 1 and key.endswith(".weight") for key, array in tensors.items()):
        return None
    scale = math.isqrt(outputs // IMAGE_CHANNELS)
    if scale < 1 or outputs != IMAGE_CHANNELS * scale**2:
        raise ModelFileError(
            f"{origin}: the last convolution (body.{last}.weight) has {outputs} outputs, which is not 3 x scale²",
            hint="the network is not one that gives RGB pictures",
        )
    return ModelSpec(name=name, architecture="srvgg", scale=scale, features=features, blocks=last // 2 - 1)


def _detect_rrdb(tensors: Tensors, layout: _RrdbNames, *, name: str, origin: str) -> ModelSpec | None:
    """RRDBNet with two doublings; None for relatives with another number of them or with more layers."""
    found = re.escape(layout.dense.format(block="#", dense=1, index=1)).replace(r"\#", f"({_INDEX})")
    matches = (re.fullmatch(rf"{found}\.weight", key) for key in tensors)
    blocks = max(int(match[1]) for match in matches if match) + 1
    tail = [key.format(blocks=blocks) for key in layout.tail]
    if f"{tail[-1]}.weight" not in tensors or any("conv1x1" in key for key in tensors):
        return None
    features, inputs = _kernel_channels(tensors, f"{layout.first}.weight", origin=origin)
    growth, _ = _kernel_channels(tensors, f"{layout.dense.format(block=0, dense=1, index=1)}.weight", origin=origin)
    outputs, _ = _kernel_channels(tensors, f"{tail[-1]}.weight", origin=origin)
    unshuffles = {IMAGE_CHANNELS * unshuffle**2: unshuffle for unshuffle in (1, 2, 4)}
    _check_channels(inputs, allowed=tuple(unshuffles), origin=origin)
    _check_channels(outputs, allowed=(IMAGE_CHANNELS,), origin=origin)
    unshuffle = unshuffles[inputs]
    return ModelSpec(
        name=name,
        architecture="rrdb",
        scale=RRDB_ENLARGEMENT // unshuffle,
        features=features,
        blocks=blocks,
        growth=growth,
        unshuffle=unshuffle,
        size_multiple=unshuffle,
        min_px=unshuffle,
    )


def _rrdb_layout(tensors: Tensors) -> _RrdbNames | None:
    """The layout of an RRDBNet; None if it is none."""
    for layout in _RRDB_LAYOUTS:
        wanted = (layout.first, layout.dense.format(block=0, dense=1, index=1))
        if all(f"{conv}.weight" in tensors for conv in wanted):
            return layout
    return None


def _kernel_channels(tensors: Tensors, key: str, *, origin: str) -> tuple[int, int]:
    """(outputs, inputs) of a convolution."""
    array = tensors.get(key)
    if array is None or array.ndim != 4 or 0 in array.shape:
        found = "missing" if array is None else f"of shape {array.shape}"
        raise ModelFileError(f"{origin}: {key} is {found}, expected the kernel of a convolution", hint=_OTHER_FILE)
    return array.shape[0], array.shape[1]


def _check_channels(count: int, *, allowed: tuple[int, ...], origin: str) -> None:
    """Refuse networks for other pictures than RGB."""
    if count not in allowed:
        raise ModelFileError(
            f"{origin} is a network for pictures of {count} channels, expected {' or '.join(map(str, allowed))}",
            hint="only networks from RGB to RGB can be used",
        )


def _check_tensors(tensors: Tensors, expected: dict[str, tuple[int, ...]], *, model: ModelSpec, origin: str) -> None:
    """Compare names and shapes with the expected ones, and look for values that are no numbers."""
    faults = [
        f"{key} is missing" if key not in tensors else f"{key} has shape {tensors[key].shape}, expected {shape}"
        for key, shape in expected.items()
        if key not in tensors or tensors[key].shape != shape
    ]
    faults += [f"{key} is not part of it" for key in tensors if key not in expected]
    faults += [f"{key} holds values that are not finite" for key in tensors if not np.isfinite(tensors[key]).all()]
    if faults:
        raise ModelFileError(
            f"{origin} does not hold the {model.architecture} network of {model.blocks} blocks and {model.features} "
            f"features that it seems to be: {_listed(faults)}",
            hint=_OTHER_FILE,
        )


def _listed(faults: Iterable[str]) -> str:
    """Join the first few."""
    every = list(faults)
    rest = len(every) - _NAMED_AT_MOST
    return "; ".join(every[:_NAMED_AT_MOST]) + (f"; and {rest} more" if rest > 0 else "")


_OTHER_FILE = "the file is damaged, or of a network that only resembles this one"

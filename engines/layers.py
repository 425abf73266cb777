"""The convolutions of a model in the order in which its weight file, its graph and its formulas walk them.

This is the only place that knows how many layers an architecture has and how wide they are; the weight reader, the
graph builder, the reference implementation and the cost formulas all iterate over it.

RRDBNet has one trunk, which enlarges by 4. For smaller enlargements the picture is first made smaller without loss: a
pixel unshuffle by ``ModelSpec.unshuffle`` (2 for x2, 4 for x1) makes of each block of unshuffle x unshuffle pixels one
pixel, with the channels in the order (colour, row, column), row-major, as ``torch.nn.functional.pixel_unshuffle`` does.
``conv_first`` then has 3 x unshuffle x unshuffle inputs. Source: ``rrdbnet_arch.py`` of BasicSR 1.4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.errors import EngineError
from engines.spec import ModelSpec

KERNEL_PX = 3
"""Edge of every convolution kernel of both architectures; padding is 1, so sizes are kept.
Source: the official SRVGGNetCompact and RRDBNet definitions."""

IMAGE_CHANNELS = 3
"""R, G, B."""

DENSE_CONVOLUTIONS = 5
"""Convolutions of one residual dense block of RRDBNet. Source: ESRGAN paper, figure 4."""

DENSE_BLOCKS = 3
"""Dense blocks of one residual-in-residual block of RRDBNet. Source: ESRGAN paper, figure 4."""


RRDB_ENLARGEMENT = 4
"""How much larger per side RRDBNet's result is than its trunk: two doublings.
Source: the official RRDBNet definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvShape:
    """One 3x3 convolution with bias, and where it works."""

    name: str
    """Unique in the model; names the graph's nodes."""
    inputs: int
    """Input channels."""
    outputs: int
    """Output channels."""
    resolution: int = 1
    """How much larger per side than the trunk the tensor is that the convolution runs on. The trunk has the size of
    the network's input, or an ``unshuffle``-th of it."""
    has_slopes: bool = False
    """Followed by a PReLU with one learnt slope per channel, stored after the bias."""

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Of the kernel: (outputs, inputs, 3, 3)."""
        return (self.outputs, self.inputs, KERNEL_PX, KERNEL_PX)

    @property
    def weight_count(self) -> int:
        """Numbers in the kernel, without the bias."""
        return self.outputs * self.inputs * KERNEL_PX * KERNEL_PX


def convolutions(model: ModelSpec) -> tuple[ConvShape, ...]:
    """List a model's convolutions in weight-file order, which is also the order of execution.

    Raises:
        EngineError: The architecture is not known.
    """
    match model.architecture:
        case "srvgg":
            return _srvgg(model)
        case "rrdb":
            return _rrdb(model)
        case "nearest":
            return ()
    raise EngineError(f"model {model.name}: unknown architecture {model.architecture!r}")


def _srvgg(model: ModelSpec) -> tuple[ConvShape, ...]:
    """SRVGGNetCompact: all at input resolution; the last one makes scale x scale sub-pixels of 3 channels."""
    width = model.features
    first = ConvShape(name="conv_first", inputs=IMAGE_CHANNELS, outputs=width, has_slopes=True)
    body = tuple(
        ConvShape(name=f"body_{index}", inputs=width, outputs=width, has_slopes=True) for index in range(model.blocks)
    )
    last = ConvShape(name="conv_last", inputs=width, outputs=IMAGE_CHANNELS * model.scale**2)
    return (first, *body, last)


def _rrdb(model: ModelSpec) -> tuple[ConvShape, ...]:
    """RRDBNet: the trunk, then two doublings with a convolution each, then two more."""
    width, growth, unshuffle = model.features, model.growth, model.unshuffle
    if model.scale * unshuffle != RRDB_ENLARGEMENT:
        raise EngineError(
            f"model {model.name}: an RRDBNet enlarges by {RRDB_ENLARGEMENT} over its unshuffle, so with unshuffle "
            f"{unshuffle} not by {model.scale}"
        )
    shapes = [ConvShape(name="conv_first", inputs=IMAGE_CHANNELS * unshuffle**2, outputs=width)]
    for block in range(model.blocks):
        for dense in range(DENSE_BLOCKS):
            shapes.extend(
                ConvShape(
                    name=f"block_{block}_{dense}_{index}",
                    inputs=width + index * growth,
                    outputs=width if index == DENSE_CONVOLUTIONS - 1 else growth,
                )
                for index in range(DENSE_CONVOLUTIONS)
            )
    shapes.extend(
        (
            ConvShape(name="conv_body", inputs=width, outputs=width),
            ConvShape(name="conv_up1", inputs=width, outputs=width, resolution=2),
            ConvShape(name="conv_up2", inputs=width, outputs=width, resolution=4),
            ConvShape(name="conv_hr", inputs=width, outputs=width, resolution=4),
            ConvShape(name="conv_last", inputs=width, outputs=IMAGE_CHANNELS, resolution=4),
        )
    )
    return tuple(shapes)

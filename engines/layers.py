"""The convolutions of a model in the order in which its weight file, its graph and its formulas walk them.

This is the only place that knows how many layers an architecture has and how wide they are; the weight reader, the
graph builder, the reference implementation and the cost formulas all iterate over it.
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
    """How much larger per side than the network's input the tensor is that the convolution runs on."""
    has_slopes: bool = False
    """Followed by a PReLU with one learnt slope per channel, stored after the bias."""

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
    """RRDBNet x4: the trunk at input resolution, then two doublings with a convolution each, then two more."""
    width, growth = model.features, model.growth
    if model.scale != 4:
        raise EngineError(f"model {model.name}: RRDBNet is implemented for x4, not x{model.scale}")
    shapes = [ConvShape(name="conv_first", inputs=IMAGE_CHANNELS, outputs=width)]
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


def receptive_px(model: ModelSpec) -> int:
    """Bound the input pixels on each side that one output pixel can depend on.

    Walks from the output to the input: every convolution adds its radius at its own resolution, and going to half the
    resolution halves the reach, rounded up (a nearest-enlarged pixel ``y`` reads ``floor(y / 2)``).
    """
    reach, resolution = 0, model.scale
    for shape in reversed(convolutions(model)):
        while resolution > shape.resolution:
            reach, resolution = (reach + 1) // 2, resolution // 2
        reach += KERNEL_PX // 2
    while resolution > 1:
        reach, resolution = (reach + 1) // 2, resolution // 2
    return reach


def flop_per_px(model: ModelSpec) -> int:
    """Arithmetic of all convolutions per input pixel: two operations per multiply-add, activations not counted."""
    return sum(2 * shape.weight_count * shape.resolution**2 for shape in convolutions(model))


def activation_bytes_per_px(model: ModelSpec) -> int:
    """Bound the peak memory of the float32 activations per input pixel.

    A convolution holds its input and its output; beside them live the tensors that a later addition still needs: the
    input image (SRVGG), or the outputs of ``conv_first``, of the outer block and of the dense block (RRDB). The last
    addition holds both operands and the sum. Buffers are assumed to be reused as soon as they are dead.
    """
    float32_bytes = 4
    skips = {"srvgg": IMAGE_CHANNELS, "rrdb": 3 * model.features, "nearest": 0}[model.architecture]
    peak = max(
        (
            (shape.inputs + shape.outputs) * shape.resolution**2 + (skips if shape.resolution == 1 else 0)
            for shape in convolutions(model)
        ),
        default=0,
    )
    image_at_output = IMAGE_CHANNELS * model.scale**2
    final = IMAGE_CHANNELS + (3 * image_at_output if model.architecture == "srvgg" else image_at_output)
    return float32_bytes * max(peak, final)

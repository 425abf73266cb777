"""What running a model costs and how far its pixels see, from its layers alone."""

from __future__ import annotations

from dataclasses import replace

from engines.fold import foldable_scales
from engines.layers import IMAGE_CHANNELS, KERNEL_PX, convolutions
from engines.spec import ModelSpec

_FLOAT32_BYTES = 4


def with_costs(model: ModelSpec) -> ModelSpec:
    """Fill in what follows from the layers of a model of a known architecture.

    ``overlap_px`` is kept where it is set, because the table's are measured.
    """
    return replace(
        model,
        receptive_px=receptive_px(model),
        overlap_px=model.overlap_px or estimate_overlap_px(model),
        output_scales=foldable_scales(model),
        flop_per_px=flop_per_px(model),
        activation_bytes_per_px=activation_bytes_per_px(model),
    )


def receptive_px(model: ModelSpec) -> int:
    """Say how many input pixels away on each side the farthest is that one output pixel can depend on.

    Walks from each output pixel that one pixel of the trunk gives back to the input: a convolution widens the range
    that is read by its radius, and a pixel of an enlarged tensor reads the one that it lies in.
    """
    shapes, enlargement = convolutions(model), model.scale * model.unshuffle
    farthest = 0
    for output in range(enlargement):
        first = last = output
        resolution = enlargement
        for shape in reversed(shapes):
            ratio, resolution = resolution // shape.resolution, shape.resolution
            first, last = first // ratio - KERNEL_PX // 2, last // ratio + KERNEL_PX // 2
        first, last = first // resolution * model.unshuffle, (last // resolution + 1) * model.unshuffle - 1
        own = output // model.scale
        farthest = max(farthest, own - first, last - own)
    return farthest


def estimate_overlap_px(model: ModelSpec) -> int:
    """Say how many input pixels neighbouring tiles of an unmeasured model should share; even.

    SRVGG: twice the receptive field, with which the tiles' kept halves are exactly those of the whole picture.

    RRDB: what was measured (``tools/bench_seams.py``) with 6 blocks, 48 pixels, and with 23, 64, at the trunk's
    resolution; the receptive field of 23 blocks, 349 pixels, is too large to share. Other numbers of blocks take the
    next larger measured one's, beyond 23 in proportion.
    """
    if model.architecture == "srvgg":
        return 2 * receptive_px(model)
    if model.architecture != "rrdb":
        return 0
    trunk_px = 48 if model.blocks <= 6 else max(64, 2 * -(-32 * model.blocks // 23))
    return trunk_px * model.unshuffle


def flop_per_px(model: ModelSpec) -> int:
    """Arithmetic of all convolutions per input pixel: two operations per multiply-add, activations not counted."""
    at_trunk = sum(2 * shape.weight_count * shape.resolution**2 for shape in convolutions(model))
    return -(-at_trunk // model.unshuffle**2)


def activation_bytes_per_px(model: ModelSpec) -> int:
    """Bound the peak memory of the float32 activations per input pixel.

    A convolution holds its input and its output; beside them live the tensors that a later addition still needs: the
    input image (SRVGG), or the outputs of ``conv_first``, of the outer block and of the dense block (RRDB). The last
    addition holds both operands and the sum. Buffers are assumed to be reused as soon as they are dead.
    """
    skips = {"srvgg": IMAGE_CHANNELS, "rrdb": 3 * model.features, "nearest": 0}[model.architecture]
    at_trunk = max(
        (
            (shape.inputs + shape.outputs) * shape.resolution**2 + (skips if shape.resolution == 1 else 0)
            for shape in convolutions(model)
        ),
        default=0,
    )
    image_at_output = IMAGE_CHANNELS * model.scale**2
    final = IMAGE_CHANNELS + (3 * image_at_output if model.architecture == "srvgg" else image_at_output)
    return _FLOAT32_BYTES * max(-(-at_trunk // model.unshuffle**2), final)

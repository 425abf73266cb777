"""How large the result is: pure arithmetic on frame sizes.

The picture's shape (storage aspect) is kept, so non-square pixels stay as they are. Sides of a result with subsampled
chroma are even, because the usual encoders take nothing else.
"""

from __future__ import annotations

from fractions import Fraction

from pipeline.frames import Subsampling


def choose_output_size(
    *,
    height: int,
    width: int,
    model_scale: int,
    subsampling: Subsampling,
    factor: float | None = None,
    to_height: int | None = None,
    to_width: int | None = None,
    fit: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Find the result's size. At most one of ``factor``, ``to_height``, ``to_width`` and ``fit`` is given.

    Args:
        height, width: Source frame in pixels, both >= 1.
        model_scale: Enlargement per side when nothing else is given.
        subsampling: Chroma sampling of the result.
        factor: Enlargement per side.
        to_height: Exact height; the width follows.
        to_width: Exact width; the height follows.
        fit: (height, width) of a box: the largest size of the same shape inside it.

    Returns:
        (height, width), each at least 1 (2 where it must be even). A side that was asked for exactly is rounded down
        to even where it must be even; a side that follows is rounded to the nearest possible value.
    """
    step_y = 2 if subsampling == "420" else 1
    step_x = 1 if subsampling == "444" else 2
    if fit is not None:
        box_height, box_width = fit
        # Compare shapes as integers: box_height / height <= box_width / width
        if box_height * width <= box_width * height:
            to_height = box_height
        else:
            to_width = box_width
    if to_height is not None:
        out_height = _floor(to_height, step_y)
        ratio = Fraction(out_height, height)
        return out_height, _nearest(ratio * width, step_x)
    if to_width is not None:
        out_width = _floor(to_width, step_x)
        ratio = Fraction(out_width, width)
        return _nearest(ratio * height, step_y), out_width
    ratio = Fraction(model_scale) if factor is None else Fraction(factor).limit_denominator(10_000)
    return _nearest(ratio * height, step_y), _nearest(ratio * width, step_x)


def _floor(length: int, step: int) -> int:
    return max(step, length // step * step)


def _nearest(length: Fraction, step: int) -> int:
    """The multiple of ``step`` nearest to ``length``, halves upwards, at least ``step``."""
    return max(step, int(length / step + Fraction(1, 2)) * step)

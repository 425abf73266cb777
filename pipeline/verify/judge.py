"""Verdicts on single frames of a result: which differences no network, resampler or encoder makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.verify.floors import Floors
from pipeline.verify.measure import (
    ColourFit,
    Worst,
    colour_blocks,
    fit_colours,
    likeness,
    psnr_db,
    slip_of,
    worst_block,
)
from pipeline.verify.picture import Grid, Picture, Plane

SLIP_RESULT_PX = 0.5
"""A shift of half a pixel of the result is closer to a whole one than to none."""
_SLIP_CONTRAST = 0.01
"""Flatter pictures (two and a half codes of 8 bits per pixel) say nothing of their place once they were encoded."""
_SLIP_WINDOW_PX = 512
"""A shift is the same all over a picture, so its middle is enough."""
_MISTAKE_SHARE = 0.5
"""A mistake that leaves less than this share of the difference unexplained is what happened."""
_MISTAKE_RMS = 0.01
"""Below two and a half codes of 8 bits nobody sees the colours shifted, and results of good runs reach 0.009."""
_LEAN = 0.75
"""Nearer to another frame than to its own beyond all doubt: what a network makes of noise that changes from frame to
frame lies in the middle (0.5), as it belongs to neither."""
_APART_RMS = 0.01
"""Frames closer to each other than this cannot be told apart after encoding, nor need be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of a frame that passed or failed."""

    luma_db: float
    chroma_db: float
    block: float
    """Largest difference of a block's mean, nominal units."""


class Judge:
    """Compares frames of one result with those of its source.

    Args:
        floors: What the network's results reach at least.
        grid: Of all frames.
        scale: Enlargement, the smaller one of both sides.
    """

    def __init__(self, *, floors: Floors, grid: Grid, scale: float) -> None:
        self._floors = floors
        self._grid = grid
        self._scale = scale

    def judge(
        self, source: Picture, result: Picture, *, before: Picture | None, after: Picture | None
    ) -> tuple[Figures, tuple[str, ...]]:
        """Compare a frame with its source.

        Args:
            source: The source's frame of the same number.
            result: The result's.
            before: The source's frame before; None if there is none.
            after: The source's frame after it.

        Returns:
            Figures, and what is wrong, the most telling first; empty if nothing is.
        """
        blocks = colour_blocks(source), colour_blocks(result)
        worst = worst_block(*blocks)
        figures = Figures(
            luma_db=psnr_db(source.luma, result.luma),
            chroma_db=psnr_db(source.chroma, result.chroma),
            block=worst.difference,
        )
        fit = fit_colours(*blocks, matrix=self._grid.format.matrix)
        faults = (
            *self._misplaced(source, result, before=before, after=after),
            *self._shifted(source, result),
            *_mistaken(fit),
            *self._below(figures, worst),
        )
        return figures, faults

    def _misplaced(
        self, source: Picture, result: Picture, *, before: Picture | None, after: Picture | None
    ) -> Iterator[str]:
        for other, word in ((before, "before"), (after, "after")):
            if other is None:
                continue
            like = likeness(source, result, other)
            if like.apart_rms > _APART_RMS and like.lean > _LEAN and like.other_rms < like.own_rms:
                yield f"it shows the frame {word} it (out of order, repeated or lost)"

    def _shifted(self, source: Picture, result: Picture) -> Iterator[str]:
        slip = slip_of(_middle(source), _middle(result), contrast=_SLIP_CONTRAST)
        if slip is None:
            return
        down, right = slip.down * self._scale, slip.right * self._scale
        if max(abs(down), abs(right)) > max(SLIP_RESULT_PX, self._floors.slip_source_px * self._scale):
            yield f"it is shifted by {right:+.1f} pixels to the right and {down:+.1f} down"

    def _below(self, figures: Figures, worst: Worst) -> Iterator[str]:
        floors = self._floors
        for name, found, floor in (
            ("luma", figures.luma_db, floors.luma_db),
            ("chroma", figures.chroma_db, floors.chroma_db),
        ):
            if found < floor:
                yield f"{name} differs from the source: PSNR {found:.1f} dB, at least {floor:.1f} dB was expected"
        if worst.difference > floors.block:
            yield (
                f"the part at ({worst.left}, {worst.top}) of {self._grid.width}x{self._grid.height} is another:"
                f" its mean is off by {100 * worst.difference:.0f} %, at most {100 * floors.block:.0f} % was expected"
            )


def _mistaken(fit: ColourFit) -> Iterator[str]:
    if fit.rms > _MISTAKE_RMS and fit.mistaken_rms < _MISTAKE_SHARE * fit.rms:
        yield f"its colours are shifted as if {fit.mistake}"


def _middle(picture: Picture) -> Plane:
    height, width = picture.luma.shape
    top, left = max(0, height - _SLIP_WINDOW_PX) // 2, max(0, width - _SLIP_WINDOW_PX) // 2
    return picture.luma[top : top + _SLIP_WINDOW_PX, left : left + _SLIP_WINDOW_PX]

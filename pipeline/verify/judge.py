"""Verdicts on single frames of a result: which differences no network, resampler or encoder makes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.verify.floors import Floors
from pipeline.verify.measure import (
    ColourFit,
    Slip,
    Worst,
    colour_blocks,
    colour_cast,
    fit_colours,
    likeness,
    psnr_db,
    roughness,
    slip_of,
    worst_block,
)
from pipeline.verify.picture import Grid, Picture, Plane

SLIP_RESULT_PX = 0.5
"""A shift of half a pixel of the result is closer to a whole one than to none."""
_SLIP_CONTRAST = 0.01
"""Flatter pictures (two and a half codes of 8 bits per pixel) say little of their place once they were encoded."""
_SLIP_FAINT = 0.003
"""But what a shift makes of them, nothing else does: of a picture whose difference is that of a shifted one, this is
enough (0.75 codes of 8 bits per pixel, more than rounding adds)."""
_SLIP_WINDOW_PX = 512
"""A shift is the same all over a picture, so its middle is enough."""
_ROUGH = 0.08
"""From here on a picture is made of details of one pixel (noise, checkerboards, pixel art), of which networks make what
they like; frames of the films of ``floors`` reach 0.05. What is more than this is added to what may differ."""
_ROUGH_GAIN, _ROUGH_CAST = 3, 0.25
"""Times that, and that share of luma's for the mean of chroma. RealESRGAN_x4plus_anime_6B leaves white noise of three
independent colours at 7.2 dB, its blocks off by 0.44; animevideov3 gives a grey checkerboard a tint of 0.055. Of such
pictures only the coarsest damage is found."""
_MISTAKE_SHARE = 0.5
"""A mistake that leaves less than this share of the difference unexplained is what happened. Measured with the networks
of ``floors`` on the films there, greys, tints and a fade: good results leave 0.80 and more of differences that are
large enough to tell, a film read as BT.2020 0.39."""
_LEAN = 0.75
"""Nearer to another frame than to its own beyond all doubt: what a network makes of noise that changes from frame to
frame lies in the middle (0.5), as it belongs to neither. Fades through the networks of ``floors`` reach 0.17."""
_APART_RMS = 0.01
"""Frames closer to each other than this cannot be told apart after encoding, nor need be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of a frame that passed or failed."""

    luma_db: float
    chroma_db: float
    block: float
    """Largest difference of a block's mean, nominal units."""
    cast: float
    """Difference of the mean of Cb or Cr, the larger, nominal units. Networks change that of luma more than that."""
    slip_px: float
    """Shift of luma, pixels of the grid; 0 where it cannot be told."""
    chroma_slip_px: float
    """The same of chroma, in luma's pixels."""
    lean: float
    """How far it is on the way to a neighbour, 1 at that; 0 where they cannot be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a frame, if anything is."""

    figures: Figures
    mistakes: tuple[str, ...]
    """Another frame, a shift, a mistake in its colours."""
    differences: tuple[str, ...]
    """By how much it differs, where that is more than it may."""

    @property
    def faults(self) -> tuple[str, ...]:
        """All that is wrong, the most telling first; empty if nothing is."""
        return self.mistakes + self.differences


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

    def judge(self, source: Picture, result: Picture, *, before: Picture | None, after: Picture | None) -> Verdict:
        """Compare a frame with its source.

        Args:
            source: The source's frame of the same number.
            result: The result's.
            before: The source's frame before; None if there is none.
            after: The source's frame after it.
        """
        blocks = colour_blocks(source), colour_blocks(result)
        worst = worst_block(*blocks)
        leans = [self._lean(source, result, other) for other in (before, after)]
        slip = slip_of(_middle(source.luma), _middle(result.luma), contrast=_SLIP_CONTRAST, faint=_SLIP_FAINT)
        chroma_slip = self._chroma_slip(source, result)
        figures = Figures(
            luma_db=psnr_db(source.luma, result.luma),
            chroma_db=psnr_db(source.chroma, result.chroma),
            block=worst.difference,
            cast=colour_cast(source, result),
            slip_px=0.0 if slip is None else slip.length,
            chroma_slip_px=0.0 if chroma_slip is None else chroma_slip.length,
            lean=max(leans),
        )
        fit = fit_colours(*blocks, matrix=self._grid.format.matrix)
        rough = max(0.0, roughness(source.luma) - _ROUGH)
        rough_chroma = max(0.0, *(roughness(plane) - _ROUGH for plane in source.chroma))
        # where something else is, nothing was shifted
        is_other = figures.luma_db < self._floors.luma_db
        mistakes = (
            *(
                f"it shows the frame {word} it (out of order, repeated or lost)"
                for lean, word in zip(leans, ("before", "after"), strict=True)
                if lean > _LEAN
            ),
            *(() if is_other else self._shifted(slip, "it is", limit_px=self._floors.slip_source_px)),
            *(
                ()
                if is_other
                else self._shifted(chroma_slip, "its chroma is", limit_px=self._floors.chroma_slip_source_px)
            ),
            *_mistaken(fit),
        )
        below = self._below(figures, worst, rough=rough, rough_chroma=rough_chroma)
        return Verdict(figures=figures, mistakes=mistakes, differences=tuple(below))

    def _lean(self, source: Picture, result: Picture, other: Picture | None) -> float:
        if other is None:
            return 0.0
        like = likeness(source, result, other)
        return like.lean if like.apart_rms > _APART_RMS and like.other_rms < like.own_rms else 0.0

    def _chroma_slip(self, source: Picture, result: Picture) -> Slip | None:
        """Of the plane that says more of its place."""
        found = [
            slip
            for plane, made in zip(source.chroma, result.chroma, strict=True)
            if (slip := slip_of(_middle(plane), _middle(made), contrast=_SLIP_CONTRAST, faint=_SLIP_FAINT)) is not None
        ]
        if not found:
            return None
        slip = max(found, key=lambda slip: slip.contrast)
        rows, columns = self._grid.chroma_step_px
        return replace(slip, down=slip.down * rows, right=slip.right * columns)

    def _shifted(self, slip: Slip | None, what: str, *, limit_px: float) -> Iterator[str]:
        if slip is None:
            return
        down, right = slip.down * self._scale, slip.right * self._scale
        if max(abs(down), abs(right)) > max(SLIP_RESULT_PX, limit_px * self._scale):
            yield f"{what} shifted by {right:+.1f} pixels to the right and {down:+.1f} down"

    def _below(self, figures: Figures, worst: Worst, *, rough: float, rough_chroma: float) -> Iterator[str]:
        floors = replace(
            self._floors,
            luma_db=_lowered_db(self._floors.luma_db, by=_ROUGH_GAIN * rough),
            chroma_db=_lowered_db(self._floors.chroma_db, by=_ROUGH_GAIN * rough_chroma),
            block=self._floors.block + _ROUGH_GAIN * max(rough, rough_chroma),
            cast=self._floors.cast + rough_chroma + _ROUGH_CAST * rough,
        )
        for name, found, floor in (
            ("luma", figures.luma_db, floors.luma_db),
            ("chroma", figures.chroma_db, floors.chroma_db),
        ):
            if found < floor:
                yield f"{name} differs from the source: PSNR {found:.1f} dB, at least {floor:.1f} dB was expected"
        if figures.cast > floors.cast:
            yield (
                f"its colours are shifted: their mean chroma is off by {100 * figures.cast:.1f} %,"
                f" at most {100 * floors.cast:.1f} % was expected"
            )
        if worst.difference > floors.block:
            yield (
                f"the part at ({worst.left}, {worst.top}) of {self._grid.width}x{self._grid.height} is another:"
                f" its mean is off by {100 * worst.difference:.0f} %, at most {100 * floors.block:.0f} % was expected"
            )


def _lowered_db(floor_db: float, *, by: float) -> float:
    """The floor where the root mean square of the difference may be larger by so much."""
    return -20 * math.log10(10 ** (-floor_db / 20) + by)


def _mistaken(fit: ColourFit) -> Iterator[str]:
    if fit.mistaken_rms < _MISTAKE_SHARE * fit.rms:
        yield f"its colours are shifted as if {fit.mistake}"


def _middle(plane: Plane) -> Plane:
    height, width = plane.shape
    top, left = max(0, height - _SLIP_WINDOW_PX) // 2, max(0, width - _SLIP_WINDOW_PX) // 2
    return plane[top : top + _SLIP_WINDOW_PX, left : left + _SLIP_WINDOW_PX]

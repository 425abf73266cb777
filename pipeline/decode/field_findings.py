"""What was seen of a film's fields in frames from all over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FieldOrder = Literal["top", "bottom"]
"""Which field of a frame is shown first."""

COMBED_SHARE = 0.6
"""Of the frames in one place that idet decides on, those of one field order that make the place interlaced. Measured
with 25 frames a place, on films that were interlaced or telecined: 0.8 and more. On progressive ones: 0.04 and less
where it decides on ``DECIDED_FRAMES``."""

OTHER_ORDER_SHARE = 0.25
"""The most frames of the other field order in an interlaced place, as a share of those of the first. Measured on
interlaced and telecined films: up to 0.15. Where a progressive picture moves up or down, idet finds both orders, the
rarer one 0.6 times as often as the other, and more."""

COMBED_FRAMES = 3
"""Frames in an interlaced place whose lines must be torn in themselves. Progressive places, noisy ones included, have
none; interlaced places where things move slowly have few."""

PLAIN_SHARE = 0.9
"""Likewise, those that are progressive, for a place to be progressive beyond doubt. Measured on progressive films: 0.95
and more."""

DECIDED_FRAMES = 12
"""Frames that idet must decide on, for a place to count. Where little moves it seldom decides, and then often wrongly:
in one place of a noisy progressive film of 176x144, on 10 frames and 6 times for fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPlace:
    """Neighbouring frames of one place in a film, as their flags and ffmpeg's idet filter have them."""

    frames: int
    """Frames looked at."""
    flagged_top: int = 0
    """Flagged interlaced, top field first."""
    flagged_bottom: int = 0
    """Flagged interlaced, bottom field first."""
    top: int = 0
    """That look interlaced, top field first."""
    bottom: int = 0
    """That look interlaced, bottom field first."""
    progressive: int = 0
    """That look progressive; the rest shows too little motion to tell."""
    combed: int = 0
    """With lines torn against their neighbours, as no progressive picture has them."""
    combed_unflagged: int = 0
    """Of these, those flagged progressive."""
    repeated_top: int = 0
    """With the top field of the frame before, though the bottom one moved."""
    repeated_bottom: int = 0
    """The other way round."""

    @property
    def flagged(self) -> int:
        """Frames flagged interlaced."""
        return self.flagged_top + self.flagged_bottom

    @property
    def order(self) -> FieldOrder | None:
        """Which field comes first where this place is interlaced; None where it is not, or nothing can be told."""
        decided = self.top + self.bottom + self.progressive
        rarer, commoner = sorted((self.top, self.bottom))
        if (
            self.combed < COMBED_FRAMES
            or decided < DECIDED_FRAMES
            or commoner < COMBED_SHARE * decided
            or rarer > OTHER_ORDER_SHARE * commoner
        ):
            return None
        return "top" if self.top == commoner else "bottom"

    @property
    def is_plain(self) -> bool:
        """Whether this place is progressive beyond doubt."""
        decided = self.top + self.bottom + self.progressive
        return not self.combed and decided >= DECIDED_FRAMES and self.progressive >= PLAIN_SHARE * decided


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFindings:
    """What ``scan_fields`` saw of a film."""

    places: tuple[SeenPlace, ...]
    """In film order."""

    @property
    def flagged(self) -> int:
        """Frames flagged interlaced."""
        return sum(place.flagged for place in self.places)

    @property
    def is_combed(self) -> bool:
        """Whether the film is interlaced somewhere, by the look of it."""
        return any(place.order is not None for place in self.places)

    @property
    def is_plain(self) -> bool:
        """Whether the film looks progressive wherever something moves, and something does."""
        return not self.is_combed and any(place.is_plain for place in self.places)

    @property
    def has_unflagged_fields(self) -> bool:
        """Whether some place is interlaced, by its look, in frames flagged progressive."""
        return any(place.order is not None and place.combed_unflagged >= COMBED_FRAMES for place in self.places)

    @property
    def order(self) -> FieldOrder | None:
        """The field order by the look of the film; None if it is not interlaced or has parts of either order."""
        orders = {place.order for place in self.places} - {None}
        return orders.pop() if len(orders) == 1 else None

    @property
    def flagged_order(self) -> FieldOrder | None:
        """The field order by the flags; None if there are none or they change."""
        top = sum(place.flagged_top for place in self.places)
        bottom = sum(place.flagged_bottom for place in self.places)
        if bool(top) == bool(bottom):
            return None
        return "top" if top else "bottom"

    @property
    def is_telecined(self) -> bool:
        """Whether the fields are a film's of 24 frames a second, some shown twice (3:2 pulldown).

        Each five frames then repeat one top and one bottom field. In films whose fields are of different moments, none
        does while something moves.
        """
        top = sum(place.repeated_top for place in self.places)
        bottom = sum(place.repeated_bottom for place in self.places)
        return self.is_combed and min(top, bottom) >= 2

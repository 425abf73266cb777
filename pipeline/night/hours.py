"""The times of day at which a run may work: ``23:00-07:00``, or several spans with commas. Local time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_SPAN = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """Spans of the day, each from a minute on (inclusive) to another (exclusive), over midnight where it ends first."""

    spans: tuple[tuple[int, int], ...]
    """Minutes since midnight, [0, 1440); the end may be 1440."""

    def is_open(self, at: datetime) -> bool:
        """Whether a run may work at a time.

        Args:
            at: By the clock on the wall.
        """
        minute = at.hour * 60 + at.minute
        return any(
            start <= minute < stop if start < stop else minute >= start or minute < stop for start, stop in self.spans
        )

    def next_change(self, at: datetime) -> datetime | None:
        """When ``is_open`` changes next after a time; None if it never does."""
        now = self.is_open(at)
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        edges = sorted({edge % _DAY_MINUTES for span in self.spans for edge in span})
        for day in range(3):
            for edge in edges:
                moment = midnight + timedelta(days=day, minutes=edge)
                if moment > at and self.is_open(moment) != now:
                    return moment
        return None


def parse_hours(text: str) -> Hours:
    """Read ``23:00-07:00, 12:00-13:30``.

    Raises:
        ValueError: It is not that; the message says what is wrong.
    """
    spans = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"must be spans such as 23:00-07:00, with commas between them (got {text!r})")
        numbers = [int(number) for number in match.groups()]
        start, stop = 60 * numbers[0] + numbers[1], 60 * numbers[2] + numbers[3]
        if max(numbers[1], numbers[3]) > 59 or start >= _DAY_MINUTES or stop > _DAY_MINUTES:
            raise ValueError(f"must be times from 00:00 to 24:00 (got {part.strip()!r})")
        if start == stop:
            raise ValueError(f"must be spans that begin and end at different times (got {part.strip()!r})")
        spans.append((start, stop))
    return Hours(tuple(spans))

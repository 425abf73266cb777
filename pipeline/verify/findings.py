"""What a verification found to be wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One way in which a frame of a result is not its film's."""

    frame: int
    """0-based, in display order."""
    time_s: float
    """Of the frame in the source, from its own clock."""
    what: str
    """What is wrong and where, with the figures, half a sentence."""

    def __str__(self) -> str:
        return f"frame {self.frame} ({self.time_s:.3f} s): {self.what}"

"""Which frames of a result are compared."""

from __future__ import annotations

from collections.abc import Sequence

SPREAD = 8
"""Places all over the film, at most."""
SEAMS = 12
"""Boundaries between segments, at most, evenly chosen of all."""
_SHORT_FRAMES = 64
"""For a film of this length one place is enough; each doubling adds one. So what is compared grows much slower than
what was done: 8 frames of 132, 20 of 3000, 44 of two hours."""
_EDGE = 2
"""Frames at each end, and at each place all over the film: with two, an exchange is seen from both sides."""


def sample_frames(frame_count: int, *, seams: Sequence[int]) -> tuple[int, ...]:
    """Choose the frames that are compared in every job.

    Args:
        frame_count: Of the film, >= 1.
        seams: First frame of each segment but the first one.

    Returns:
        Ascending: the first and last frames, both sides of some seams, and some places in between.
    """
    places = max(1, (frame_count // _SHORT_FRAMES).bit_length())
    spread, chosen_seams = min(SPREAD, places), min(SEAMS, places, len(seams))
    starts = [0, frame_count - _EDGE]
    starts += [seams[index * len(seams) // chosen_seams] - 1 for index in range(chosen_seams)]
    starts += [(2 * place + 1) * frame_count // (2 * spread) for place in range(spread)]
    chosen = {start + step for start in starts for step in range(_EDGE)}
    return tuple(sorted(frame for frame in chosen if 0 <= frame < frame_count))

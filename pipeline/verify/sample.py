"""Which frames of a result are compared."""

from __future__ import annotations

from collections.abc import Sequence

SPREAD = 8
"""Places all over the film."""
SEAMS = 12
"""Boundaries between segments, evenly chosen of all."""
_EDGE = 2
"""Frames at each end, and at each place all over the film: with two, an exchange is seen from both sides."""


def sample_frames(frame_count: int, *, seams: Sequence[int]) -> tuple[int, ...]:
    """Choose the frames that are compared in every job.

    Args:
        frame_count: Of the film, >= 1.
        seams: First frame of each segment but the first one.

    Returns:
        Ascending: the first and last frames, both sides of up to ``SEAMS`` seams, and ``SPREAD`` places in between.
    """
    starts = [0, frame_count - _EDGE]
    starts += [seams[index * len(seams) // min(SEAMS, len(seams))] - 1 for index in range(min(SEAMS, len(seams)))]
    starts += [(2 * place + 1) * frame_count // (2 * SPREAD) for place in range(SPREAD)]
    chosen = {start + step for start in starts for step in range(_EDGE)}
    return tuple(sorted(frame for frame in chosen if 0 <= frame < frame_count))

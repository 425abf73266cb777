"""Several segments of one film at once: who decodes which, and whether the parts are what one decoder would have given.

Each lane takes the next segment that nobody has begun, decodes one frame more than it gives, and says what it saw: the
time of its first frame and that of the frame behind its last. Where the second of one segment is the first of the next,
the two decoders agree on the numbers; the first segment is decoded from the film's beginning; so, one after the other,
all numbers are those of a single decoder. A decoder that had to skip or repair anything ends this: nothing behind that
segment is relied on, and whoever runs the lanes decodes the rest in one go.

Segments that an earlier attempt has committed are not handed out again. They stand in the chain with what their own
decoders saw.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.decode.base import Decoder
from pipeline.frames import Frame
from pipeline.segments import CommittedSegment, Segment

END: Final = "end"
"""In place of a time: there is no such frame, the film ends before it."""

Seen = int | Literal["end"]
"""Pts of a frame, or `END`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What the lanes of a film achieved together."""

    segment_count: int
    """Segments, from the film's beginning on, whose frames are those that a single decoder would have given."""
    frame_count: int
    """Frames that were decoded for them."""
    doubt: str
    """Why nothing behind them can be relied on, a clause; empty if nothing is: the film ends there."""


class SegmentSchedule:
    """Hands out the segments of a film in order, and keeps what was seen at their seams.

    Used by the decoding threads of all lanes without a lock: every operation on the shared state is a single one of a
    counter or a dictionary, and each segment is written by one lane only.

    Args:
        segment_frames: Frames of every segment but the last.
        frame_count: Of the film, if it is known for certain; else the end is where a decoder finds it.
        done: Segments that need not be made, whose frames are those of the film's index where it has one.
        pts: Of all frames of the film; None if it has no index, and frames are where they are for any decoder.
    """

    def __init__(
        self,
        *,
        segment_frames: int,
        frame_count: int | None = None,
        done: Sequence[CommittedSegment] = (),
        pts: Sequence[int] | None = None,
    ) -> None:
        self.segment_frames = segment_frames
        self._done = frozenset(segment.index for segment in done)
        last = next((segment for segment in done if segment.frame_count < segment_frames), None)
        self._frame_count = frame_count if last is None else last.stop
        self._numbers = itertools.count()
        self._starts: dict[int, Seen] = {}
        self._continuations: dict[int, Seen] = {}
        self._frame_counts: dict[int, int] = {}
        self._distrusted: dict[int, str] = {}
        self._has_ended = False
        for segment in done:
            self._starts[segment.index] = segment.first_pts
            self._frame_counts[segment.index] = segment.frame_count
            if segment is last or (pts is not None and segment.stop >= len(pts)):
                self._continuations[segment.index] = END
            elif pts is not None:
                self._continuations[segment.index] = int(pts[segment.stop])

    @property
    def complaint(self) -> str:
        """Why something cannot be relied on, so far; empty if all can."""
        return next(iter(self._distrusted.copy().values()), "")

    @property
    def doubted_index(self) -> int | None:
        """The first segment that cannot be relied on, so far; None if all can."""
        return min(self._distrusted.copy(), default=None)

    def take(self) -> Segment | None:
        """The next segment that nobody has begun; None if there is none or nobody would want it."""
        if self._has_ended or self._distrusted:
            return None
        index = next(number for number in self._numbers if number not in self._done)
        start = index * self.segment_frames
        if self._frame_count is not None and start >= max(1, self._frame_count):
            return None
        return Segment(index=index, start=start, stop=start + self.segment_frames)

    def is_wanted(self, segment: Segment) -> bool:
        """Whether a segment's frames are still of use."""
        return segment.index < min(self._distrusted.copy(), default=segment.index + 1)

    def note_start(self, segment: Segment, seen: Seen) -> None:
        """Note what a segment's own decoder has at its start."""
        self._starts[segment.index] = seen
        self._compare(segment.index)

    def note_continuation(self, segment: Segment, seen: Seen, *, frame_count: int) -> None:
        """Note what a segment's decoder has behind its last frame: the segment was decoded to its end.

        Args:
            segment: The segment.
            seen: The time of the frame behind it.
            frame_count: Frames that were decoded for it.
        """
        self._has_ended = self._has_ended or seen == END
        self._frame_counts[segment.index] = frame_count
        self._continuations[segment.index] = seen
        self._compare(segment.index + 1)

    def distrust(self, segment: Segment, *, reason: str) -> None:
        """From this segment on, nothing can be relied on.

        Args:
            segment: The first one that is not what a single decoder would give, perhaps.
            reason: What was seen, a clause.
        """
        self._distrusted[segment.index] = reason

    def review(self) -> Review:
        """After the run: how far the segments are what a single decoder would have given."""
        for index in itertools.count():
            if index in self._distrusted:
                break
            if index not in self._continuations:
                if index in self._done:
                    continue  # of a computed film: every decoder has the same frame behind it
                break
            if self._starts[index] == END:
                return self._review(index, doubt="")
            if self._continuations[index] == END and index + 1 not in self._distrusted:
                return self._review(index + 1, doubt="")
        doubt = self._distrusted.get(index, f"the film goes on behind frame {index * self.segment_frames}")
        return self._review(index, doubt=doubt)

    def _review(self, segment_count: int, *, doubt: str) -> Review:
        frame_count = sum(self._frame_counts[index] for index in range(segment_count))
        return Review(segment_count=segment_count, frame_count=frame_count, doubt=doubt)

    def _compare(self, index: int) -> None:
        """Compare a segment's start with what the decoder of the one before has there, once both are known."""
        start, expected = self._starts.get(index), self._continuations.get(index - 1)
        if start is not None and expected is not None and start != expected:
            self._distrusted[index] = f"frame {index * self.segment_frames} is not the same from both sides"


class LaneSource:
    """Frames of the segments that one lane takes, each segment's in display order.

    Args:
        open_decoder: Opens the lane's own decoder; called in the stage's thread, closed when the stage ends.
        schedule: Shared by all lanes of the film.
    """

    name = "decode"

    def __init__(
        self, open_decoder: Callable[[], AbstractContextManager[Decoder]], *, schedule: SegmentSchedule
    ) -> None:
        self._open_decoder = open_decoder
        self._schedule = schedule

    @property
    def complaint(self) -> str:
        """What any lane's decoder has had to say so far; empty if nothing. From any thread."""
        return self._schedule.complaint

    def run(self) -> Iterator[Frame]:
        """Yield the frames of one segment after the other until none is left."""
        with self._open_decoder() as decoder:
            while (segment := self._schedule.take()) is not None:
                yield from self._decode(decoder, segment)

    def _decode(self, decoder: Decoder, segment: Segment) -> Iterator[Frame]:
        """One segment; ends early if nobody wants it any more."""
        schedule = self._schedule
        next_index = segment.start
        continuation: Seen = END
        for frame in decoder.frames(segment.start, segment.stop + 1):
            if complaint := complaint_of(decoder):
                schedule.distrust(segment, reason=complaint)
            if not schedule.is_wanted(segment):
                frame.release()
                return
            if frame.stamp.index == segment.start:
                schedule.note_start(segment, frame.stamp.pts)
            if frame.stamp.index == segment.stop:
                continuation = frame.stamp.pts
                frame.release()
                break
            next_index = frame.stamp.index + 1
            yield frame
        if complaint := complaint_of(decoder):
            schedule.distrust(segment, reason=complaint)
            return
        if next_index == segment.start:
            schedule.note_start(segment, END)
        schedule.note_continuation(segment, continuation, frame_count=next_index - segment.start)


def complaint_of(decoder: Decoder) -> str:
    """What a decoder has to say about its latest pass; empty if nothing."""
    return decoder.damage or "; ".join(decoder.notes)

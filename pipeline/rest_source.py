"""What is not done of a film, from one decoder that begins at the beginning: slow to start, and exact for any film."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from pipeline.decode.base import Decoder
from pipeline.frames import Frame
from pipeline.graph.channel import Aborted
from pipeline.graph.stop import StopToken
from pipeline.lanes import complaint_of
from pipeline.segments import CommittedSegment, is_segment_start


class RestSource:
    """What is not done yet of a film, from one decoder that reads it from the beginning.

    Slow to start, and exact whatever the film is like: what ``damage`` and ``notes`` say is about the whole film. What
    is done is compared with what the decoder gives; where the two differ, this ends.

    Args:
        open_decoder: Opens the decoder; called in the stage's thread, closed when the stage ends.
        segment_frames: Frames of every segment but the last.
        done: Segments whose frames are decoded and dropped.
        stop: Of the run: while frames are dropped nothing moves, which is no stall, and nobody else would notice that
            the run is to end.
    """

    name = "decode"

    def __init__(
        self,
        open_decoder: Callable[[], AbstractContextManager[Decoder]],
        *,
        segment_frames: int,
        done: Sequence[CommittedSegment] = (),
        stop: StopToken,
    ) -> None:
        self._open_decoder = open_decoder
        self._segment_frames = segment_frames
        self._done = {segment.index: segment for segment in done}
        self._stop = stop
        self._decoder: Decoder | None = None
        self._said = ""
        self._next_index = 0
        self.contradicted_index: int | None = None
        """After the run: the first segment done whose frames are not the film's; nothing behind it was given."""
        self.damage: str | None = None
        """After the run: what the decoder could not read, None if it read everything."""
        self.notes: tuple[str, ...] = ()
        """After the run: what the decoder repaired without losing a frame, one sentence each."""

    @property
    def complaint(self) -> str:
        """What the decoder has to say so far; empty if nothing. From any thread."""
        decoder = self._decoder
        return self._said if decoder is None else complaint_of(decoder)

    def run(self) -> Iterator[Frame]:
        """Yield the frames that are not done, then say in ``damage`` and ``notes`` what was lost and repaired."""
        with self._open_decoder() as decoder:
            self._decoder = decoder
            try:
                frames = decoder.frames()
                while (frame := self._next_to_give(frames)) is not None:
                    yield frame
                    del frame  # it has another owner now
                if self.contradicted_index is None:
                    self._check_end()
                self.damage, self.notes = decoder.damage, decoder.notes
            finally:
                self._said = complaint_of(decoder)
                self._decoder = None

    def _next_to_give(self, frames: Iterator[Frame]) -> Frame | None:
        """The next frame that is not done; None at the end of the film, and where what is done is contradicted.

        Raises:
            Aborted: The run was aborted meanwhile.
        """
        frame = next(frames, None)
        if frame is None or not self._is_done(frame):
            return frame
        aborts: list[None] = []
        with self._stop.expect_silence(), self._stop.on_abort(lambda: aborts.append(None)):
            while frame is not None and self._is_done(frame):
                if self._stop.is_stopping and is_segment_start(frame.stamp.index, segment_frames=self._segment_frames):
                    return frame  # which the runtime does not pass on: it stops the source here
                frame.release()
                if aborts:
                    raise Aborted("the run was aborted")
                if self.contradicted_index is not None:
                    return None
                frame = next(frames, None)
        return frame

    def _is_done(self, frame: Frame) -> bool:
        """Whether a frame belongs to a segment that is done; notes a segment that has another one in its place."""
        self._next_index = frame.stamp.index + 1
        segment = self._done.get(frame.stamp.index // self._segment_frames)
        if segment is None:
            return False
        place = frame.stamp.index - segment.start
        if place >= segment.frame_count or segment.pts[place] != frame.stamp.pts:
            self.contradicted_index = segment.index
        return True

    def _check_end(self) -> None:
        """The film must not end before what is done of it."""
        behind = (segment.index for segment in self._done.values() if segment.stop > self._next_index)
        self.contradicted_index = min(behind, default=None)

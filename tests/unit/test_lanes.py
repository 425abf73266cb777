"""Segments handed out to lanes, and whether the parts are what one decoder would have given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from pipeline.decode import open_decoder
from pipeline.decode.synthetic import SyntheticFilm, describe_film
from pipeline.frames import Frame, FrameStamp
from pipeline.graph.stop import StopToken
from pipeline.lanes import LaneSource, SegmentSchedule
from pipeline.rest_source import RestSource
from pipeline.segments import CommittedSegment

INFO = describe_film(SyntheticFilm(height=8, width=8, frame_count=10))


class FakeDecoder:
    """Frames without pictures; from frame ``lost`` on, who begins at 0 or before it sees one frame less."""

    info = INFO

    def __init__(self, count: int, *, lost: int | None = None, damage_at: int | None = None, note: str = "") -> None:
        self._count = count
        self._lost = lost
        self._damage_at = damage_at
        self._note = note
        self.damage: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        return (self._note,) if self._note else ()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        self.damage = None
        index = start
        for picture in range(start, self._count):
            if picture == self._lost:
                continue
            if index == stop:
                return
            if picture == self._damage_at:
                self.damage = f"picture {picture} is damaged"
            stamp = FrameStamp(index=index, pts=picture * 40, duration=40)
            plane = np.zeros((1, 1), np.uint8)
            yield Frame(stamp=stamp, format=INFO.video.format, height=1, width=1, planes=(plane, plane, plane))
            index += 1

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> FakeDecoder:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def run_lanes(
    *decoders: FakeDecoder,
    segment_frames: int,
    frame_count: int | None = None,
    done: Sequence[CommittedSegment] = (),
    pts: Sequence[int] | None = None,
) -> tuple[SegmentSchedule, list[list[int]]]:
    """Lanes in turn, a frame at a time; the indices that each gave."""
    schedule = SegmentSchedule(segment_frames=segment_frames, frame_count=frame_count, done=done, pts=pts)
    lanes = [iter(LaneSource(lambda d=decoder: d, schedule=schedule).run()) for decoder in decoders]  # type: ignore[misc]
    given: list[list[int]] = [[] for _ in lanes]
    running = set(range(len(lanes)))
    while running:
        for number in sorted(running):
            frame = next(lanes[number], None)
            if frame is None:
                running.discard(number)
            else:
                given[number].append(frame.stamp.index)
    return schedule, given


@pytest.mark.parametrize("lane_count", [1, 2, 3])
@pytest.mark.parametrize("frame_count", [0, 1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("is_known", [False, True])
def test_every_frame_is_given_once_and_the_end_is_found(lane_count: int, frame_count: int, is_known: bool) -> None:
    decoders = [FakeDecoder(frame_count) for _ in range(lane_count)]
    schedule, given = run_lanes(*decoders, segment_frames=4, frame_count=frame_count if is_known else None)
    assert sorted(index for lane in given for index in lane) == list(range(frame_count))
    assert all(lane == sorted(lane) for lane in given)
    review = schedule.review()
    assert (review.segment_count, review.frame_count, review.doubt) == (-(-frame_count // 4), frame_count, "")


def test_damage_ends_the_lanes_and_keeps_what_lies_before_it() -> None:
    schedule, given = run_lanes(FakeDecoder(40, damage_at=9), FakeDecoder(40, damage_at=9), segment_frames=4)
    review = schedule.review()
    assert review.segment_count == 2
    assert "picture 9 is damaged" in review.doubt
    assert set(range(8)) <= {index for lane in given for index in lane}
    assert sum(len(lane) for lane in given) < 20, "who is behind the damage gives up"


def test_a_repair_is_no_better_than_damage() -> None:
    schedule, _ = run_lanes(FakeDecoder(10, note="times made up"), segment_frames=4)
    assert schedule.review().segment_count == 0
    assert schedule.review().doubt == "times made up"


@pytest.mark.parametrize("lost", [4, 5, 6, 7])
def test_a_picture_lost_in_silence_shows_at_the_seam(lost: int) -> None:
    """Who begins behind it counts it; who comes from before does not."""
    schedule, _ = run_lanes(FakeDecoder(20, lost=lost), FakeDecoder(20, lost=lost), segment_frames=4)
    review = schedule.review()
    # at 4, the segment that begins there has lost its first frame, and the one before it agrees: nobody counted it
    assert review.segment_count == 2
    assert "frame 8 is not the same from both sides" in review.doubt


def test_a_film_longer_than_its_index_is_not_cut() -> None:
    schedule, _ = run_lanes(FakeDecoder(9), segment_frames=4, frame_count=8)
    assert schedule.review().segment_count == 2
    assert "behind frame 8" in schedule.review().doubt


def done_segment(index: int, *, frames: int = 4, first_pts: int | None = None, complaint: str = "") -> CommittedSegment:
    """A segment of four frames, as `FakeDecoder` gives them."""
    start = index * 4
    first = start * 40 if first_pts is None else first_pts
    return CommittedSegment(
        index=index,
        start=start,
        stop=start + frames,
        path=None,
        bytes=0,
        pts=tuple(first + 40 * place for place in range(frames)),
        last_duration=40,
        complaint=complaint,
    )


def run_rest(decoder: FakeDecoder, *done: CommittedSegment) -> tuple[RestSource, list[int]]:
    source = RestSource(lambda: decoder, segment_frames=4, done=done, stop=StopToken())  # type: ignore[arg-type, return-value]
    return source, [frame.stamp.index for frame in source.run()]


@pytest.mark.parametrize("done", [(), (0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_the_rest_is_what_is_not_done_numbered_from_the_films_beginning(done: tuple[int, ...]) -> None:
    segments = [done_segment(index, frames=2 if index == 2 else 4) for index in done]
    source, given = run_rest(FakeDecoder(10, damage_at=2), *segments)
    assert given == [index for index in range(10) if index // 4 not in done]
    assert source.damage == source.complaint == "picture 2 is damaged"
    assert source.contradicted_index is None


@pytest.mark.parametrize(
    ("wrong", "frame_count", "given"),
    [
        (done_segment(1, first_pts=200), 10, [0, 1, 2, 3]),
        (done_segment(1, frames=3), 10, [0, 1, 2, 3]),
        (done_segment(1), 6, [0, 1, 2, 3]),
        (done_segment(2, frames=2), 8, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=["other times", "the film goes on", "the film ends inside", "the film ends before"],
)
def test_what_the_film_does_not_have_is_found_and_nothing_behind_it_is_given(
    wrong: CommittedSegment, frame_count: int, given: list[int]
) -> None:
    source, found = run_rest(FakeDecoder(frame_count), wrong)
    assert found == given
    assert source.contradicted_index == wrong.index


@pytest.mark.parametrize("lane_count", [1, 2, 3])
@pytest.mark.parametrize("done", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("frame_count", [10, 12])
@pytest.mark.parametrize("has_index", [False, True])
def test_what_is_done_is_not_handed_out(
    lane_count: int, done: tuple[int, ...], frame_count: int, has_index: bool
) -> None:
    pts = list(range(0, frame_count * 40, 40)) if has_index else None
    segments = [done_segment(index, frames=min(4, frame_count - index * 4)) for index in done]
    schedule, given = run_lanes(
        *(FakeDecoder(frame_count) for _ in range(lane_count)),
        segment_frames=4,
        frame_count=frame_count if has_index else None,
        done=segments,
        pts=pts,
    )
    assert sorted(index for lane in given for index in lane) == [i for i in range(frame_count) if i // 4 not in done]
    review = schedule.review()
    assert (review.segment_count, review.frame_count, review.doubt) == (3, frame_count, "")


@pytest.mark.parametrize("done", [1, 2])
def test_a_seam_with_what_is_done_is_compared(done: int) -> None:
    pts = [index * 40 for index in range(12)]
    shifted = done_segment(done, first_pts=pts[done * 4] + 40)
    schedule, _ = run_lanes(FakeDecoder(12), segment_frames=4, frame_count=12, done=[shifted], pts=pts)
    review = schedule.review()
    assert review.segment_count == done
    assert f"frame {done * 4} is not the same from both sides" in review.doubt


def test_a_lane_reads_a_real_decoder() -> None:
    schedule = SegmentSchedule(segment_frames=3)
    source = LaneSource(lambda: open_decoder("synthetic", info=INFO), schedule=schedule)
    assert [frame.stamp.index for frame in source.run()] == list(range(10))
    assert schedule.review().segment_count == 4

"""A film whose segments are partly there already ends as one that was made in a single go."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import media
from helpers.film_runs import SEGMENT_FRAMES, Listener, contents, film_plan, upscale

from pipeline.errors import GraphFailed, OutputError
from pipeline.frames import Frame
from pipeline.graph.channel import Aborted
from pipeline.graph.stop import StopToken
from pipeline.rest_source import RestSource
from pipeline.run_terms import UpscaledFilm
from pipeline.segments import CommittedSegment


def damaged(path: Path) -> Path:
    """Forty frames in groups of five, with a hole in the middle of the file."""
    media.write_counter_video(path, frames=40, keyframe_interval=5, codec="mpeg4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    return path


FILMS: dict[str, Callable[[Path], Path]] = {
    "b-frames": lambda path: media.write_counter_video(path, frames=29, b_frames=2, keyframe_interval=7),
    "whole segments": lambda path: media.write_counter_video(path, frames=24, keyframe_interval=4),
    "no index": lambda path: media.write_without_timestamps(path.with_suffix(".avi"), frames=29, b_frames=2),
    "damaged": damaged,
}


@pytest.fixture(scope="module", params=FILMS)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, UpscaledFilm]:
    """A film, and what one lane makes of it from its beginning."""
    folder = tmp_path_factory.mktemp("undisturbed")
    film = FILMS[request.param](folder / "film.mkv")
    made, _ = upscale(film_plan(folder, film), Listener().terms(folder / "work"))
    return film, made


def copied(segments: tuple[CommittedSegment, ...], work: Path) -> tuple[CommittedSegment, ...]:
    """The same segments as files of another folder."""
    work.mkdir()
    return tuple(replace(segment, path=Path(shutil.copy(str(segment.path), work))) for segment in segments)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("places", [(0,), (0, 1), (1,), (2,), (0, 2), (1, 3), (0, 1, 2, 3)], ids=str)
def test_segments_that_are_done_are_kept_and_the_film_is_the_same(
    tmp_path: Path, undisturbed: tuple[Path, UpscaledFilm], lanes: int, places: tuple[int, ...]
) -> None:
    film, whole = undisturbed
    done = copied(tuple(whole.segments[place] for place in places if place < len(whole.segments)), tmp_path / "work")
    times = {segment.path: segment.path.stat().st_mtime_ns for segment in done if segment.path is not None}
    listener = Listener()
    made, found = upscale(film_plan(tmp_path, film, lanes=lanes), listener.terms(tmp_path / "work"), done=done[::-1])
    assert found == contents(whole)
    assert made.is_complete
    assert [(s.index, s.start, s.stop, s.pts) for s in made.segments] == [
        (s.index, s.start, s.stop, s.pts) for s in whole.segments
    ]
    assert (made.damage, made.frame_count) == (whole.damage, whole.frame_count)
    assert set(whole.notes) <= set(made.notes)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {segment.index for segment in listener.committed}.isdisjoint(segment.index for segment in done)
    assert listener.discarded == []
    graph, done_before = listener.figures[-1]
    assert done_before + graph.stages[-1].items_in == whole.frame_count


def test_decoding_begins_at_the_first_segment_that_is_missing(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=80, keyframe_interval=8)
    plan = film_plan(tmp_path, film)
    whole, _ = upscale(plan, Listener().terms(tmp_path / "whole"))
    listener = Listener()
    made, _ = upscale(plan, listener.terms(tmp_path / "work"), done=whole.segments[:9])
    assert made.frame_count == 80
    assert listener.figures[-1][0].stages[0].items_out == 8
    assert listener.figures[-1][1] == 72


def test_segments_that_are_not_the_films_are_made_again(tmp_path: Path) -> None:
    """Here: of a film with other times. Whoever keeps a journal hears of it."""
    film = media.write_counter_video(tmp_path / "film.mkv", frames=29, keyframe_interval=7)
    plan = film_plan(tmp_path, film)
    whole, wanted = upscale(plan, Listener().terms(tmp_path / "whole"))
    good, bad = copied(whole.segments[:2], tmp_path / "work")
    wrong = replace(bad, pts=tuple(pts + 1 for pts in bad.pts))
    listener = Listener()
    made, found = upscale(plan, listener.terms(tmp_path / "work"), done=(good, wrong))
    assert found == wanted
    assert [segment.index for segment in listener.discarded] == [1]
    assert [segment.index for segment in listener.committed] == [1, 2, 3]
    assert made.segments[0] == good


def test_segments_of_a_film_that_grew_are_not_taken_for_its_end(tmp_path: Path) -> None:
    short = media.write_counter_video(tmp_path / "short.mkv", frames=20, keyframe_interval=4)
    film = media.write_counter_video(tmp_path / "film.mkv", frames=29, keyframe_interval=4)
    done, _ = upscale(film_plan(tmp_path, short), Listener().terms(tmp_path / "short"))
    listener = Listener()
    made, _ = upscale(film_plan(tmp_path, film), listener.terms(tmp_path / "work"), done=done.segments)
    assert made.frame_count == 29
    assert [segment.index for segment in listener.discarded] == [2]


def test_what_a_complaining_decoder_made_is_compared_frame_by_frame(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=29, keyframe_interval=7)
    plan = film_plan(tmp_path, film, lanes=2)
    whole, wanted = upscale(plan, Listener().terms(tmp_path / "whole"))
    done = replace(whole.segments[2], complaint="a packet is damaged")
    listener = Listener()
    made, found = upscale(plan, listener.terms(tmp_path / "work"), done=(done,))
    assert found == wanted
    assert made.notes == ("one lane instead of 2: a packet is damaged",)
    assert listener.figures[-1][0].stages[0].items_out == 21


def test_segments_say_what_their_decoder_had_lost_by_then(tmp_path: Path) -> None:
    """The loss is in frame 18; the decoder may be ahead of what is written."""
    listener = Listener()
    film = damaged(tmp_path / "film.mkv")
    made, _ = upscale(film_plan(tmp_path, film), listener.terms(tmp_path / "work"))
    assert made.damage is not None
    assert all(segment.complaint for segment in made.segments[2:])
    assert made.segments[-1].complaint.startswith(made.damage)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_stop_leaves_whole_segments_and_the_rest_can_follow(tmp_path: Path, lanes: int) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=165, keyframe_interval=4)
    plan = film_plan(tmp_path, film, lanes=lanes)
    _, wanted = upscale(plan, Listener().terms(tmp_path / "whole"))
    stop, listener = StopToken(), Listener()
    terms = listener.terms(tmp_path / "work", stop)

    def commit(segment: CommittedSegment) -> None:
        stop.stop()
        listener.committed.append(segment)

    stopped, _ = upscale(plan, replace(terms, on_committed=commit))
    assert not stopped.is_complete
    assert 0 < len(stopped.segments) < 165 // SEGMENT_FRAMES
    assert all(segment.frame_count == SEGMENT_FRAMES for segment in stopped.segments)
    made, found = upscale(plan, Listener().terms(tmp_path / "work"), done=stopped.segments)
    assert made.is_complete
    assert found == wanted


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_a_failed_run_has_committed_can_be_gone_on_with(tmp_path: Path, lanes: int) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=45, keyframe_interval=4)
    plan = film_plan(tmp_path, film, lanes=lanes)
    _, wanted = upscale(plan, Listener().terms(tmp_path / "whole"))
    listener = Listener()
    terms = listener.terms(tmp_path / "work")

    def commit(segment: CommittedSegment) -> None:
        if len(listener.committed) == 2:
            raise OutputError("the disk is full", path=tmp_path)
        listener.committed.append(segment)

    with pytest.raises(GraphFailed):
        upscale(plan, replace(terms, on_committed=commit))
    made, found = upscale(plan, Listener().terms(tmp_path / "work"), done=tuple(listener.committed))
    assert made.is_complete
    assert found == wanted


def test_segments_that_do_not_fit_the_plan_are_refused(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=9)
    plan = film_plan(tmp_path, film)
    whole, _ = upscale(plan, Listener().terms(tmp_path / "work"))
    first = whole.segments[0]
    for done in ((first, first), (replace(first, start=1),), (replace(first, stop=9, pts=(*first.pts, 9)),)):
        with pytest.raises(ValueError, match="segment 0"):
            upscale(plan, Listener().terms(tmp_path / "work"), done=done)


def test_gaps_of_every_kind_in_a_computed_film(tmp_path: Path) -> None:
    from pipeline.config.load import make_config
    from pipeline.plan import plan_film, probe_film

    for frame_count, lanes in itertools.product((20, 24), (1, 2)):
        config = make_config(
            {
                "decode": {"kind": "synthetic", "synthetic": {"height": 16, "width": 16, "frame_count": frame_count}},
                "infer": {"model": "nearest-x2", "backend": "resize"},
                "encode": {"kind": "null"},
                "output": {"segment_s": 0.3},
                "run": {"lanes": lanes},
            },
            folder=tmp_path,
        )
        plan = plan_film(config, probe_film(config, None))
        whole, _ = upscale(plan, Listener().terms(tmp_path / "work"))
        for count in range(1, 4):
            for done in itertools.combinations(whole.segments, count):
                listener = Listener()
                made, _ = upscale(plan, listener.terms(tmp_path / "work"), done=done)
                assert made.segments == whole.segments
                assert len(listener.committed) == 3 - count


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_a_run_that_is_only_dropping_frames_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What is done is decoded again from a film without an index; that can take long, and nothing else moves."""
    film = media.write_without_timestamps(tmp_path / "film.avi", frames=45, b_frames=2)
    plan = film_plan(tmp_path, film)
    whole, _ = upscale(plan, Listener().terms(tmp_path / "whole"))
    stop = StopToken()
    real, seen = RestSource._is_done, []

    def is_done(source: RestSource, frame: Frame) -> bool:
        seen.append(frame.stamp.index)
        if frame.stamp.index == 9:
            getattr(stop, how)()
            time.sleep(0.2)  # the supervisor hears of an abort meanwhile
        return real(source, frame)

    monkeypatch.setattr(RestSource, "_is_done", is_done)
    done = whole.segments[:5]
    terms = Listener().terms(tmp_path / "work", stop)
    if how == "abort":
        with pytest.raises(Aborted):
            upscale(plan, terms, done=done)
    else:
        made, _ = upscale(plan, terms, done=done)
        assert made.segments == done
        assert not made.is_complete
    assert max(seen) <= 16

"""A real film that goes on from its journal, in one lane or several, is the film that nobody disturbed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import media
from helpers.film_runs import Listener, contents, film_plan, upscale
from helpers.journals import journal_path

from pipeline.errors import ResumeRefused
from pipeline.journal import Resume, RunKey, SegmentDropped, find_done
from pipeline.plan import JobPlan
from pipeline.run_terms import UpscaledFilm


def make(plan: JobPlan, work: Path, listener: Listener) -> tuple[UpscaledFilm, object, Resume]:
    """One attempt, as a job makes it: find out, go on, journal."""
    work.mkdir(exist_ok=True)
    resume = find_done(work, RunKey.of(plan))
    terms = replace(
        listener.terms(work),
        on_committed=resume.journal.commit,
        on_discarded=lambda segment: resume.journal.append(
            SegmentDropped(index=segment.index, reason="the lanes disagree")
        ),
    )
    film, found = upscale(plan, terms, done=resume.done)
    return film, found, resume


@pytest.mark.parametrize("lanes", [1, 2])
def test_cut_anywhere_between_two_lines_the_film_is_the_same(tmp_path: Path, lanes: int) -> None:
    source = media.write_counter_video(tmp_path / "film.mkv", frames=29, b_frames=2, keyframe_interval=7)
    plan = film_plan(tmp_path, source, lanes=lanes)
    whole, expected, first = make(plan, tmp_path / "whole", Listener())
    assert first.done == ()
    lines = journal_path(tmp_path / "whole").read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 + len(whole.segments)
    for count in range(len(whole.segments) + 1):
        work = tmp_path / f"cut {count}"
        shutil.copytree(tmp_path / "whole", work)
        journal_path(work).write_bytes(b"".join(lines[: 2 + count]))
        film, found, resume = make(plan, work, Listener())
        assert len(resume.done) == count
        assert found == expected == contents(whole)
        assert [replace(one, path=None) for one in film.segments] == [replace(one, path=None) for one in whole.segments]
        _, _, again = make(plan, work, Listener())
        assert len(again.done) == len(whole.segments)


def test_a_film_that_was_replaced_meanwhile_is_refused(tmp_path: Path) -> None:
    source = media.write_counter_video(tmp_path / "film.mkv", frames=12, keyframe_interval=4)
    plan = film_plan(tmp_path, source)
    make(plan, tmp_path / "work", Listener())
    source.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(ResumeRefused, match=r"source\.size_bytes"):
        find_done(tmp_path / "work", RunKey.of(plan))

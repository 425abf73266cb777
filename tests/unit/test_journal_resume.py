"""Going on: the journal counts as far as the disk agrees, the rest is made again, and nothing else is touched."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.children import run_python
from helpers.journals import (
    PLAN,
    SETTINGS,
    SOURCE,
    begin,
    check_segment_whole,
    done_indices,
    go_on,
    journal_path,
    make_segment,
    sample_key,
)

from pipeline.errors import OutputError, ResumeRefused
from pipeline.graph.channel import Aborted
from pipeline.journal import (
    AttemptBegun,
    DemandLowered,
    FileIdentity,
    ResultVerified,
    SegmentDropped,
    read_journal,
)


def test_a_new_film_begins_with_nothing_done(tmp_path: Path) -> None:
    (tmp_path / "seg-00000.mp4").write_bytes(b"of a run without a journal")
    resume = go_on(tmp_path)
    assert (resume.done, resume.attempts, resume.notes, dict(resume.pinned)) == ((), 0, (), {})
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
    assert read_journal(journal_path(tmp_path)).key == sample_key()


def test_what_was_committed_is_done_and_comes_in_film_order(tmp_path: Path) -> None:
    begin(tmp_path, 3, 0, 5, 1)
    resume = go_on(tmp_path)
    assert [segment.index for segment in resume.done] == [0, 1, 3, 5]
    for segment in resume.done:
        check_segment_whole(segment)
    assert resume.frames_done == 40
    assert resume.attempts == 1
    assert go_on(tmp_path).attempts == 2


def test_a_moved_work_folder_is_gone_on_with(tmp_path: Path) -> None:
    begin(tmp_path / "old", 0, 1)
    (tmp_path / "old").rename(tmp_path / "new")
    assert done_indices(tmp_path / "new") == [0, 1]


def remove(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def rot(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_link(path: Path) -> None:
    kept = path.parent.parent / "elsewhere"
    shutil.move(path, kept)
    path.symlink_to(kept)


def become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_another(path: Path) -> None:
    shutil.copy(path.with_name("seg-00002.mp4"), path)


@pytest.mark.parametrize(
    "harm", [remove, shorten, lengthen, rot, empty, become_folder, become_link, become_pipe, become_another]
)
def test_a_segment_that_the_disk_does_not_confirm_is_made_again(tmp_path: Path, caplog, harm) -> None:
    """Whatever happened to its file: it is not done, its remains are gone, and the film can be completed."""
    work = tmp_path / "work"
    begin(work, 0, 1, 2)
    harm(work / "seg-00001.mp4")
    with caplog.at_level(logging.WARNING):
        resume = go_on(work)
    assert [segment.index for segment in resume.done] == [0, 2]
    assert any("segment 1 is made again" in note for note in resume.notes)
    assert "segment 1 is made again" in caplog.text
    assert sorted(path.name for path in work.iterdir()) == ["journal.jsonl", "seg-00000.mp4", "seg-00002.mp4"]
    resume.journal.commit(make_segment(work, 1))
    assert done_indices(work) == [0, 1, 2]


def test_leftovers_go_and_what_belongs_to_the_folder_stays(tmp_path: Path) -> None:
    begin(tmp_path, 0)
    for name in ["seg-00001.mp4", "seg-00001.mp4.part", "result.mkv", ".journal.jsonl.7.part", "holder.json"]:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "result.png").mkdir()
    (tmp_path / "result.png" / "0.png").write_bytes(b"x")
    (tmp_path / "replaced").mkdir()
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "film").write_bytes(b"x")
    (tmp_path / "link").symlink_to(outside)
    assert done_indices(tmp_path) == [0]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["holder.json", "journal.jsonl", "replaced", "seg-00000.mp4"]
    assert (outside / "film").exists()


KEY_CHANGES = {
    "source.size_bytes": {"source": replace(SOURCE, size_bytes=7)},
    "source.mtime_ns": {"source": replace(SOURCE, mtime_ns=7)},
    "source.sha256_ends": {"source": replace(SOURCE, sha256_ends="7")},
    "encode.preset": {"settings": {**SETTINGS, "encode.preset": "slow"}, "config_digest": "7"},
    "plan.infer.backend": {"plan": {**PLAN, "infer.backend": "torch"}},
    "plan.model.files": {"plan": {**PLAN, "model.files": ["7"]}},
    "plan.segment.frames": {"plan": {**PLAN, "segment.frames": 7}},
    "config_digest": {"config_digest": "7"},
}


@pytest.mark.parametrize("name", KEY_CHANGES)
def test_another_key_refuses_names_it_and_touches_nothing(tmp_path: Path, name: str) -> None:
    begin(tmp_path, 0, 1)
    (tmp_path / "seg-00002.mp4.part").write_bytes(b"half")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ResumeRefused) as caught:
        go_on(tmp_path, key=sample_key(**KEY_CHANGES[name]))
    assert f"{name}: " in str(caught.value) and " before, " in str(caught.value)
    assert [one.name for one in caught.value.differences] == [name]
    assert "--restart" in caught.value.hint
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert done_indices(tmp_path) == [0, 1]


def test_every_difference_is_in_the_message(tmp_path: Path) -> None:
    begin(tmp_path, 0)
    changed = sample_key(source=None, settings={**SETTINGS, "encode.preset": "slow"})
    with pytest.raises(ResumeRefused) as caught:
        go_on(tmp_path, key=changed)
    for name in ("encode.preset: fast before, slow now", "source.size_bytes", "source.mtime_ns", "source.sha256_ends"):
        assert name in str(caught.value)


def test_a_changed_machine_is_noted_and_the_first_plan_is_pinned(tmp_path: Path) -> None:
    """Another device, host, number of lanes and free memory: it goes on, with the first attempt's tiles and threads."""
    begin(tmp_path, 0)
    changes = {"infer.device": "a GPU", "machine.host": "there", "tile.height": 90, "encode.threads": 12}
    now = sample_key(plan={**PLAN, **changes}, settings={**SETTINGS, "run.lanes": 3}, config_digest="7")
    resume = go_on(tmp_path, key=now)
    assert [segment.index for segment in resume.done] == [0]
    assert resume.notes == (
        "plan.infer.device: a CPU before, a GPU now",
        "plan.machine.host: here before, there now",
        "run.lanes: auto before, 3 now",
    )
    assert dict(resume.pinned) == {
        "tile.height": 180,
        "tile.width": 320,
        "tile.overlap_px": 16,
        "infer.batch_tiles": 1,
        "encode.threads": 4,
    }
    attempts = [one for one in read_journal(journal_path(tmp_path)).records if isinstance(one, AttemptBegun)]
    assert attempts[-1].notes == resume.notes
    assert read_journal(journal_path(tmp_path)).key == sample_key()  # the first attempt's stays what counts


def test_a_lowered_demand_is_what_later_attempts_begin_with(tmp_path: Path) -> None:
    journal = begin(tmp_path, 0)
    for height in (120, 60):
        journal.append(
            DemandLowered(from_segment=1, tile_height=height, tile_width=80, batch_tiles=2, lanes=1, reason="no room")
        )
    pinned = go_on(tmp_path).pinned
    assert (pinned["tile.height"], pinned["tile.width"], pinned["infer.batch_tiles"]) == (60, 80, 2)
    assert pinned["encode.threads"] == 4


def test_a_dropped_segment_is_not_done_until_it_is_committed_again(tmp_path: Path) -> None:
    journal = begin(tmp_path, 0, 1)
    journal.append(SegmentDropped(index=1, reason="the lanes disagree"))
    resume = go_on(tmp_path)
    assert [segment.index for segment in resume.done] == [0]
    assert not (tmp_path / "seg-00001.mp4").exists()
    resume.journal.commit(make_segment(tmp_path, 1))
    assert done_indices(tmp_path) == [0, 1]


def test_of_two_lines_about_a_segment_the_later_one_counts(tmp_path: Path) -> None:
    journal = begin(tmp_path, 0)
    again = make_segment(tmp_path, 0)
    again.path.write_bytes(b"made again")
    journal.commit(replace(again, bytes=10))
    (segment,) = go_on(tmp_path).done
    assert segment.bytes == 10


def test_a_short_segment_counts_at_the_end_only(tmp_path: Path) -> None:
    journal = begin(tmp_path, 0)
    journal.commit(make_segment(tmp_path, 1, frame_count=4))
    assert done_indices(tmp_path) == [0, 1]
    go_on(tmp_path).journal.commit(make_segment(tmp_path, 2))
    resume = go_on(tmp_path)
    assert [segment.index for segment in resume.done] == [0, 2]
    assert any("4 of 10 frames" in note for note in resume.notes)


def test_a_segment_of_another_length_does_not_count(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    segment = make_segment(tmp_path, 1)
    journal.commit(replace(segment, start=5, stop=15))
    assert go_on(tmp_path).done == ()


def test_a_result_that_got_its_name_is_known_again(tmp_path: Path) -> None:
    """Killed between the last two steps: the output is ours only if it is the file that was verified."""
    work, output = tmp_path / "work", tmp_path / "film.mkv"
    journal = begin(work, 0)
    assert not go_on(work).is_finished(output)
    journal = go_on(work).journal
    result = work / "result.mkv"
    result.write_bytes(b"the film")
    journal.append(ResultVerified(identity=FileIdentity.of(result), frames=10))
    shutil.copy2(result, tmp_path / "copy")
    result.rename(output)
    resume = go_on(work)
    assert resume.is_finished(output)
    assert resume.result is not None and resume.result.frames == 10
    output.write_bytes(b"another!")
    assert not resume.is_finished(output)
    output.unlink()
    assert not resume.is_finished(output)


def test_checking_says_how_far_it_is_and_can_be_ended(tmp_path: Path) -> None:
    from pipeline.journal import find_done

    begin(tmp_path, 0, 1, 2)
    calls: list[tuple[int, int]] = []
    find_done(tmp_path, sample_key(), report=lambda checked, total: calls.append((checked, total)))
    assert len(calls) == 3
    assert calls[-1][0] == calls[-1][1] == sum((tmp_path / f"seg-0000{n}.mp4").stat().st_size for n in range(3))

    def stop(checked: int, total: int) -> None:
        raise Aborted

    with pytest.raises(Aborted):
        find_done(tmp_path, sample_key(), report=stop)
    assert done_indices(tmp_path) == [0, 1, 2]


READ_ONLY = """
import os
from pathlib import Path
from helpers.journals import begin, go_on, make_segment
from pipeline.errors import OutputError
from pipeline.journal import read_journal
work = Path(sys.argv[1])
for ancestor in [work.parent, *work.parents][:3]:
    ancestor.chmod(0o755)
journal = begin(work, 0)
segment = make_segment(work, 1)
(work / "journal.jsonl").chmod(0o444)
work.chmod(0o555)
if os.geteuid() == 0:
    os.setuid(65534)
for act in (lambda: journal.commit(segment), lambda: go_on(work)):
    try:
        act()
    except OutputError as exc:
        print(exc)
assert len(read_journal(work / "journal.jsonl").records) == 2
"""


def test_a_folder_that_may_only_be_read_is_one_clear_error(tmp_path: Path) -> None:
    import tempfile

    base = Path(tempfile.mkdtemp(prefix="journal-"))  # pytest's own folders may be entered by their owner only
    try:
        result = run_python(READ_ONLY, str(base / "work"))
        assert result.returncode == 0, result.stderr
    finally:
        (base / "work").chmod(0o755)
        shutil.rmtree(base)
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all("Permission denied" in line and "journal" in line for line in lines)


def test_a_journal_that_cannot_be_begun_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        go_on(tmp_path / "missing")

"""A journal is trusted exactly as far as it is what was written, and grows by whole lines that are on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest
from helpers.journals import begin, done_indices, go_on, journal_path, make_segment, sample_key
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import OutputError, ResumeRefused
from pipeline.journal import (
    AttemptBegun,
    DemandLowered,
    FileIdentity,
    Journal,
    ResultVerified,
    SegmentCommitted,
    SegmentDropped,
    read_journal,
)
from pipeline.journal.lines import open_line, seal_line
from pipeline.journal.records import pack_times, unpack_times

RECORDS = [
    SegmentCommitted(
        index=1,
        start=10,
        stop=13,
        name="seg-00001.mp4",
        bytes=7,
        sha256="00" * 32,
        pts=(-5, 0, 2**40),
        last_duration=3,
        seconds=1.25,
    ),
    SegmentDropped(index=1, reason="the lanes disagree"),
    AttemptBegun(at="2026-01-01T00:00:00+00:00", host="a host", pid=7, notes=("ünï", "\udcff")),
    DemandLowered(from_segment=1, tile_height=128, tile_width=64, batch_tiles=2, lanes=1, reason="no memory"),
    ResultVerified(identity=FileIdentity(size_bytes=1, mtime_ns=2, sha256_ends="ab"), frames=13),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_comes_back_as_it_was(tmp_path: Path, record) -> None:
    path = tmp_path / "journal.jsonl"
    Journal.create(path, sample_key()).append(record)
    content = read_journal(path)
    assert content.records == (record,)
    assert content.key == sample_key()
    assert not content.damage


def test_every_line_is_json_that_people_and_tools_can_read(tmp_path: Path) -> None:
    begin(tmp_path, 0, 1)
    lines = [json.loads(line) for line in journal_path(tmp_path).read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["begin", "attempt", "segment", "segment"]
    assert lines[0]["version"] == 1
    segment = lines[2]
    assert segment["frames"] == 10 and segment["name"] == "seg-00000.mp4" and len(segment["sha256"]) == 64


@given(st.lists(st.integers(-(2**62), 2**62)))
def test_times_are_packed_without_loss(times: list[int]) -> None:
    assert unpack_times(json.loads(json.dumps(pack_times(times)))) == tuple(times)


def test_a_minute_of_constant_rate_is_two_entries() -> None:
    assert pack_times(range(100, 100 + 3600 * 256, 256)) == [100, [256, 3599]]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_line_are_no_line(line: bytes) -> None:
    assert open_line(line, previous="") is None


def test_a_line_holds_in_its_place_only() -> None:
    line, check = seal_line({"kind": "x"}, previous="")
    assert open_line(line.rstrip(b"\n"), previous="") == ({"kind": "x"}, check)
    assert open_line(line.rstrip(b"\n"), previous=check) is None


def test_a_journal_cut_at_any_byte_gives_the_segments_before_the_cut(tmp_path: Path) -> None:
    """Cut at every byte offset: what counts is a prefix of what was committed, and no segment is a wrong one."""
    work = tmp_path / "work"
    begin(work, 0, 1, 2)
    whole = journal_path(work).read_bytes()
    ends = [offset + 1 for offset, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        journal_path(work).write_bytes(whole[:length])
        content = read_journal(journal_path(work))
        lines = sum(end <= length for end in ends)
        assert not content.damage
        assert content.trusted_bytes == max([0, *(end for end in ends if end <= length)])
        segments = [record.index for record in content.records if isinstance(record, SegmentCommitted)]
        assert segments == list(range(max(0, lines - 2)))


@pytest.mark.parametrize("at", ["first", "second", "last"])
def test_a_run_goes_on_from_a_journal_that_was_cut(tmp_path: Path, at: str) -> None:
    """Cut within each kind of line: the next attempt finds what was before it, writes on, and the one after it too."""
    work = tmp_path / "work"
    begin(work, 0, 1, 2)
    lines = journal_path(work).read_bytes().splitlines(keepends=True)
    keep = {"first": 0, "second": 2, "last": 4}[at]
    journal_path(work).write_bytes(b"".join(lines[:keep]) + lines[keep][:-7])
    resume = go_on(work)
    found = [segment.index for segment in resume.done]
    assert found == list(range(max(0, keep - 2)))
    for index in range(len(found), 4):
        resume.journal.commit(make_segment(work, index))
    assert done_indices(work) == [0, 1, 2, 3]


def test_any_byte_that_rots_costs_its_line_and_what_follows(tmp_path: Path) -> None:
    """Flip every byte in turn: nothing from its line on counts, everything before it does."""
    work = tmp_path / "work"
    begin(work, 0, 1)
    path = journal_path(work)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ (1 << offset % 8)]) + whole[offset + 1 :])
        content = read_journal(path)
        line = whole[:offset].count(b"\n")
        assert (content.key is None) == (line == 0)
        assert len(content.records) == max(0, line - 1)


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4))
def test_lines_out_of_place_count_for_nothing(order: list[int], doubled: list[int]) -> None:
    """Reorder and repeat lines: what counts is the longest beginning that is in its place."""
    lines, check = [], ""
    for number in range(6):
        line, check = seal_line({"kind": "x", "number": number}, previous=check)
        lines.append(line.rstrip(b"\n"))
    shuffled = [lines[number] for number in [*order, *doubled]]
    previous, read = "", []
    for line in shuffled:
        opened = open_line(line, previous=previous)
        if opened is None:
            break
        read.append(opened[0]["number"])
        previous = opened[1]
    assert read == list(range(len(read)))


def test_reordered_and_doubled_lines_of_a_journal_are_damage(tmp_path: Path) -> None:
    work = tmp_path / "work"
    begin(work, 0, 1, 2)
    lines = journal_path(work).read_bytes().splitlines(keepends=True)
    for changed, count in [
        ([0, 1, 3, 2, 4], 1),
        ([0, 1, 2, 2, 3, 4], 2),
        ([0, 1, 2, 4], 2),
        ([1, 0, 2, 3, 4], 0),
        ([0, 2, 3, 4], 0),
    ]:
        journal_path(work).write_bytes(b"".join(lines[number] for number in changed))
        content = read_journal(journal_path(work))
        assert len(content.records) == count
        assert "damaged" in content.damage


def test_damage_in_the_middle_is_said_and_cut_off_before_the_next_line(tmp_path: Path, caplog) -> None:
    work = tmp_path / "work"
    begin(work, 0, 1, 2)
    lines = journal_path(work).read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"index":1', b'"index":7')
    journal_path(work).write_bytes(b"".join(lines))
    resume = go_on(work)
    assert [segment.index for segment in resume.done] == [0]
    assert "line 4 of 5 is damaged" in caplog.text
    assert any("line 4" in note for note in resume.notes)
    assert not (work / "seg-00001.mp4").exists()
    resume.journal.commit(make_segment(work, 1))
    assert done_indices(work) == [0, 1]


def test_lanes_may_commit_at_once_and_in_any_order(tmp_path: Path) -> None:
    """Eight threads, each with segments of its own: every line is whole and counts."""
    work = tmp_path / "work"
    journal = begin(work)
    errors: list[Exception] = []

    def lane(first: int) -> None:
        try:
            for index in range(first, 64, 8):
                journal.commit(make_segment(work, index))
        except (OutputError, OSError, ValueError) as exc:
            errors.append(exc)

    lanes = [threading.Thread(target=lane, args=(first,)) for first in range(8)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    assert not errors
    assert done_indices(work) == list(range(64))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_or_failing_disk_is_one_clear_error_and_leaves_the_journal_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Half a line goes to disk before it is full: it is gone again, and the next line can be written."""
    work = tmp_path / "work"
    journal = begin(work, 0)
    before = journal_path(work).read_bytes()
    segment = make_segment(work, 1)
    write, fsync, calls = os.write, os.fsync, []

    def full_write(descriptor: int, content: bytes) -> int:
        calls.append("write")
        if len(calls) == 1:
            return write(descriptor, bytes(content)[: len(content) // 2])
        raise OSError(number, os.strerror(number))

    def failing_fsync(descriptor: int) -> None:
        calls.append("fsync")
        if len(calls) == 1:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full_write if call == "write" else failing_fsync)
        with pytest.raises(OutputError, match="cannot write") as caught:
            journal.commit(segment)
    assert os.strerror(number) in str(caught.value)
    assert caught.value.hint
    assert len(calls) > 1
    assert journal_path(work).read_bytes() == before
    journal.commit(segment)
    assert done_indices(work) == [0, 1]


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    journal = begin(work)
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content)[:5]))
        journal.commit(make_segment(work, 0))
    assert done_indices(work) == [0]


def test_a_journal_that_somebody_else_changed_is_not_written_on(tmp_path: Path) -> None:
    work = tmp_path / "work"
    journal = begin(work, 0)
    with journal_path(work).open("ab") as file:
        file.write(b"hello\n")
    with pytest.raises(OutputError, match="another program changed it"):
        journal.commit(make_segment(work, 1))
    assert done_indices(work) == [0]


def test_a_journal_that_is_gone_is_an_error_not_a_new_journal(tmp_path: Path) -> None:
    work = tmp_path / "work"
    journal = begin(work, 0)
    journal_path(work).unlink()
    with pytest.raises(OutputError, match=r"journal\.jsonl"):
        journal.commit(make_segment(work, 1))
    assert not journal_path(work).exists()


def test_a_segment_that_is_not_what_was_written_is_not_journaled(tmp_path: Path) -> None:
    work = tmp_path / "work"
    journal = begin(work)
    segment = make_segment(work, 0)
    segment.path.write_bytes(b"short")
    with pytest.raises(OutputError, match="5 bytes"):
        journal.commit(segment)
    segment.path.unlink()
    with pytest.raises(OutputError, match="cannot read"):
        journal.commit(segment)
    assert done_indices(work) == []


def test_another_format_is_refused_with_the_remedy(tmp_path: Path) -> None:
    line, _ = seal_line({"kind": "begin", "version": 2, "key": {}}, previous="")
    journal_path(tmp_path).write_bytes(line)
    with pytest.raises(ResumeRefused, match="format 2") as caught:
        go_on(tmp_path)
    assert "--restart" in caught.value.hint
    assert journal_path(tmp_path).read_bytes() == line


@pytest.mark.parametrize("values", [{"kind": "unheard"}, {"kind": "segment"}, {"kind": ["x"]}, {"nothing": 1}])
def test_a_line_that_cannot_be_understood_ends_what_counts(tmp_path: Path, values) -> None:
    work = tmp_path / "work"
    begin(work, 0)
    line, _ = seal_line(values, previous=read_journal(journal_path(work)).check)
    with journal_path(work).open("ab") as file:
        file.write(line)
    content = read_journal(journal_path(work))
    assert "cannot be understood" in content.damage
    assert done_indices(work) == [0]


def test_a_journal_that_cannot_be_read_is_an_output_error(tmp_path: Path) -> None:
    journal_path(tmp_path).mkdir()
    with pytest.raises(OutputError, match="cannot read"):
        read_journal(journal_path(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"index": -1},
        {"start": 13},
        {"pts": (1, 2)},
        {"pts": (1, 1, 2)},
        {"name": "../film.mkv"},
        {"name": "seg-1.mp4"},
    ],
)
def test_a_segment_that_cannot_be_is_refused(changes) -> None:
    values = {**{name: getattr(RECORDS[0], name) for name in RECORDS[0].__slots__}, **changes}
    with pytest.raises(ValueError):
        SegmentCommitted(**values)


def test_a_line_whose_check_is_right_but_which_is_no_json_is_no_line() -> None:
    text = b'{"kind":nonsense}'
    check = hashlib.sha256(b"\n" + text).hexdigest()[:16].encode()
    assert open_line(b'{"check":"%s",%s' % (check, text[1:]), previous="") is None


@pytest.mark.parametrize(
    "values", [{"kind": "segment", "version": 1}, {"kind": "begin"}, {"kind": "begin", "version": 1}]
)
def test_a_journal_that_begins_with_something_else_counts_for_nothing(tmp_path: Path, values, caplog) -> None:
    line, _ = seal_line(values, previous="")
    journal_path(tmp_path).write_bytes(line)
    resume = go_on(tmp_path)
    assert resume.done == ()
    assert "cannot be understood" in caplog.text
    assert any("cannot be understood" in note for note in resume.notes)


def test_a_journal_that_cannot_be_begun_or_reopened_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    work = tmp_path / "work"
    work.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("engines.atomic._write_unnamed", full)
        with pytest.raises(OutputError, match="No space left"):
            go_on(work)
    assert list(work.iterdir()) == []
    begin(work, 0)
    with journal_path(work).open("ab") as file:
        file.write(b"torn")
    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", full)
        with pytest.raises(OutputError, match="No space left"):
            go_on(work)
    assert done_indices(work) == [0]


def test_a_torn_line_that_cannot_be_taken_back_stops_the_journal_and_costs_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails altogether, halfway through a line: no line is written behind the torn one."""
    work = tmp_path / "work"
    journal = begin(work, 0)
    write = os.write

    def failing(*arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content)[:9]))
        patched.setattr(os, "fsync", failing)
        patched.setattr(os, "ftruncate", failing)
        with pytest.raises(OutputError, match="Input/output error"):
            journal.commit(make_segment(work, 1))
    with pytest.raises(OutputError, match="another program changed it"):
        journal.commit(make_segment(work, 2))
    assert set(done_indices(work)) <= {0, 1}

"""Killed before any call to the file system, or in the middle of a write: nothing is lost, doubled or wrong."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.children import run_python

KILL_AT_EVERY_MOMENT = """
# Runs a whole small film in a child that is killed before its n-th call to the file system, or in the middle of a
# write, for all n; then goes on without disturbance and compares.
import json, os, shutil, signal, sys
from pathlib import Path
from engines.atomic import commit_file
from helpers.journals import go_on, make_segment, sample_key, segment_bytes, check_segment_whole
from pipeline.journal import (
    FileIdentity, FinishedRecord, ResultVerified, SegmentCommitted, check_finished, find_done, read_journal,
    remember_finished,
)
from pipeline.work_folder import clear_work, open_work_folder, work_folder_of

root = Path(sys.argv[1])
output, source = root / "film.mkv", root.parent / "source.mp4"
source.write_bytes(b"the source")
SEGMENTS = 3
WHOLE = b"".join(segment_bytes(index) for index in range(SEGMENTS))
WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock", "os.truncate"}
write, fsync = os.write, os.fsync

def kill_before(count):
    seen = 0
    def count_one(half=None):
        nonlocal seen
        seen += 1
        if seen > count:
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
    def torn(descriptor, content):
        count_one(lambda: write(descriptor, bytes(content)[: len(content) // 2]))
        return write(descriptor, content)
    def counted_fsync(descriptor):
        count_one()
        fsync(descriptor)
    os.write, os.fsync = torn, counted_fsync
    sys.addaudithook(lambda event, arguments: count_one() if event in WATCHED else None)

def is_finished():
    return check_finished(root, output=output, source=source, config_digest="digest")

def remember():
    record = FinishedRecord.now(
        root=root, output=output, source=source, source_identity=FileIdentity.of(source), config_digest="digest",
        frames=SEGMENTS * 10,
    )
    remember_finished(root, record)

def run():
    # As a job does it. Returns the segments that it made.
    if is_finished().is_finished:
        clear_work(output)
        return []
    with open_work_folder(output, resumable=True) as work:
        resume = find_done(work, sample_key())
        if resume.is_finished(output):
            remember()
            return []
        done = {segment.index: segment for segment in resume.done}
        made = []
        for index in (1, 0, 2):  # as lanes may finish them
            if index not in done:
                done[index] = make_segment(work, index)
                resume.journal.commit(done[index])
                made.append(index)
        result = work / "result.mkv"
        result.write_bytes(b"".join(done[index].path.read_bytes() for index in range(SEGMENTS)))
        resume.journal.append(ResultVerified(identity=FileIdentity.of(result), frames=SEGMENTS * 10))
        commit_file(result, output)
        remember()
    return made

moments = []
for count in range(2000):
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    child = os.fork()
    if child == 0:
        kill_before(count)
        run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not output.exists() or output.read_bytes() == WHOLE
    journaled = [
        record.index
        for record in read_journal(work_folder_of(output) / "journal.jsonl").records
        if isinstance(record, SegmentCommitted)
    ]
    had_output = output.exists()
    made = run()
    # What was journaled is not made again, and what was not is (the folder may be half removed once all is done).
    assert had_output and not made or sorted([*journaled, *made]) == list(range(SEGMENTS)), (count, journaled, made)
    assert output.read_bytes() == WHOLE
    assert is_finished().is_finished
    assert run() == []
    assert sorted(path.name for path in root.iterdir()) == [".nightscale", "film.mkv"], count
    records = sorted(path.name for path in (root / ".nightscale" / "finished").iterdir())
    moments.append([len(journaled), had_output])
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
print(json.dumps(moments))
"""


def test_being_killed_at_any_moment_loses_no_committed_segment_and_gives_the_same_film(tmp_path: Path) -> None:
    result = run_python(KILL_AT_EVERY_MOMENT, str(tmp_path / "root"))
    assert result.returncode == 0, result.stderr
    moments = json.loads(result.stdout)
    states = [state for index, state in enumerate(moments) if index == 0 or state != moments[index - 1]]
    assert states == [[0, False], [1, False], [2, False], [3, False], [3, True], [0, True]]
    assert len(moments) > 60


KILL_WHILE_RESUMING = """
# The same for an attempt that finds damage: a torn line, a segment that is gone, one that is rotten, leftovers.
import json, os, shutil, signal, sys
from pathlib import Path
from helpers.journals import begin, done_indices, go_on, journal_path, make_segment
from pipeline.journal import find_done

work = Path(sys.argv[1])
WATCHED = {"open", "os.rename", "os.remove", "os.rmdir", "fcntl.flock", "os.truncate"}
write, fsync = os.write, os.fsync

def kill_before(count):
    seen = 0
    def count_one(half=None):
        nonlocal seen
        seen += 1
        if seen > count:
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
    def torn(descriptor, content):
        count_one(lambda: write(descriptor, bytes(content)[: len(content) // 2]))
        return write(descriptor, content)
    def counted_fsync(descriptor):
        count_one()
        fsync(descriptor)
    os.write, os.fsync = torn, counted_fsync
    sys.addaudithook(lambda event, arguments: count_one() if event in WATCHED else None)

for count in range(500):
    shutil.rmtree(work, ignore_errors=True)
    begin(work, 0, 1, 2, 3)
    (work / "seg-00001.mp4").unlink()
    (work / "seg-00002.mp4").write_bytes(b"x" * (work / "seg-00002.mp4").stat().st_size)
    (work / "seg-00007.mp4.part").write_bytes(b"x")
    with journal_path(work).open("ab") as file:
        file.write(b'{"check":"torn')
    child = os.fork()
    if child == 0:
        kill_before(count)
        resume = go_on(work)
        for index in (1, 2):
            resume.journal.commit(make_segment(work, index))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = done_indices(work)
    assert {0, 3} <= set(found) <= {0, 1, 2, 3}, (count, found)
    journal = go_on(work).journal
    for index in {1, 2} - set(found):
        journal.commit(make_segment(work, index))
    assert done_indices(work) == [0, 1, 2, 3]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
print(count)
"""


def test_being_killed_while_damage_is_mended_costs_nothing_more(tmp_path: Path) -> None:
    result = run_python(KILL_WHILE_RESUMING, str(tmp_path / "work"))
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 20

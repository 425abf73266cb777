"""A work folder belongs to one run at a time; once that run is dead, to the next one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.runs import ROOT

from pipeline.errors import OutputError
from pipeline.work_folder import clear_work, open_work_folder, set_work_aside, work_folder_of

HOLD = """
import sys, time
from pathlib import Path
from pipeline.work_folder import open_work_folder
with open_work_folder(Path(sys.argv[1]), resumable=sys.argv[2] == "resumable", run_folder=Path("/runs/7")) as work:
    (work / "seg-00000.mp4").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(60)
"""

ODD_NAMES = [
    "with space.mkv",
    "quote'\"\\.mkv",
    "new\nline.mkv",
    os.fsdecode(b"\xff\xfe.mkv"),
    "ü" * 123 + ".mkv",
    "x" * 246 + ".mkv",
    "x" * 251 + ".mkv",
    os.fsdecode(b"\xff" * 250),
]


def hold(output: Path, how: str = "afresh") -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output), how], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def kill(holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()


def content_of(work: Path) -> list[str]:
    return sorted(path.name for path in work.iterdir() if path.name != "holder.json")


def test_it_is_empty_beside_the_output_and_gone_afterwards(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    with open_work_folder(output) as work:
        assert work == work_folder_of(output) == tmp_path / ".film.mkv.work"
        assert not content_of(work)
        (work / "segment").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_work_folder(tmp_path / "film.mkv"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_kept(tmp_path: Path) -> None:
    with open_work_folder(tmp_path / "film.mkv", keep=True) as work:
        (work / "segment").write_bytes(b"x")
    assert [path.name for path in work.iterdir()] == ["segment"]


def test_a_second_run_keeps_out(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    with open_work_folder(output) as work:
        (work / "segment").write_bytes(b"x")
        for resumable in (False, True):
            with pytest.raises(OutputError, match="another run"), open_work_folder(output, resumable=resumable):
                pass
        with pytest.raises(OutputError, match="another run"):
            set_work_aside(output)
        with pytest.raises(OutputError, match="another run"):
            clear_work(output)
        assert (work / "segment").exists()
        with open_work_folder(tmp_path / "other.mkv"):
            pass


def test_who_is_kept_out_hears_by_whom(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    holder = hold(output)
    try:
        with pytest.raises(OutputError) as caught, open_work_folder(output):
            pass
    finally:
        kill(holder)
    for part in (f"process {holder.pid} on {os.uname().nodename}", "since 20", "run folder /runs/7", str(output)):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", None, b'{"pid": 2147483646, "host": "HERE"}'])
def test_a_holder_that_says_nothing_true_keeps_others_out_all_the_same(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts that are missing, damaged or of a process that is dead are not repeated."""
    monkeypatch.setattr("pipeline.work_folder.ENDING_S", 0.1)
    output = tmp_path / "film.mkv"
    with open_work_folder(output) as work:
        facts = work / "holder.json"
        if content is None:
            facts.unlink()
        elif b"HERE" in content:
            facts.write_text(json.dumps({**json.loads(facts.read_bytes()), "pid": 2147483646}))
        else:
            facts.write_bytes(content)
        with pytest.raises(OutputError) as caught, open_work_folder(output):
            pass
    assert str(caught.value) == f"another run is working on {output}"


ENDS_SLOWLY = """
import ctypes, os, sys, threading, time
from pathlib import Path
from pipeline.work_folder import open_work_folder
folder = open_work_folder(Path(sys.argv[1]))
folder.__enter__()
threading.Thread(target=lambda: (time.sleep(1.0), os._exit(0))).start()
print("held", flush=True)
sys.stdin.read()
ctypes.CDLL(None).pthread_exit(None)  # the first thread alone: a zombie for all to see, whose lock is still there
"""

LOSES_ITS_RUN = """
import subprocess, sys
child = "import sys, time; from pathlib import Path; from pipeline.work_folder import open_work_folder\\n"
child += "with open_work_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read(); time.sleep(1.0)"
subprocess.Popen([sys.executable, "-c", child, *sys.argv[1:]]).wait()
"""


@pytest.mark.parametrize("program", [ENDS_SLOWLY, LOSES_ITS_RUN], ids=["the last thread", "without its run"])
def test_a_holder_that_is_ending_is_waited_for(tmp_path: Path, program: str) -> None:
    output = tmp_path / "film.mkv"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(output)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run"), open_work_folder(output):
            pass
        if program == LOSES_ITS_RUN:
            holder.kill()
            holder.wait()
        holder.stdin.close()
        time.sleep(0.3)
        with open_work_folder(output) as work:
            assert not content_of(work)
        assert not work.exists()


def test_a_folder_that_is_being_removed_is_waited_for(tmp_path: Path) -> None:
    """Its holder's name goes before its lock."""
    output = tmp_path / "film.mkv"
    work = work_folder_of(output)
    work.mkdir()
    descriptor = os.open(work, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    remover = threading.Timer(0.3, lambda: (work.rmdir(), os.close(descriptor)))
    remover.start()
    with open_work_folder(output) as opened:
        assert not content_of(opened)
    remover.join()


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    holder = hold(output)
    with pytest.raises(OutputError, match="another run"), open_work_folder(output):
        pass
    kill(holder)
    with open_work_folder(output) as work:
        assert not content_of(work)


def test_what_a_killed_run_left_is_there_for_one_that_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    kill(hold(output, "resumable"))
    with open_work_folder(output, resumable=True) as work:
        assert content_of(work) == ["seg-00000.mp4"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cause", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_run_leaves_the_folder_if_a_segment_was_finished(
    tmp_path: Path, cause: type[BaseException]
) -> None:
    output = tmp_path / "film.mkv"
    with pytest.raises(cause), open_work_folder(output, resumable=True) as work:
        (work / "journal.jsonl").write_bytes(b"x")
        (work / "seg-00000.mp4.part").write_bytes(b"x")
        raise cause
    assert not work.exists()
    with pytest.raises(cause), open_work_folder(output, resumable=True) as work:
        (work / "journal.jsonl").write_bytes(b"x")
        (work / "seg-00000.mp4").write_bytes(b"x")
        raise cause
    assert content_of(work) == ["journal.jsonl", "seg-00000.mp4"]
    assert not (work / "holder.json").exists()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_that_a_file_can_have_has_a_work_folder(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    output.write_bytes(b"")  # the file system takes the name
    with open_work_folder(output, keep=True) as work:
        (work / "seg-00000.mp4").write_bytes(b"x")
    aside = set_work_aside(output)
    assert aside is not None
    assert len(os.fsencode(aside.name)) <= 255
    assert content_of(aside) == ["seg-00000.mp4"]


def test_long_names_that_begin_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    names = {work_folder_of(tmp_path / f"{'x' * 245}{number}.mkv").name for number in range(10)}
    assert len(names) == 10
    for length in range(1, 256):
        assert len(work_folder_of(tmp_path / ("x" * length)).name) <= 225
    assert work_folder_of(tmp_path / "film.mkv").name == ".film.mkv.work"


def test_a_restart_moves_the_old_work_aside_and_deletes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    assert set_work_aside(output) is None
    asides = []
    for number in range(3):
        with open_work_folder(output, keep=True) as work:
            (work / f"seg-0000{number}.mp4").write_bytes(b"x")
        asides.append(set_work_aside(output))
    assert len(set(asides)) == 3
    for number, aside in enumerate(asides):
        assert aside.name.startswith(".film.mkv.work.old-20")
        assert content_of(aside) == [f"seg-0000{number}.mp4"]
    with open_work_folder(output, resumable=True) as work:
        assert not content_of(work)


def test_what_is_left_of_a_finished_work_can_be_cleared(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    assert not clear_work(output)
    with open_work_folder(output, keep=True) as work:
        (work / "seg-00000.mp4").write_bytes(b"x")
    assert clear_work(output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resumable", [False, True])
def test_an_older_folder_of_pictures_gets_its_name_back_from_a_dead_run(tmp_path: Path, resumable: bool) -> None:
    """Killed between the two renames that replace it: the older result is not lost with the work."""
    output = tmp_path / "film"
    with open_work_folder(output, keep=True) as work:
        (work / "replaced").mkdir()
        (work / "replaced" / "0.png").write_bytes(b"old")
    with open_work_folder(output, resumable=resumable):
        assert (output / "0.png").read_bytes() == b"old"
    with open_work_folder(output, keep=True) as work:
        (work / "replaced").mkdir()
    with open_work_folder(output, resumable=resumable) as work:
        assert not content_of(work)
        assert (output / "0.png").read_bytes() == b"old"


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / ".film.mkv.work").write_text("a file in the way")
    output = tmp_path / "film.mkv"
    with pytest.raises(OutputError, match="work folder"), open_work_folder(output):
        pass
    with pytest.raises(OutputError, match="cannot move"):
        set_work_aside(output)
    with pytest.raises(OutputError, match="cannot remove"):
        clear_work(output)


def test_a_full_disk_leaves_not_even_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("engines.atomic._write_unnamed", full)
        with pytest.raises(OutputError, match="No space left"), open_work_folder(tmp_path / "film.mkv"):
            pass
    assert list(tmp_path.iterdir()) == []

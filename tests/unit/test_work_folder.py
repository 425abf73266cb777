"""A work folder belongs to one run at a time, and to nobody once that run is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import ROOT

from pipeline.errors import OutputError
from pipeline.work_folder import open_work_folder

HOLD = """
import sys, time
from pathlib import Path
from pipeline.work_folder import open_work_folder
with open_work_folder(Path(sys.argv[1])) as work:
    (work / "seg-00000.mp4").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_it_is_empty_beside_the_output_and_gone_afterwards(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    with open_work_folder(output) as work:
        assert work.parent == tmp_path and not list(work.iterdir())
        (work / "segment").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_work_folder(tmp_path / "film.mkv"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_kept(tmp_path: Path) -> None:
    with open_work_folder(tmp_path / "film.mkv", keep=True) as work:
        (work / "segment").write_bytes(b"x")
    assert (work / "segment").exists()


def test_a_second_run_keeps_out(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    with open_work_folder(output) as work:
        (work / "segment").write_bytes(b"x")
        with pytest.raises(OutputError, match="another run"), open_work_folder(output):
            pass
        assert (work / "segment").exists()
        with open_work_folder(tmp_path / "other.mkv"):
            pass


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    output = tmp_path / "film.mkv"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run"), open_work_folder(output):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with open_work_folder(output) as work:
        assert not list(work.iterdir())


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / ".film.mkv.work").write_text("a file in the way")
    with pytest.raises(OutputError, match="work folder"), open_work_folder(tmp_path / "film.mkv"):
        pass

"""A run that is stopped leaves nothing half done; a long run needs no more memory than a short one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import media
from helpers.runs import ROOT, interrupt_twice, leftovers, start_program, wait_for_segments, write_config

SLOW = {"infer": {"model": "realesr-animevideov3", "backend": "auto"}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_run_at_once_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=500, height=180, width=320)
    config = write_config(tmp_path, film, **SLOW)
    with start_program("run", str(config)) as program:  # closes its pipes, whatever happens
        try:
            wait_for_segments(tmp_path / "out", program)
            out, err = interrupt_twice(program, number)
        finally:
            program.kill()
    assert program.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err and "stopping at once" in err, err
    assert "film.mkv: stopped, 0 frames" in err
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_the_last_film_and_the_end_costs_no_summary(tmp_path: Path, number: signal.Signals) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=5)
    hook = f"kill -{int(number)} $PPID"  # as early as that: the run is in the middle of its last things
    config = write_config(tmp_path, film, run={"on_run_done": hook})
    with start_program("run", str(config)) as program:
        out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    assert out == f"{tmp_path / 'out' / 'film.mkv'}\n"
    assert len(list((tmp_path / "out/.nightscale/runs").glob("*/report.html"))) == 1


PEAK = """
import json, resource, sys
from pipeline.cli import main
code = main(["run", sys.argv[1]])
print(json.dumps({"code": code, "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def peak_kib(folder: Path, *, frame_count: int) -> int:
    """Peak memory of a run over a synthetic film, in a process of its own."""
    folder.mkdir()
    config = write_config(
        folder,
        decode={"kind": "synthetic", "synthetic": {"height": 120, "width": 160, "frame_count": frame_count}},
        output={"segment_s": 2},
    )
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(config)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["code"] == 0, done.stderr
    return int(result["peak_kib"])


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    short = peak_kib(tmp_path / "short", frame_count=200)
    long = peak_kib(tmp_path / "long", frame_count=2000)
    assert long <= 1.1 * short, (short, long)

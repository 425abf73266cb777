"""Programs beside this one are run, measured and judged alike; whoever fails or is not there is named."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import media

from tools import bench_peers
from tools.peers_programs import all_peers
from tools.peers_run import PeerFailed, Taken, run_steps
from tools.peers_table import Row, plot, table
from tools.peers_task import Command, Found, Peer, Step, Task

PYTHON = sys.executable


def task_in(folder: Path) -> Task:
    return Task(
        clip=folder / "clip.mp4",
        result=folder / "result.mp4",
        folder=folder,
        model="realesr-animevideov3",
        onnx=folder / "network.onnx",
        scale=4,
        height=36,
        width=64,
        rate="24/1",
        matrix="bt709",
        device="cpu",
        preset="ultrafast",
        crf=20,
        ffmpeg="ffmpeg",
    )


@pytest.mark.parametrize("peer", all_peers(vspipe="vspipe"), ids=lambda peer: peer.name)
def test_every_program_gets_the_film_the_network_and_the_encoder(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAS_COMMAND", "tas")
    task = task_in(tmp_path)
    steps = peer.steps(task)
    said = " ".join(word for step in steps for command in step for word in command)
    said += " ".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
    assert str(task.clip) in said
    assert str(task.result) in said or f'"name": "{task.result.stem}"' in said
    assert task.onnx.name in said or "animevideov3" in said
    assert "ultrafast" in said
    assert "20" in said


def test_the_time_and_memory_of_all_processes_count(tmp_path: Path) -> None:
    """Of a child's child too; memory that is shared counts once."""
    hold = "held = b'x' * (80 << 20); import time; time.sleep(0.6)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}], check=True)"
    taken = run_steps([((PYTHON, "-c", start),), ((PYTHON, "-c", ""),)], folder=tmp_path, limit_s=60)
    assert taken.seconds >= 0.6
    assert 80 << 20 < taken.peak_bytes < 160 << 20


def test_commands_of_a_step_are_a_pipe(tmp_path: Path) -> None:
    write = (PYTHON, "-c", "print('through the pipe')")
    keep = (PYTHON, "-c", "import sys; open('kept', 'w').write(sys.stdin.read())")
    run_steps([(write, keep)], folder=tmp_path, limit_s=60)
    assert (tmp_path / "kept").read_text() == "through the pipe\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((PYTHON, "-c", "raise SystemExit('no such model')"), "status 1: no such model"),
        (("no-such-program",), "cannot be started: No such file"),
    ],
)
def test_a_program_that_fails_is_quoted(command: Command, said: str, tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=said):
        run_steps([(command,)], folder=tmp_path, limit_s=60)


def test_a_program_that_hangs_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    wait = "import time; time.sleep(300)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {wait!r}])"
    begin = time.monotonic()
    with pytest.raises(PeerFailed, match="was ended after 1 s"):
        run_steps([((PYTHON, "-c", start),)], folder=tmp_path, limit_s=1)
    assert time.monotonic() - begin < 60


@dataclass(frozen=True)
class Copier:
    """A program that copies, or makes something of its own."""

    name: str
    source: str
    remark: str = ""

    def find(self, *, device: str, model: str) -> Found:
        assert (device, model) == ("cpu", "realesr-animevideov3")
        return Found(missing="not bought") if self.source == "missing" else Found(version="1.0")

    def steps(self, task: Task) -> Sequence[Step]:
        """Enlarged by repetition, as asked for; "tall" in another size, "late" without the last frame."""
        if self.source == "broken":
            return [((PYTHON, "-c", "raise SystemExit('out of luck')"),)]
        size = f"scale={task.width * 4}:{task.height * (5 if self.source == 'tall' else 4)}:flags=neighbor"
        graph = f"{size},trim=end_frame=3" if self.source == "late" else size
        graph += ",negate" if self.source == "negative" else ""
        quiet = (task.ffmpeg, "-loglevel", "error")
        return [((*quiet, "-i", str(task.clip), "-vf", graph, *task.encoder, "-y", str(task.result)),)]


def bench(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *peers: Copier, more: Sequence[str] = ()
) -> tuple[int, dict[str, Any]]:
    film = media.write_counter_video(folder / "film.mkv", frames=6, height=72, width=128)
    monkeypatch.setattr(bench_peers, "all_peers", lambda *, vspipe: peers)
    status = bench_peers.main(
        [str(film), "--frames", "4", "--repeat", "1", "--preset", "ultrafast", "--out", str(folder / "out"), *more]
    )
    report = json.loads((folder / "out" / "peers.json").read_text())
    assert report["is_over"] is True
    return status, {row["name"]: row for row in report["rows"]}


def test_results_are_judged_by_our_own_float32_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {
        "same": "same",
        "negative": "negative",
        "tall": "tall",
        "late": "late",
        "gone": "missing",
        "bad": "broken",
    }
    peers = [Copier(bench_peers.REFERENCE, "same"), *(Copier(name, source) for name, source in others.items())]
    status, rows = bench(tmp_path, monkeypatch, *peers)
    assert status == 1
    assert {name: row["flaw"] for name, row in rows.items() if row["flaw"]}.keys() == {"negative", "tall", "late"}
    assert rows["negative"]["flaw"] == "another picture"
    assert rows["late"]["flaw"] == "it has 3 frames of 4"
    assert rows["same"]["psnr_db"] == 999.0
    assert rows["same"]["fps"] > 0
    assert rows["gone"]["missing"] == "not bought"
    assert "out of luck" in rows["bad"]["failure"]
    printed = capsys.readouterr().out
    assert "not run: not bought" in printed
    assert (tmp_path / "out" / "peers.png").stat().st_size > 1000


def test_what_was_measured_is_kept_when_the_rest_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(Copier):
        def steps(self, task: Task) -> Sequence[Step]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, monkeypatch, Copier(bench_peers.REFERENCE, "same"), Cut("cut", "same"))
    report = json.loads((tmp_path / "out" / "peers.json").read_text())
    assert report["is_over"] is False
    assert [bool(row.get("fps")) for row in report["rows"]] == [True, False]


def test_nothing_begins_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who took no part is named."""

    class Slow(Copier):
        def steps(self, task: Task) -> Sequence[Step]:
            monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
            return super().steps(task)

    status, rows = bench(tmp_path, monkeypatch, Slow("first", "same"), Copier("second", "same"), more=("--within", "9"))
    assert status == 1 and "was ended after 0 s" in rows["first"]["failure"]
    assert rows["second"]["missing"] == "there was no time left"


def test_our_own_row_says_what_it_computes_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no package of ours is
    monkeypatch.delenv("PYTHONPATH", raising=False)
    version = all_peers(vspipe=None)[1].find(device="cpu", model="nearest-x2").version
    assert version.startswith("this tree, resize in fp32 on")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["film.mkv", "--frames", "1"], "at least 2"),
        (["film.mkv", "--peer", "nobody"], "no program here is called 'nobody'"),
        (["film.mkv", "--model", "nothing"], "nothing"),
        (["gone.mkv", "--peer", "nightscale"], "gone.mkv"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench_peers.main(arguments) == 1
    assert said in capsys.readouterr().err


def test_rates_leave_out_what_a_run_costs_before_its_frames(tmp_path: Path) -> None:
    def taken(*seconds: float) -> list[Taken]:
        return [Taken(seconds=each, peak_bytes=1 << 20) for each in seconds]

    row = Row(name="nightscale", frames=11, short=taken(3.0, 2.0, 2.5), long=taken(12.0, 12.5, 13.0))
    assert (row.first_s, row.steady_fps, row.fps) == (2.5, 1.0, 11 / 12.5)
    absurd = Row(name="b", frames=2, short=taken(2.0), long=taken(1.0))
    assert absurd.steady_fps is None
    assert len(list(table([row, absurd]))) == 3
    plot([row, absurd], tmp_path / "p.svg", title="t")
    assert "nightscale" in (tmp_path / "p.svg").read_text()

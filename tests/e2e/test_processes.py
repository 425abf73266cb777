"""A film's real process: it ends with its parent, takes its ffmpeg with it, and what it made can be gone on with."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from helpers import onnx_models
from helpers.child_scripts import children_of, is_alive, open_descriptors, wait_until
from helpers.media import write_counter_video
from helpers.night_runs import RecordingDisplay
from helpers.runs import ROOT, start_program, write_config

from pipeline.cli import main
from pipeline.config import Config
from pipeline.graph.stop import StopToken
from pipeline.jobs.order import FilmOrder, encode_order
from pipeline.jobs.processes import FilmProcesses, work_in_process
from pipeline.results import JobResult
from pipeline.show.progress import JobProgress

PARENT = """
import signal, sys
from pathlib import Path
sys.path[:0] = [TESTS, ROOT]
from helpers.night_runs import RecordingDisplay
from pipeline.graph.stop import StopToken
from pipeline.jobs.order import decode_order
from pipeline.jobs.processes import FilmProcesses, work_in_process
folder = Path(sys.argv[1])
stop = StopToken()
signal.signal(signal.SIGINT, lambda *_: stop.abort())
display = RecordingDisplay(lambda progress: (folder / "flowing").touch())
result = work_in_process(
    decode_order((folder / "order").read_bytes()), display=display, stop=stop, log=folder / "film.log", deadline_s=20
)
(folder / "result").write_text(f"{result.status} {result.failure}")
"""


def order_of(folder: Path, *, frame_count: int = 100_000) -> FilmOrder:
    config = Config.model_validate(
        {
            "version": 1,
            "decode": {"kind": "synthetic", "synthetic": {"height": 64, "width": 64, "frame_count": frame_count}},
            "infer": {"model": "nearest-x2", "backend": "resize"},
            "output": {"dir": str(folder / "out"), "segment_s": 1},
            "run": {"join_deadline_s": 10},
        }
    )
    return FilmOrder(config=config, source=None, index=0, count=1, interval_s=0.1, root=folder / "out")


class Parent:
    """A process that works on a film in another process."""

    def __init__(self, folder: Path, order: FilmOrder, **options: object) -> None:
        self.folder = folder
        (folder / "order").write_bytes(encode_order(order))
        code = PARENT.replace("TESTS", repr(str(ROOT / "tests"))).replace("ROOT", repr(str(ROOT)))
        self.process = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, **options)  # type: ignore[call-overload]

    def wait_for(self, name: str) -> None:
        assert wait_until((self.folder / name).exists, within_s=120), (self.folder / "film.log").read_text()

    def worker(self) -> int:
        (pid,) = children_of(self.process.pid)
        return pid

    def result(self) -> str:
        self.process.wait(timeout=120)
        return (self.folder / "result").read_text()


@pytest.fixture
def parents() -> Iterator[list[Parent]]:
    made: list[Parent] = []
    yield made
    for parent in made:
        for pid in children_of(parent.process.pid) if parent.process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        parent.process.kill()
        parent.process.wait()


@pytest.fixture
def slow_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ffmpeg that writes its process id into the file that is returned, and then takes its time."""
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "ffmpeg"
    program.write_text(
        textwrap.dedent(
            f"""\
            #!/bin/sh
            for word in "$@"; do [ "$word" = -version ] && echo "ffmpeg version 7.1" && exit 0; done
            echo $$ > '{tmp_path}/ffmpeg.part' && mv '{tmp_path}/ffmpeg.part' '{tmp_path}/ffmpeg.pid'
            exec sleep 100
            """
        )
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return tmp_path / "ffmpeg.pid"


def work(folder: Path, order: FilmOrder, *, stop: StopToken, on_progress=lambda progress: None) -> JobResult:  # type: ignore[no-untyped-def]
    display = RecordingDisplay(on_progress)
    return work_in_process(order, display=display, stop=stop, log=folder / "film.log", deadline_s=20)


def contents(path: Path) -> list[bytes]:
    """The coded pictures of a film."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0)]


def test_a_film_is_done_and_nothing_of_the_process_is_left(tmp_path: Path) -> None:
    before = open_descriptors()
    result = work(tmp_path, order_of(tmp_path, frame_count=30), stop=StopToken())
    assert result.status == "done" and result.outcome is not None and result.outcome.frames_done == 30, result.errors
    assert open_descriptors() <= before and children_of(os.getpid()) == []
    assert result.outcome.output is not None and result.outcome.output.stat().st_size > 0


def test_films_that_share_a_process_are_as_if_each_had_its_own(tmp_path: Path) -> None:
    orders = [order_of(tmp_path / name, frame_count=count) for name, count in (("a", 30), ("b", 7), ("c", 30))]
    pids: set[int] = set()
    results = []
    with FilmProcesses() as processes:
        for number, order in enumerate(orders):
            results.append(
                processes.work(
                    order,
                    display=RecordingDisplay(),
                    stop=StopToken(),
                    log=tmp_path / f"{number}.log",
                    deadline_s=20,
                    tick=lambda: pids.update(children_of(os.getpid())),
                )
            )
    assert [result.status for result in results] == ["done"] * 3, [result.errors for result in results]
    assert len(pids) == 1 and children_of(os.getpid()) == []
    for number, result in enumerate(results):
        assert "pixel kernels ready" in (tmp_path / f"{number}.log").read_text()
        alone = work(tmp_path, order_of(tmp_path / f"alone{number}", frame_count=(30, 7, 30)[number]), stop=StopToken())
        assert result.outcome is not None and alone.outcome is not None
        assert result.outcome.output is not None and alone.outcome.output is not None
        assert contents(result.outcome.output) == contents(alone.outcome.output)
        report = json.loads(result.report.read_text()) if result.report is not None else {}
        assert 10 << 20 < report["peak_rss_bytes"] < 2 << 30


def test_a_process_goes_when_its_parent_is_killed_and_its_film_can_be_gone_on_with(
    tmp_path: Path, parents: list[Parent]
) -> None:
    order = order_of(tmp_path, frame_count=2000)
    parents.append(parent := Parent(tmp_path, order))
    parent.wait_for("flowing")
    worker = parent.worker()
    parent.process.kill()
    started_s = time.monotonic()
    assert wait_until(lambda: not is_alive(worker), within_s=120)
    assert time.monotonic() - started_s < 10
    assert not (tmp_path / "result").exists() and not (tmp_path / "out" / "synthetic.mkv").exists()
    result = work(tmp_path, order, stop=StopToken())
    assert result.status == "done" and result.outcome is not None and result.outcome.frames_done == 2000, result.errors
    assert [path.name for path in (tmp_path / "out").glob(".synthetic*")] == []


def test_a_process_that_is_not_ready_goes_when_its_parent_is_killed(tmp_path: Path, parents: list[Parent]) -> None:
    parents.append(parent := Parent(tmp_path, order_of(tmp_path)))
    assert wait_until(lambda: children_of(parent.process.pid) != [], within_s=120)
    worker = parent.worker()
    parent.process.kill()
    assert wait_until(lambda: not is_alive(worker), within_s=120)


@pytest.mark.parametrize("killed", ["parent", "worker"])
def test_an_ffmpeg_goes_with_those_who_need_it(
    tmp_path: Path, parents: list[Parent], slow_ffmpeg: Path, killed: str
) -> None:
    parents.append(parent := Parent(tmp_path, order_of(tmp_path, frame_count=30)))
    parent.wait_for(slow_ffmpeg.name)
    worker, ffmpeg = parent.worker(), int(slow_ffmpeg.read_text())
    assert is_alive(ffmpeg)
    os.kill(parent.process.pid if killed == "parent" else worker, signal.SIGKILL)
    assert wait_until(lambda: not is_alive(ffmpeg) and not is_alive(worker), within_s=120)
    if killed == "worker":
        assert parent.result() == "failed crash"


def test_ctrl_c_at_the_terminal_reaches_the_parent_alone(
    tmp_path: Path, parents: list[Parent], slow_ffmpeg: Path
) -> None:
    """The whole foreground group gets it; the film's process and its ffmpeg are in none."""
    ours, theirs = pty.openpty()
    try:
        parent = Parent(
            tmp_path,
            order_of(tmp_path, frame_count=30),
            stdin=theirs,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # makes it the controlling terminal
        )
        parents.append(parent)
        parent.wait_for(slow_ffmpeg.name)
        terminal = Path(f"/proc/{parent.process.pid}/stat").read_bytes().rpartition(b")")[2].split()[4]
        assert terminal != b"0"
        worker = parent.worker()
        assert os.getsid(worker) == worker
        os.write(ours, b"\x03")
        assert parent.result() == "stopped None"
        assert not is_alive(int(slow_ffmpeg.read_text()))
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_crash_of_a_library_names_itself(tmp_path: Path) -> None:
    def crash(progress: JobProgress) -> None:
        for pid in children_of(os.getpid()):
            os.kill(pid, signal.SIGSEGV)

    result = work(tmp_path, order_of(tmp_path), stop=StopToken(), on_progress=crash)
    assert (result.status, result.failure) == ("failed", "crash")
    assert "SIGSEGV" in result.errors[0] and "Fatal Python error: Segmentation fault" in result.errors[1]
    assert result.frame_count_estimated == 100_000


@pytest.mark.parametrize("kind", ["stop", "abort"])
@pytest.mark.parametrize("moment", ["before", "middle"])
def test_a_film_that_was_stopped_is_stopped(tmp_path: Path, kind: str, moment: str) -> None:
    stop = StopToken()
    ask = stop.stop if kind == "stop" else stop.abort
    if moment == "before":
        ask()
    started_s = time.monotonic()
    result = work(tmp_path, order_of(tmp_path), stop=stop, on_progress=lambda progress: ask())
    assert (result.status, result.failure) == ("stopped", None), result.errors
    assert time.monotonic() - started_s < 30


def test_an_order_that_cannot_be_read_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.jobs.worker", "1", str(os.getpid()), "name"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        out, err = process.communicate(b"no order", timeout=120)
    assert process.returncode == 1 and out == b"" and b"JSONDecodeError" in err


def test_a_run_can_be_paused_gone_on_with_and_stopped_from_another_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic = {"height": 64, "width": 64, "frame_count": 100_000}
    config = write_config(
        tmp_path,
        decode={"kind": "synthetic", "synthetic": synthetic},
        output={"segment_s": 1, "dir": "out dir"},
        run={"report_every_s": 0.2, "isolate": True},
    )
    place = str(tmp_path / "out dir")

    def is_in(state: str) -> bool:
        capsys.readouterr()
        if main(["status", "--json", place]) != 0:
            return False
        found = json.loads(capsys.readouterr().out)
        return bool(found["state"] == state and (state != "working" or found["frames_done"] > 0))

    with start_program("run", str(config)) as program:
        try:
            assert wait_until(lambda: is_in("working"), within_s=120)
            assert len(children_of(program.pid)) == 1
            assert main(["pause", place]) == 0
            assert wait_until(lambda: is_in("paused"), within_s=120)
            assert children_of(program.pid) == []  # and so the GPU is free
            assert main(["resume", str(config)]) == 0
            assert wait_until(lambda: is_in("working"), within_s=120)
            assert main(["stop", place]) == 0
            out, err = program.communicate(timeout=120)
        finally:
            program.kill()
    assert program.returncode == 130 and out == "" and "asked to pause" in err and "going on" in err
    assert main(["pause", place]) == 1 and "is over" in capsys.readouterr().err


def test_a_failed_verification_in_a_process_of_its_own_keeps_the_result_and_lets_other_films_go_on(
    tmp_path: Path,
) -> None:
    """Where the pictures are black because the network gives nothing else."""
    for name in ("bad", "good"):
        write_counter_video(tmp_path / f"{name}.mkv", frames=6, height=64, width=96)
    network = onnx_models.network()
    last = next(node for node in network.graph.node if node.op_type == "Add")
    last.op_type, last.input[0] = "Sub", last.input[1]
    dark = onnx_models.saved(network, tmp_path)
    config = write_config(
        tmp_path,
        *(tmp_path / f"{name}.mkv" for name in ("bad", "good")),
        input={"overrides": [{"match": "*bad*", "set": {"infer.model": str(dark), "infer.backend": "auto"}}]},
        run={"isolate": True, "max_attempts": 3},
    )
    program = start_program("run", str(config))
    out, err = program.communicate(timeout=100)
    assert program.returncode == 1, err
    assert out.split() == [str(tmp_path / "out" / "good.mkv")]
    assert (tmp_path / "out" / "bad.failed-verification.mkv").exists()
    assert not (tmp_path / "out" / "bad.mkv").exists()
    assert err.count("bad.mkv: failed, 6 frames") == 1 and "does not show its film: frame 0" in err, err

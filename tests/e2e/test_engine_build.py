"""A run whose engine has to be compiled first: shown, and stopped without a trace.

The compiler is a stand-in that behaves as a real one: it reports to its listener in the calling thread, and a no ends
it. Real compilers are exercised in tests/contract.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import media
from helpers.children import run_python
from helpers.runs import leftovers, run_films, write_config

from engines import BackendChoice, Runner
from engines.backend import PassedOver
from engines.errors import BuildCancelled, BuildFailed
from pipeline.plan import JobPlan
from pipeline.preflight import open_planned_runner

TEXT = "nearest-x2 fp32 for a GPU"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return media.write_counter_video(tmp_path / "film.mkv", frames=3, height=32, width=48)


def compile_before_opening(monkeypatch: pytest.MonkeyPatch, during: Callable[[], None] = lambda: None) -> None:
    """Let the runner be opened only after a compilation in which something happens."""

    def open_runner(plan: JobPlan, *, listener: Any) -> Runner:
        listener.begin(TEXT)
        try:
            for step in range(4):
                if step == 2:
                    during()
                if not listener.progress(phase="Tactic timing", share=step / 4):
                    raise BuildCancelled("the build was cancelled")
        finally:
            listener.end()
        return open_planned_runner(plan)

    monkeypatch.setattr("pipeline.attempts.open_planned_runner", open_runner)


def test_a_compilation_is_announced_before_the_frames_flow(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    compile_before_opening(monkeypatch)
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 0, ran.err
    lines = ran.err.splitlines()
    assert f"building {TEXT}: 0 %, elapsed 0:00" in lines
    assert f"building {TEXT}: the compiler ended after 0:00" in lines
    assert len(ran.outputs) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_engine_is_compiled_stops_everything_and_leaves_nothing(
    tmp_path: Path, film: Path, number: signal.Signals
) -> None:
    other = media.write_counter_video(tmp_path / "other.mkv", frames=3, height=32, width=48)
    config = write_config(tmp_path, film, other)
    ended = run_python(
        """
        import signal
        import pipeline.job
        from engines.errors import BuildCancelled

        def open_runner(plan, *, listener):
            listener.begin("an engine")
            signal.raise_signal(int(sys.argv[1]))
            if not listener.progress(phase="timing", share=0.5):
                raise BuildCancelled("the build was cancelled")
            raise AssertionError("nobody stopped the build")

        pipeline.attempts.open_planned_runner = open_runner
        from pipeline.cli import main

        sys.exit(main(["run", sys.argv[2]]))
        """,
        str(int(number)),
        str(config),
    )
    assert ended.returncode == 130, ended.stderr
    assert ended.stdout == ""
    assert "stopped by the user while the engine was compiled" in ended.stderr
    assert "[2/2]" not in ended.stderr
    assert leftovers(tmp_path / "out") == []
    (report,) = (tmp_path / "out").glob("*.report.json")
    assert json.loads(report.read_text())["status"] == "stopped"


def test_a_compiler_that_heard_of_ctrl_c_itself_ends_the_run_too(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def cancel() -> None:
        raise BuildCancelled("interrupted")

    compile_before_opening(monkeypatch, cancel)
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 130
    assert leftovers(tmp_path / "out") == []


def test_a_compilation_that_fails_fails_its_film_with_the_compilers_words(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise BuildFailed("no tactic for Conv_3", hint="raise infer.engine.workspace_mb")

    compile_before_opening(monkeypatch, fail)
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 1
    assert "error: no tactic for Conv_3" in ran.err
    assert "hint: raise infer.engine.workspace_mb" in ran.err
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("driver", [True, False])
def test_where_there_is_a_gpu_a_run_says_why_it_is_not_used(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], driver: bool
) -> None:
    choice = BackendChoice(
        backend="resize",
        precision="fp32",
        device="CPU",
        device_id="cpu",
        reason="a test",
        passed_over=(PassedOver(backend="tensorrt", device="cuda", reason="not installed", hint="pip install it"),),
    )
    monkeypatch.setattr("pipeline.plan.choose_engine", lambda infer, *, model: choice)
    monkeypatch.setattr("pipeline.jobs.film.has_nvidia_driver", lambda: driver)
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 0, ran.err
    assert ("  not tensorrt on cuda: not installed (pip install it)" in ran.err.splitlines()) == driver
    assert ran.report()["engine"]["passed_over"][0]["reason"] == "not installed"

"""The command line in this process, with stand-ins for what the verbs call."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import pipeline
from engines import BackendChoice, BackendUnavailable
from engines.backend import PassedOver
from engines.errors import BuildCancelled
from pipeline.batch import RunOptions
from pipeline.cli import main
from pipeline.config import Config
from pipeline.doctor import Diagnosis, Finding
from pipeline.errors import GraphFailed, MediaError, SetupError


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in ("pipeline", "engines")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def config_path(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text("input: {paths: [a.mkv, b.mkv]}\n")
    return str(path)


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def stand_in_for_batch(
    monkeypatch: pytest.MonkeyPatch, *, code: int = 0, error: BaseException | None = None
) -> list[Config]:
    seen: list[Config] = []

    def run_batch(config: Config, *, display: Any, options: Any = None) -> Any:
        assert options is None or options.config_path is not None
        seen.append(config)
        display.note("working")
        if error is not None:
            raise error
        outputs = (Path("/out/a.mkv"), Path("/out/b.mkv"))
        return SimpleNamespace(exit_code=code, outputs=outputs, as_json=lambda: {"exit_code": code, "jobs": []})

    stand_in(monkeypatch, "pipeline.batch", run_batch=run_batch, RunOptions=RunOptions)
    return seen


def test_run_prints_the_outputs_and_nothing_else(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = stand_in_for_batch(monkeypatch)
    assert main(["run", config_path, "--set", "scale.factor=2", "--set", "run.progress=plain"]) == 0
    out, err = capsys.readouterr()
    assert out == "/out/a.mkv\n/out/b.mkv\n"
    assert "working" in err
    assert seen[0].scale.factor == 2


def test_run_as_json_prints_one_value(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in_for_batch(monkeypatch, code=1)
    assert main(["run", config_path, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"exit_code": 1, "jobs": []}


def test_python_callers_run_the_same_way(config_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_batch(monkeypatch, code=1)
    config = pipeline.load_config(config_path, ["run.progress=off"])
    assert pipeline.run(config).exit_code == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SetupError("no ffmpeg", missing="ffmpeg", hint="apt install ffmpeg"), 3, "hint: apt install ffmpeg"),
        (GraphFailed("run", [MediaError("broken", path=Path("a"))]), 1, "error: broken"),
        (KeyboardInterrupt(), 130, "stopped"),
        (ZeroDivisionError("oops"), 70, "internal error: ZeroDivisionError: oops"),
        (SystemError("c"), 70, "internal error: SystemError: c"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_an_error_is_words_and_a_code(
    config_path: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    words: str,
) -> None:
    stand_in_for_batch(monkeypatch, error=error)
    assert main(["run", config_path]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_the_traceback_of_a_defect_is_logged(
    config_path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in_for_batch(monkeypatch, error=ZeroDivisionError("oops"))
    assert main(["run", config_path]) == 70
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [("ERROR", True)]


def test_the_traceback_of_a_known_error_is_logged_with_vv_only(
    config_path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in_for_batch(monkeypatch, error=MediaError("broken", path=Path("a")))
    assert main(["run", config_path, "-v"]) == 1
    assert not caplog.records
    assert main(["run", config_path, "-vv"]) == 1
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [("DEBUG", True)]


def test_every_problem_of_a_config_is_shown_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = stand_in_for_batch(monkeypatch)
    path = tmp_path / "config.yaml"
    path.write_text("input: {paths: [a.mkv]}\ntile: {blend: soft}\n")
    assert main(["run", str(path), "--set", "infer.batch_tiles=0"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {path}:2: tile.blend: must be linear or cut (got 'soft')",
        "error: --set infer.batch_tiles: must be auto or a whole number >= 1 and <= 1024 (got 0)",
    ]
    assert not seen


@pytest.mark.parametrize("arguments", [[], ["walk"], ["run"], ["run", "a", "--frobnicate"], ["run", "a", "--set"]])
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: nightscale" in err


def test_version_and_help_are_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nightscale {pipeline.__version__}\n"
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {verb} " in shown for verb in ("run", "check", "plan", "doctor", "schema"))


def stand_in_for_media(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two films: a.mkv is good, b.mkv is not there. Returns what was measured and checked, as it happens."""
    calls: list[str] = []
    video = SimpleNamespace(
        width=320,
        height=180,
        codec="h264",
        pixel_format="yuv420p",
        average_rate=Fraction(24000, 1001),
        frame_count_estimated=48,
        frame_count_from_header=48,
    )

    def probe_film(_config: Config, path: Path | None) -> Any:
        if path is not None and path.name == "b.mkv":
            raise MediaError(f"{path}: no such file", path=path, hint="check the path")
        return SimpleNamespace(path=path or Path("synthetic"), video=video)

    def plan_film(_config: Config, info: Any) -> Any:
        name = info.path.name
        return SimpleNamespace(
            grid=SimpleNamespace(tile_height=100, tile_width=100, tiles=(0, 1)),
            engine_scale=4,
            name=name,
        )

    def measure_pace(plan: Any, *, listener: Any) -> float:
        listener.begin("engine")
        listener.end()
        calls.append(f"measured {plan.name}")
        return 2.5

    stand_in(
        monkeypatch,
        "pipeline.plan",
        probe_film=probe_film,
        plan_film=plan_film,
    )
    stand_in(
        monkeypatch,
        "pipeline.show.plan_words",
        plan_lines=lambda plan, *, pace_fps: (f"{plan.name}: {pace_fps} fps",),
        plan_as_json=lambda plan: {"input": plan.name},
    )
    stand_in(
        monkeypatch,
        "pipeline.preflight",
        measure_pace=measure_pace,
        check_paths=lambda plan: calls.append(f"checked {plan.name}"),
    )
    stand_in(
        monkeypatch,
        "pipeline.assembly.ffmpeg",
        find_ffmpeg=lambda: SimpleNamespace(version="7.1", path=Path("/usr/bin/ffmpeg")),
    )
    return calls


def test_check_goes_on_after_a_problem(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = stand_in_for_media(monkeypatch)
    assert main(["check", config_path, "--set", "infer.backend=resize", "--set", "infer.model=nearest-x2"]) == 1
    out, err = capsys.readouterr()
    folder = Path(config_path).parent
    lines = out.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["config", "engine", "ffmpeg", f"{folder}/a.mkv"]
    assert lines[-1] == f"ok: {folder}/a.mkv: 320x180 h264 yuv420p, 23.976 fps, 48 frames"
    assert err.splitlines() == [f"error: {folder}/b.mkv: no such file", "hint: check the path"]
    assert calls == ["checked a.mkv"]


def test_check_takes_the_gravest_code_and_says_each_thing_once(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = stand_in_for_media(monkeypatch)

    def choose_backend(**_: Any) -> Any:
        raise BackendUnavailable("no openvino", missing="openvino", hint="pip install openvino")

    monkeypatch.setattr("pipeline.engine.choose_backend", choose_backend)
    assert main(["check", config_path, "--json"]) == 3
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["ok"] is False
    assert [item["ok"] for item in result["items"]] == [True, False, True, True, False]
    assert err.count("no openvino") == 1
    assert calls == []


def test_plan_prints_what_each_job_would_be(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in_for_media(monkeypatch)
    assert main(["plan", config_path]) == 1
    out, err = capsys.readouterr()
    assert out == "a.mkv: 2.5 fps\n"
    assert "b.mkv: no such file" in err
    assert main(["plan", config_path, "--json", "--set", "input.paths=[a.mkv]"]) == 0
    assert json.loads(capsys.readouterr().out) == {"jobs": [{"input": "a.mkv", "engine_fps_measured": 2.5}]}


def test_check_names_the_better_engines_that_were_passed_over(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in_for_media(monkeypatch)
    choice = BackendChoice(
        backend="openvino",
        precision="bf16",
        device="a processor",
        device_id="cpu",
        reason="it is here",
        passed_over=(
            PassedOver(backend="tensorrt", device="cuda", reason="not installed", hint="pip install tensorrt-cu13"),
            PassedOver(backend="torch", device="cuda", reason="no NVIDIA GPU"),
        ),
    )
    monkeypatch.setattr("pipeline.engine.choose_backend", lambda **_: choice)
    arguments = ["check", config_path, "--set", "input.paths=[a.mkv]"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        "ok: engine: realesr-animevideov3 with openvino in bf16 on a processor: it is here",
        "  not tensorrt on cuda: not installed (pip install tensorrt-cu13)",
        "  not torch on cuda: no NVIDIA GPU",
    ]
    assert main([*arguments, "--json"]) == 0
    engine = json.loads(capsys.readouterr().out)["items"][1]
    assert engine["details"] == [line.strip() for line in lines[2:4]]


def test_a_cancelled_build_ends_plan_at_once(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = stand_in_for_media(monkeypatch)

    def measure_pace(plan: Any, *, listener: Any) -> float:
        calls.append(plan.name)
        raise BuildCancelled("the build was cancelled")

    stand_in(monkeypatch, "pipeline.preflight", measure_pace=measure_pace)
    assert main(["plan", config_path, "--set", "input.paths=[a.mkv, c.mkv]"]) == 130
    assert "stopped: the build was cancelled" in capsys.readouterr().err
    assert calls == ["a.mkv"]


def test_plan_measures_films_of_one_size_once(
    config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = stand_in_for_media(monkeypatch)
    assert main(["plan", config_path, "--set", "input.paths=[a.mkv, c.mkv]"]) == 0
    assert capsys.readouterr().out == "a.mkv: 2.5 fps\nc.mkv: 2.5 fps\n"
    assert calls == ["measured a.mkv"]


@pytest.mark.parametrize(
    ("verb", "shown"), [("plan", "synthetic: 2.5 fps\n"), ("check", "ok: synthetic: 320x180 h264")]
)
def test_the_synthetic_film_needs_no_file(
    verb: str, shown: str, config_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in_for_media(monkeypatch)
    assert main([verb, config_path, "--set", "input.paths=[]", "--set", "decode.kind=synthetic"]) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(("can_run", "code"), [(True, 0), (False, 3)])
def test_doctor_says_whether_a_run_is_possible(
    can_run: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding(name="ffmpeg", state="ok", found="7.1")
    diagnosis = Diagnosis(findings=(finding,), can_run=can_run, verdict="so it is")
    monkeypatch.setattr("pipeline.doctor.diagnose", lambda: diagnosis)
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == "ok        ffmpeg  7.1\nso it is\n"
    assert main(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["can_run"] is can_run


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "nightscale config"

"""What an error means to the person at the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import (
    AccuracyFailed,
    BackendUnavailable,
    BuildCancelled,
    BuildFailed,
    EngineError,
    ExportFailed,
    InferenceFailed,
    ModelFileError,
    OutOfDeviceMemory,
    UnknownModel,
    UnsupportedShape,
    WeightsError,
)
from pipeline.errors import (
    ConfigError,
    DamagedMedia,
    GraphFailed,
    MediaError,
    OutputError,
    PipelineError,
    SetupError,
    StallError,
    UnsupportedMedia,
    VerificationFailed,
)
from pipeline.show.explain import exit_code, explain, is_expected

PATH = Path("film.mkv")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(("x",)), 2),
        (SetupError("x", missing="ffmpeg"), 3),
        (OutputError("x", path=PATH), 1),
        (MediaError("x", path=PATH), 1),
        (UnsupportedMedia("x", path=PATH), 1),
        (DamagedMedia("x", path=PATH), 1),
        (VerificationFailed("x", path=PATH), 1),
        (StallError("x", states=()), 70),
        (PipelineError("x"), 1),
        (UnknownModel("x"), 2),
        (UnsupportedShape("x"), 2),
        (BackendUnavailable("x", missing="openvino"), 3),
        (WeightsError("x"), 3),
        (ModelFileError("x"), 2),
        (ExportFailed("x"), 1),
        (BuildFailed("x"), 1),
        (BuildCancelled("x"), 130),
        (AccuracyFailed("x"), 1),
        (OutOfDeviceMemory("x"), 1),
        (InferenceFailed("x"), 1),
        (EngineError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 70),
        (MemoryError(), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code
    if isinstance(error, Exception):
        assert exit_code(GraphFailed("run", [error, ValueError("later")])) == code


def test_a_known_error_is_its_text_and_its_hint() -> None:
    assert explain(MediaError("film.mkv: no such file", path=PATH, hint="check the path")) == (
        "error: film.mkv: no such file",
        "hint: check the path",
    )
    assert explain(EngineError("no")) == ("error: no",)


def test_a_cancelled_build_is_no_error() -> None:
    assert explain(BuildCancelled("the build was cancelled", hint="none")) == ("stopped: the build was cancelled",)


def test_every_problem_of_a_config_is_a_line() -> None:
    assert explain(ConfigError(("a.yaml:1: x", "a.yaml:2: y"), hint="z")) == (
        "error: a.yaml:1: x",
        "error: a.yaml:2: y",
        "hint: z",
    )


def test_a_failed_graph_is_its_first_member_with_stage_and_item() -> None:
    first = MediaError("bad packet", path=PATH)
    first.add_note("stage 'decode', after item 12")
    later = ValueError("closed")
    nested = GraphFailed("run", [GraphFailed("inner", [first]), later])
    assert explain(nested) == ("error: bad packet (stage 'decode', after item 12)",)
    assert is_expected(nested)


def test_anything_else_is_a_defect_and_says_so() -> None:
    assert explain(ValueError("x")) == (
        "error: internal error: ValueError: x",
        "hint: this is a defect of nightscale; please report it",
    )
    assert explain(AssertionError())[0] == "error: internal error: AssertionError"
    assert not is_expected(GraphFailed("run", [ValueError("x"), MediaError("y", path=PATH)]))


def test_no_line_can_steer_a_terminal() -> None:
    lines = explain(MediaError("a\nb\x1b[2J", path=PATH, hint="c\rd"))
    assert lines == (r"error: a\nb\x1b[2J", r"hint: c\rd")
    assert explain(MediaError("é", path=PATH), encoding="ascii") == (r"error: \xe9",)

"""The benchmark of encoders alone: every case is measured as it is named, through the pipeline's own encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.pictures import make_spec
from helpers.tool_modules import load_tool

from pipeline.encode import libav
from pipeline.errors import OutputError

bench = load_tool("bench_encoders")
FILM = Path(__file__).parents[2] / "configs/demo/big_buck_bunny.mp4"


def test_every_case_of_every_preset_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "WARM_UP_S", 0.1)
    seen = []
    set_up = libav.set_up

    def noted(context: Any, spec: Any, options: dict[str, str], **more: Any) -> None:
        set_up(context, spec, options, **more)
        seen.append((spec.preset, spec.threads, options.get("thread_type", ""), options.get("x264-params", "")))

    monkeypatch.setattr(libav, "set_up", noted)
    cases = [word for case in ("1x1", "2x1:slice:avx2", "1x2:avx512:copy") for word in ("--case", case)]
    presets = ["--preset", "ultrafast", "--preset", "superfast"]
    out = tmp_path / "result.json"
    sizes = ["--height", "90", "--ring", "4", "--seconds", "0.3", "--out", str(out)]
    assert bench.main([str(FILM), *cases, *presets, *sizes]) == 0
    found = json.loads(out.read_text())
    assert (found["height_px"], found["width_px"], found["ring_frames"]) == (90, 160, 4)
    measured = [(result["preset"], result["case"]) for result in found["results"]]
    assert measured == [
        (preset, case) for preset in ("ultrafast", "superfast") for case in ("1x1", "2x1:slice:avx2", "1x2:avx512:copy")
    ]
    assert all(result["fps"] > 0 and result["cpu_ms_per_frame"] > 0 for result in found["results"])
    assert len(seen) == 2 * (1 + 2 + 1)
    assert seen[1][:3] == seen[2][:3] == ("ultrafast", 1, "slice")
    assert "AVX2" in seen[1][3]
    assert seen[3][3].endswith("asm=auto")
    table = capsys.readouterr().out
    assert table.count("2x1:slice:avx2") == 2


def test_a_word_changes_what_it_names_and_nothing_else() -> None:
    spec = make_spec("libx264", preset="superfast", threads=9)
    assert bench.Case.parse("1x0").apply(spec).options == {}
    assert bench.Case.parse("1x0:frame").apply(spec).options == {"thread_type": "frame"}
    assert bench.Case.parse("3x5").apply(spec).threads == 5
    assert spec.encoder.copies_input
    assert not bench.Case.parse("1x0:copy").apply(spec).encoder.copies_input


@pytest.mark.parametrize("text", ["8", "0x4", "x", "4x4:fast", "axb"])
def test_a_case_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main([str(FILM), "--case", text])
    assert text in capsys.readouterr().err


def test_a_film_that_cannot_be_read_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    assert bench.main([str(tmp_path / "film.mp4")]) == 1
    assert "error:" in capsys.readouterr().err


def test_an_encoder_that_fails_ends_the_measurement_with_its_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, although the others go on."""
    monkeypatch.setattr(bench, "WARM_UP_S", 0.1)

    def refuse(*_arguments: object) -> None:
        raise OutputError("the disk is full", path=FILM)

    monkeypatch.setattr(libav.LibavEncoder, "write", refuse)
    assert bench.main([str(FILM), "--case", "2x1", "--height", "90", "--ring", "4", "--seconds", "0.1"]) == 1
    assert "the disk is full" in capsys.readouterr().err

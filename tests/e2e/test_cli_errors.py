"""The program as people start it: what goes wrong before any film is opened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def nightscale(*arguments: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text("input: {paths: [film.mkv]}\n")
    (tmp_path / "typo.yaml").write_text("input: {paths: [film.mkv]}\nencode:\n  qualty: 18\n")
    (tmp_path / "film.mkv").write_bytes(bytes(range(256)) * 16)
    (tmp_path / "empty.yaml").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "error: missing.yaml: no such file"),
        (["."], "error: .: is a folder, not a config file"),
        (["film.mkv"], "error: film.mkv: not a text file in UTF-8 (byte 128)"),
        (["empty.yaml"], "error: empty.yaml: the file is empty"),
        (["typo.yaml"], "error: typo.yaml:3: encode.qualty: unknown key; did you mean encode.quality?"),
        (["good.yaml", "--set", "scale.factor=-1"], "error: --set scale.factor: must be a number > 0"),
    ],
)
def test_a_wrong_config_is_exit_code_2_and_plain_words(folder: Path, arguments: list[str], words: str) -> None:
    result = nightscale("run", *arguments, folder=folder)
    assert result.returncode == 2
    assert result.stderr.startswith(words)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (folder / "out").exists()


def test_the_schema_goes_to_standard_output() -> None:
    result = nightscale("schema")
    assert result.returncode == 0
    assert json.loads(result.stdout)["properties"]["version"]["const"] == 1
    assert result.stderr == ""


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f'"{sys.executable}" -m pipeline schema | head -c 1; echo "${{PIPESTATUS[0]}}"'
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert result.stdout == "{0\n"
    assert result.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_nothing_breaks_without_standard_streams(closed: str) -> None:
    """Files that are opened must not get the number of a stream that libraries write to."""
    code = (
        "import os, sys; from pipeline.cli import main, open_missing_streams; open_missing_streams();"
        "assert os.open('/dev/null', os.O_RDONLY) > 2; sys.exit(main(['run', 'missing.yaml']))"
    )
    command = f'exec "{sys.executable}" -c "{code}" {closed}'
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert result.returncode == 2


def test_ctrl_c_is_exit_code_130_and_one_word(tmp_path: Path) -> None:
    fifo = tmp_path / "config.yaml"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(fifo)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    with fifo.open("w"):  # opens once the program reads its config, which then waits for text
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "stopped\n"

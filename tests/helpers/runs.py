"""Runs of the whole program, as a user starts them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main

ROOT = Path(__file__).resolve().parents[2]

FAST: dict[str, Any] = {
    "version": 1,
    "infer": {"model": "nearest-x2", "backend": "resize"},
    "output": {"dir": "out"},
    "run": {"progress": "plain", "isolate": False},
}
"""A whole run without a network, in this process."""


@dataclass(frozen=True)
class Ran:
    """What a run left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def outputs(self) -> list[Path]:
        """Paths printed on standard output."""
        return [Path(line) for line in self.out.splitlines()]

    @property
    def errors(self) -> list[str]:
        """The lines of standard error that name an error."""
        return [line for line in self.err.splitlines() if "error" in line.lower()]

    def report(self) -> dict[str, Any]:
        """The one report of the run."""
        (path,) = self.folder.rglob("*.report.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Mappings joined key by key, the later winning."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def write_config(folder: Path, *films: Path, **sections: Any) -> Path:
    """A config for some films, fast unless told otherwise."""
    config = merged(FAST, {"input": {"paths": [str(film) for film in films]}}, sections)
    if not films:
        del config["input"]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def run_films(capfd: pytest.CaptureFixture[str], folder: Path, *films: Path, **sections: Any) -> Ran:
    """``pipeline run`` in this process."""
    path = write_config(folder, *films, **sections)
    capfd.readouterr()
    code = main(["run", str(path)])
    out, err = capfd.readouterr()
    assert "Traceback" not in err, err
    return Ran(code=code, out=out, err=err, folder=folder)


def start_program(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """``python -m pipeline`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_segments(out: Path, program: subprocess.Popen[str], *, count: int = 1) -> None:
    """Wait until so many segments are being written: frames flow."""
    deadline = time.monotonic() + 120
    while len(list(out.glob(".*.work/seg-*.part"))) < count:
        assert time.monotonic() < deadline, f"{count} segments were not begun within 120 s"
        assert program.poll() is None, "the run is over"
        time.sleep(0.05)


def interrupt_twice(program: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """Send a signal, once more when the program has answered it (two at once may arrive as one), and wait.

    Returns:
        What it wrote to standard output, and to standard error after its first answer.
    """
    assert program.stderr is not None
    program.send_signal(number)
    for line in program.stderr:
        if line.startswith("stopping after the segment"):
            break
    program.send_signal(number)
    return program.communicate(timeout=120)


def leftovers(folder: Path) -> list[str]:
    """What a run left beside reports and its own folder: nothing, if it failed."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".report.json") and ".nightscale" not in path.parts
    )

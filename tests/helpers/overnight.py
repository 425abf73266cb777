"""Small runs of the whole program for the tests of a night, and what an undisturbed one makes of their films."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.tool_modules import load_tool

soak_runs = load_tool("soak_runs")
soak_truth = load_tool("soak_truth")
SoakFailure = soak_runs.SoakFailure
wait_for = soak_runs.wait_for


@dataclass(frozen=True)
class Undisturbed:
    """A film, and what becomes of it if nothing happens."""

    film: Path
    fingerprint: Any


def undisturbed(folder: Path, *, frame_count: int, size: int = 64, seed: int = 1) -> Undisturbed:
    """Make a film and run it once, undisturbed."""
    folder.mkdir()
    film = soak_truth.make_film(folder / f"film{seed}.mkv", frame_count=frame_count, height=size, width=size, seed=seed)
    place = soak_runs.Place(folder, (film,))
    ending = place.start().wait()
    assert ending.code == 0, ending.err
    found = soak_truth.fingerprint(place.result_of(film))
    assert found["frames"] == str(frame_count)
    return Undisturbed(film, found)


def make_place(folder: Path, *films: Path, names: Sequence[str] = (), **settings: Any) -> Any:
    """A folder with copies of films and a config for them."""
    (folder / "films").mkdir(parents=True)
    copies = []
    for index, film in enumerate(films):
        copies.append(folder / "films" / (names[index] if names else film.name))
        shutil.copy2(film, copies[-1])
    return soak_runs.Place(folder, tuple(copies), settings)


def assert_result(place: Any, film: Path, truth: Undisturbed) -> None:
    """A film's result is the undisturbed one, every frame and packet."""
    found = soak_truth.fingerprint(place.result_of(film))
    assert soak_truth.differing_parts(found, truth.fingerprint) == []


def assert_clean(place: Any) -> None:
    """No process and nothing temporary is left."""
    place.expect_alone()
    assert place.leftovers() == []


def statuses(place: Any, program: Any) -> dict[str, str]:
    """What became of each film of a run, by name."""
    return {job["name"]: job["status"] for job in place.summary(program)["jobs"]}


def hook_into(file: Path) -> str:
    """A command that appends the JSON that it gets, as a line, to a file."""
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(_APPEND)} {shlex.quote(os.fspath(file))}"


_APPEND = "import sys, json; open(sys.argv[1], 'a').write(json.dumps(json.load(sys.stdin)) + chr(10))"


def lines_of(file: Path) -> list[Any]:
    """What hooks have appended."""
    return [json.loads(line) for line in file.read_text().splitlines()]

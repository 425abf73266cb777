"""Small films in five containers, ways of damaging them by chance, and a process that upscales many of them in turn."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from helpers.runs import ROOT, write_config
from helpers.table_material import Material, transcode, x264

CONTAINERS = ("mkv", "mp4", "ts", "webm", "avi")
FRAMES = 12
LIMIT_S = 30.0
"""A film of twelve pictures takes half a second; what takes this long hangs."""


@dataclass(frozen=True)
class Ending:
    """What became of one damaged film."""

    film: Path
    damage: str
    """What was done to it, in words."""
    code: int
    """Exit code of its run; negative: the process died or was killed."""
    err: str
    """What the run said."""
    status: str
    """Of its report; empty without one."""
    frames: int
    """In the report."""
    errors: tuple[str, ...]
    """In the report."""
    warnings: tuple[str, ...]
    """In the report."""
    outputs: tuple[str, ...]
    """Names in the output folder, reports left out."""
    rss_bytes: int
    """Resident memory of the process after it."""


def write_whole(material: Material, container: str) -> Path:
    """A film with B-frames where the container has them, and sound, in key frames of six pictures."""
    options = {
        "webm": (("-c:v", "libvpx-vp9", "-b:v", "1M", "-g", "6"), "libopus"),
        "avi": (("-c:v", "mpeg4", "-q:v", "3", "-g", "6", "-bf", "2"), "libmp3lame"),
    }
    video, sound = options.get(container, (x264("-bf", "2", "-g", "6"), "aac"))
    return material.part(f"whole.{container}", lambda path: transcode(material, path, *video, with_sound=sound))


def damage(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Bits flipped, the end cut off, or a run of zeros; and what was done."""
    changed = bytearray(content)
    kind = ("flips", "cut", "zeros")[rng.integers(3)]
    if kind == "cut":
        length = int(rng.integers(1, len(content)))
        return content[:length], f"cut after {length} of {len(content)} bytes"
    if kind == "zeros":
        start = int(rng.integers(len(content)))
        stop = min(len(content), start + int(rng.integers(1, max(2, len(content) // 8))))
        changed[start:stop] = bytes(stop - start)
        return bytes(changed), f"zeros from {start} to {stop} of {len(content)}"
    places = rng.integers(8 * len(content), size=int(rng.integers(1, 33)))
    for place in places:
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed), f"{len(places)} bits flipped in {len(content)} bytes"


def write_damaged(material: Material, folder: Path, *, count: int, seed: int) -> list[tuple[Path, str]]:
    """``count`` damaged films, the containers in turn, each in a folder of its own with a config."""
    rng = np.random.default_rng(seed)
    films = []
    for number in range(count):
        container = CONTAINERS[number % len(CONTAINERS)]
        content, words = damage(write_whole(material, container).read_bytes(), rng)
        home = folder / f"{number:03d}"
        home.mkdir()
        film = home / f"film.{container}"
        film.write_bytes(content)
        write_config(home, film, encode={"kind": "libx264", "preset": "ultrafast", "threads": 1})
        films.append((film, words))
    return films


def upscale_all(films: list[tuple[Path, str]]) -> Iterator[Ending]:
    """Upscale one film after another in one process; one that dies or hangs is ended, and another takes its place."""
    waiting = list(films)
    while waiting:
        worker = _start([film for film, _ in waiting])
        try:
            while waiting:
                film, words = waiting[0]
                line = _read_line(worker.stdout, LIMIT_S)
                if line is None:
                    worker.kill()
                del waiting[0]
                yield _ending(film, words, json.loads(line) if line else None, code=None if line else worker.wait())
                if not line:
                    break
        finally:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdout,):
                if pipe is not None:
                    pipe.close()


def run_here(films: list[str]) -> None:
    """The other process: run each film's config, and say on standard output how it went."""
    import contextlib
    import io

    from pipeline.cli import main

    answers = os.fdopen(os.dup(1), "w")
    for film in films:
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = main(["run", str(Path(film).parent / "config.yaml")])
        answers.write(json.dumps({"code": code, "err": said.getvalue(), "rss_bytes": _rss_bytes()}) + "\n")
        answers.flush()


def _start(films: list[Path]) -> subprocess.Popen[bytes]:
    program = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'tests')!r}, {str(ROOT)!r}]\n"
        "from helpers.damaged_films import run_here\n"
        "run_here(sys.argv[1:])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, films)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )


def _read_line(pipe: IO[bytes] | None, limit_s: float) -> bytes | None:
    """The next line; empty at the end; None if none came in time."""
    assert pipe is not None
    stop_s = time.monotonic() + limit_s
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, stop_s - time.monotonic()))
        if not ready:
            return None
        piece = os.read(pipe.fileno(), 1 << 16)
        if not piece:
            return b""
        line += piece
    return line


def _ending(film: Path, words: str, answer: dict[str, Any] | None, *, code: int | None) -> Ending:
    folder = film.parent / "out"
    reports = list(folder.glob("*.report.json"))
    report = json.loads(reports[0].read_text()) if reports else {}
    outputs = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".report.json") and ".nightscale" not in path.parts
    )
    return Ending(
        film=film,
        damage=words,
        code=answer["code"] if answer is not None else -(abs(code) if code else signal.SIGKILL),
        err=answer["err"] if answer is not None else "",
        status=report.get("status", ""),
        frames=report.get("frames_done") or 0,
        errors=tuple(str(error) for error in report.get("errors", ())),
        warnings=tuple(report.get("warnings", ())),
        outputs=tuple(outputs),
        rss_bytes=answer["rss_bytes"] if answer is not None else 0,
    )


def _rss_bytes() -> int:
    """Resident memory of this process. Source: proc(5), statm's second field, in pages."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

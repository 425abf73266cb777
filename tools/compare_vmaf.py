"""VMAF of two films, by an ffmpeg that was built with libvmaf."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from pipeline.assembly.ffmpeg import find_ffmpeg, run_ffmpeg
from pipeline.errors import PipelineError
from tools.compare_pairs import PairedFilms

MODEL = "vmaf_v0.6.1"
"""libvmaf's default model: a 1080p screen seen from three times its height."""


class NoVmaf(PipelineError):
    """It cannot be measured here."""


def measure_vmaf(films: PairedFilms, *, frame_count: int, threads: int) -> list[float]:
    """Score of each frame, 0 to 100, the first of A with the first of B and so on, whatever their times.

    ffmpeg decodes both films itself.

    Args:
        films: What to compare.
        frame_count: Frames that both have.
        threads: Of libvmaf.

    Raises:
        NoVmaf: There is no ffmpeg with libvmaf, the films are pictures, or it failed.
    """
    if films.a.pictures is not None or films.b.pictures is not None:
        raise NoVmaf("pictures have none")
    try:
        program = find_ffmpeg()
    except PipelineError as exc:
        raise NoVmaf(str(exc)) from exc
    if not has_libvmaf(program.path):
        raise NoVmaf(f"{program.path.name} {program.version} is built without libvmaf")
    video = films.a.video
    size = f",scale={video.width}:{video.height}:flags=lanczos" if films.is_converted else ""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "vmaf.json"
        graph = (
            f"[0:{films.b.video.index}]settb=1/1000,setpts=N*40{size}[b];"
            f"[1:{video.index}]settb=1/1000,setpts=N*40[a];"
            f"[b][a]libvmaf=model=version\\={MODEL}:n_threads={threads}:log_fmt=json:log_path={_escaped(log)}:shortest=1"
        )
        sources = [word for info in (films.b, films.a) for word in ("-noautorotate", "-i", f"file:{info.path}")]
        output = ["-fps_mode", "passthrough", "-frames:v", str(frame_count), "-f", "null", "-"]
        try:
            run_ffmpeg(program, [*sources, "-lavfi", graph, *output], output=log)
            frames = json.loads(log.read_text(encoding="utf-8"))["frames"]
        except (PipelineError, OSError, ValueError, KeyError) as exc:
            raise NoVmaf(f"ffmpeg failed: {exc}") from exc
    return [float(frame["metrics"]["vmaf"]) for frame in frames[:frame_count]]


def has_libvmaf(program: Path) -> bool:
    """Whether an ffmpeg knows the filter."""
    done = subprocess.run(
        [str(program), "-hide_banner", "-filters"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return re.search(r"^\s*\S+\s+libvmaf\s", done.stdout, flags=re.MULTILINE) is not None


def _escaped(path: Path) -> str:
    """A file name as the value of an option in a filter graph.

    Source: ffmpeg-filters, "Notes on filtergraph escaping".
    """
    as_value = re.sub(r"([\\':])", r"\\\1", str(path))
    return re.sub(r"([\\'\[\],;])", r"\\\1", as_value)

"""The same film through this project and every other program found: speed, start, memory, and what became of it.

    python tools/bench_peers.py FILM [--model NAME] [--frames N] [--height PX] [--repeat N] [--peer NAME ...]
        [--preset P] [--crf N] [--device cpu|cuda] [--vspipe PATH] [--limit S] [--within S] [--out DIR] [--list]

All get the same clip (H.264 without sound, cut from FILM), the same network at its own scale, and libx264 with the same
preset and CRF. They run in turns, ``--repeat`` times, each over a clip of one frame and over the whole clip: the first
says what a run costs before and after its frames, the difference what a frame costs (``steady``). Before that each has
run once over one frame (``first use``): what compiles or chooses kernels keeps them. Memory is that of all processes of
a program together. Every result is decoded and compared with this project's float32 result: size, number
of frames, PSNR of luma; below 35 dB something else was computed.

Written to ``--out`` (``peers-<film>``): ``peers.json``, anew after every program's turn, ``peers.png`` and the results.
``--within`` ends it all in time: what has not begun by then is left out. ``--list`` says what is found.

VapourSynth with the OpenVINO filter: ``python3.12 -m venv vs; vs/bin/pip install vapoursynth vapoursynth-mlrt-ov
vapoursynth-bestsource; vs/bin/vapoursynth config``, then ``--vspipe vs/bin/vspipe``.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import EngineError
from engines.models import find_model
from engines.networks import GraphOptions, load_network
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.errors import PipelineError
from pipeline.host import probe_host, probe_versions
from pipeline.probe import probe_media
from tools.compare_films import compare
from tools.compare_pairs import PairedFilms
from tools.film_clip import describe_clip, make_clip
from tools.peers_programs import all_peers
from tools.peers_run import PeerFailed, Taken, run_steps
from tools.peers_table import Row, plot, table
from tools.peers_task import Peer, Task

LEAST_PSNR_DB = 35.0
"""Two encodings of one picture with CRF 18 are above 40 dB apart, roundings to 8-bit RGB in between included; another
network, or one of another range or matrix, is far below (see README of results)."""
REFERENCE = "nightscale, fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured."""

    task: Task
    """For the whole clip; its clip, result and folder are replaced for each run."""
    short: Path
    """The clip of one frame."""
    frames: int
    limit_s: float
    until_s: float = math.inf
    """When no run begins any more and the last one is ended, ``time.monotonic`` seconds."""

    @property
    def left_s(self) -> float:
        """What a run may take that begins now."""
        return max(0.0, min(self.limit_s, self.until_s - time.monotonic()))


def run_once(peer: Peer, bench: Bench, *, clip: Path, result: Path) -> Taken:
    """One film through one program.

    Raises:
        PeerFailed: It failed, or left no result.
    """
    with tempfile.TemporaryDirectory(dir=result.parent) as name:
        folder = Path(name)
        made = folder / "made.mp4"  # in a folder of its own: nothing that an earlier run left is found and gone on with
        task = replace(bench.task, clip=clip, result=made, folder=folder)
        taken = run_steps(peer.steps(task), folder=folder, limit_s=bench.left_s)
        if not made.is_file():
            raise PeerFailed("it ended well and left no result")
        made.replace(result)
    return taken


def run_in_turns(
    peers: Sequence[Peer],
    rows: Sequence[Row],
    bench: Bench,
    *,
    repeat: int,
    out: Path,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """Fill the rows of all that are there, and ``keep`` them after each; one that fails takes no further part."""
    for turn in range(repeat):
        for peer, row in zip(peers, rows, strict=True):
            if row.missing or row.failure:
                continue
            if bench.left_s <= 0:
                row.missing = "" if row.long else "there was no time left"
                continue
            print(f"turn {turn + 1} of {repeat}: {row.name}", file=sys.stderr, flush=True)
            try:
                if row.first_use is None:
                    row.first_use = run_once(peer, bench, clip=bench.short, result=out / "one.mp4")
                row.short.append(run_once(peer, bench, clip=bench.short, result=out / "one.mp4"))
                row.long.append(run_once(peer, bench, clip=bench.task.clip, result=out / f"{file_name(row.name)}.mp4"))
            except PeerFailed as exc:
                if not (row.long and bench.left_s <= 0):  # what it made in earlier turns counts
                    row.failure = str(exc)
            keep()
    (out / "one.mp4").unlink(missing_ok=True)


def check_results(rows: Sequence[Row], bench: Bench, *, out: Path) -> None:
    """Say in the rows what is wrong with each result, and how near it is to the reference's."""
    reference = out / f"{file_name(REFERENCE)}.mp4"
    for row in rows:
        if row.failure or not row.long:
            continue
        result = out / f"{file_name(row.name)}.mp4"
        try:
            if row.name == REFERENCE or not reference.is_file():
                video = probe_media(result).video
                found, size = video.frame_count_from_header, (video.height, video.width)
                if size != (bench.task.scale * bench.task.height, bench.task.scale * bench.task.width):
                    row.flaw = f"it is {size[1]}x{size[0]}"
                elif found != bench.frames:
                    row.flaw = f"it has {found} frames of {bench.frames}"
                continue
            judged = compare(PairedFilms(reference, result), wants_vmaf=False, worst_count=1)
        except PipelineError as exc:
            row.flaw = str(exc)
            continue
        row.psnr_db = min(judged.figures.psnr_planes_db[0], 999.0)
        if judged.count_b != bench.frames:
            row.flaw = f"it has {judged.count_b} frames of {bench.frames}"
        elif row.psnr_db < LEAST_PSNR_DB:
            row.flaw = "another picture"


def file_name(name: str) -> str:
    """A row's name as one that every file system takes."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def prepare(arguments: argparse.Namespace, out: Path) -> Bench:
    """Cut the clips, write the graph.

    Raises:
        PipelineError: The film cannot be read, or there is no ffmpeg.
        EngineError: There is no such model.
    """
    model = find_model(arguments.model)
    clip, short = out / "clip.mp4", out / "clip-one.mp4"
    make_clip(arguments.film, clip, frame_count=arguments.frames, height=arguments.height)
    make_clip(arguments.film, short, frame_count=1, height=arguments.height)
    video = probe_media(clip).video
    onnx = out / f"{model.name}.onnx"
    graph = load_network(model).graph(GraphOptions(batch=1, height=video.height, width=video.width))
    onnx.write_bytes(graph.SerializeToString())
    rate = video.average_rate
    matrix = video.format.matrix
    task = Task(
        clip=clip,
        result=out / "result.mp4",
        folder=out,
        model=model.name,
        onnx=onnx,
        scale=model.scale,
        height=video.height,
        width=video.width,
        rate="25/1" if rate is None else f"{rate.numerator}/{rate.denominator}",
        matrix="bt709" if matrix == "bt709" else "smpte170m",
        device=arguments.device,
        preset=arguments.preset,
        crf=arguments.crf,
        ffmpeg=str(find_ffmpeg().path),
    )
    until_s = time.monotonic() + arguments.within
    return Bench(task=task, short=short, frames=arguments.frames, limit_s=arguments.limit, until_s=until_s)


def choose(peers: Sequence[Peer], names: Sequence[str]) -> list[Peer]:
    """Those whose names begin as asked for; all if nothing was.

    Raises:
        PipelineError: Nobody has a name like that.
    """
    for name in names:
        if not any(peer.name.lower().startswith(name.lower()) for peer in peers):
            known = ", ".join(repr(peer.name) for peer in peers)
            raise PipelineError(f"no program here is called {name!r}", hint=f"known are {known}; the beginning will do")
    wanted = [name.lower() for name in names] or [""]
    return [peer for peer in peers if any(peer.name.lower().startswith(name) for name in wanted)]


def describe(bench: Bench, arguments: argparse.Namespace) -> dict[str, object]:
    """What is measured, and on what."""
    task = bench.task
    return {
        "film": arguments.film.name,
        "clip": describe_clip(frame_count=bench.frames, height=arguments.height),
        "model": task.model,
        "size": f"{task.width}x{task.height} to {task.scale * task.width}x{task.scale * task.height}",
        "encoder": f"libx264 {task.preset} CRF {task.crf}",
        "device": task.device,
        "repeat": arguments.repeat,
        "host": probe_host(),
        "versions": probe_versions(ffmpeg=Path(task.ffmpeg)),
    }


def write_report(path: Path, about: dict[str, object], rows: Sequence[Row], *, is_over: bool) -> None:
    """Write all that was measured so far.

    Args:
        path: Replaced as a whole.
        about: From `describe`.
        rows: Of all programs.
        is_over: Whether all have run, and their results were compared.
    """
    found = [
        asdict(row) | ({"fps": row.fps, "steady_fps": row.steady_fps, "first_s": row.first_s} if row.long else {})
        for row in rows
    ]
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**about, "is_over": is_over, "rows": found}, indent=2, default=str) + "\n")
    part.replace(path)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--model", default="realesr-animevideov3")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--height", type=int, metavar="PX", help="of the clip (default: the film's)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME", help="the beginning of a name will do")
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--crf", type=int, default=18)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--vspipe", metavar="PATH")
    parser.add_argument("--limit", type=float, default=600.0, metavar="S", help="when a run is ended by force")
    parser.add_argument("--within", type=float, default=math.inf, metavar="S", help="when no other run is begun")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--list", action="store_true", help="say what is found, and run nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = make_parser().parse_args(argv)
    vspipe = None if arguments.vspipe is None else str(Path(arguments.vspipe).absolute())
    try:
        if arguments.frames < 2 or arguments.repeat < 1:
            raise PipelineError("--frames is at least 2 and --repeat at least 1", hint="leave them out for 48 and 3")
        peers = choose(all_peers(vspipe=vspipe), arguments.peer)
        rows = []
        for peer in peers:
            found = peer.find(device=arguments.device, model=find_model(arguments.model).name)
            rows.append(Row(name=peer.name, version=found.version, missing=found.missing, remark=peer.remark))
        if arguments.list:
            print("\n".join(f"{row.name:34} {row.missing or row.version}" for row in rows))
            return 0
        out = (arguments.out or Path(f"peers-{arguments.film.stem}")).absolute()
        out.mkdir(parents=True, exist_ok=True)
        bench = prepare(arguments, out)
        for row in rows:
            row.frames = bench.frames
        about = describe(bench, arguments)

        def keep(*, is_over: bool = False) -> None:
            write_report(out / "peers.json", about, rows, is_over=is_over)

        run_in_turns(peers, rows, bench, repeat=arguments.repeat, out=out, keep=keep)
        check_results(rows, bench, out=out)
    except (PipelineError, EngineError) as exc:
        print(f"{exc}" + (f"\n  hint: {exc.hint}" if exc.hint else ""), file=sys.stderr)
        return 1
    print("\n".join(table(rows)))
    keep(is_over=True)
    if any(row.long for row in rows):
        title = f"{about['film']}, {about['model']}, {about['size']}, {about['encoder']}"
        plot(rows, out / "peers.png", title=title)
    return 0 if all(not row.failure and not row.flaw for row in rows) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends the program that runs, too
    sys.exit(main())

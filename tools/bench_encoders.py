"""How fast encoders are alone: how many side by side, with how many threads of which kind, and what bounds them.

    python tools/bench_encoders.py FILM [--height PX] [--preset NAME ...] [--case CASE ...] [--seconds S]
        [--codec NAME] [--quality N] [--ring N] [--out RESULT.json]

The film's first frames are enlarged and kept in memory, in buffers like those of the pipeline's pools, and go through
the pipeline's own encoder class, forwards and backwards, without any other stage. Each encoder has a thread that feeds
it and writes a file of its own in the folder for temporary files. A case runs for a fixed time; what is counted are the
frames taken between its warm-up and its end, so that neither filling nor emptying is in the figures.

A case is ``LANESxTHREADS[:WORD...]``: encoders side by side, and threads of each (0: its own choice). Words:

frame, slice  libav's ``thread_type``; without one, what the pipeline sets
avx512        libx264 with all instructions that the processor has, where the pipeline leaves AVX-512 out
avx2          libx264 without AVX-512
copy          pictures are copied into memory of libav's even where they could be lent

Columns: frames per second; cores busy; processor time per frame; its share in the kernel; its share in the threads
that feed the encoders (which is all that is not the encoder's own threads: Python, copies, the encoder's entry, the
file); pages of memory touched for the first time, per frame.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import Interpolation

from pipeline.encode import ENCODERS, EncodeSpec, open_encoder
from pipeline.errors import PipelineError
from pipeline.frames import ColourTags, Frame, FrameStamp, SampleFormat
from pipeline.host import probe_host, probe_versions
from pipeline.stages import planes_in

CASES = ("1x0", "1x0:slice", "2x12", "4x6", "4x6:slice", "8x4", "8x4:slice", "8x4:avx512", "8x4:copy", "16x2")
"""What 16 cores are asked: one encoder, and more of them that share the cores, with either kind of threads."""
WORDS = ("frame", "slice", "avx512", "avx2", "copy")
WARM_UP_S = 1.5
"""Every encoder's lookahead and threads are filled by then, at 2160p too."""
LOOK_EVERY_S = 0.01
TICKS_PER_FRAME = 512
RATE = Fraction(24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Encoders side by side."""

    name: str
    lanes: int
    threads: int
    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read ``LANESxTHREADS[:WORD...]``. Raises ValueError for anything else."""
        numbers, *words = text.split(":")
        lanes, _, threads = numbers.partition("x")
        if not (lanes.isdigit() and threads.isdigit() and int(lanes)):
            raise ValueError(f"{text!r} is not LANESxTHREADS, as 8x4")
        for word in words:
            if word not in WORDS:
                raise ValueError(f"{text!r}: {word!r} is none of {', '.join(WORDS)}")
        return cls(name=text, lanes=int(lanes), threads=int(threads), words=tuple(words))

    def apply(self, spec: EncodeSpec) -> EncodeSpec:
        """The settings of one of the encoders."""
        options = dict(spec.options)
        for kind in ("frame", "slice"):
            if kind in self.words:
                options["thread_type"] = kind
        if "avx512" in self.words:
            options["x264-params"] = "asm=auto"  # what libx264 finds; of two settings the last one counts
        if "avx2" in self.words:
            options["x264-params"] = ":".join(f"{key}={value}" for key, value in spec.encoder.avx512_params)
        encoder = replace(spec.encoder, copies_input=False) if "copy" in self.words else spec.encoder
        return replace(spec, encoder=encoder, threads=self.threads, options=options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Counters of the process at one moment."""

    at_s: float
    frames: int
    cpu_s: float
    kernel_s: float
    feeding_s: float
    """Processor time of the threads that feed the encoders."""
    new_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a case reached."""

    preset: str
    case: str
    fps: float
    cores_busy: float
    cpu_ms_per_frame: float
    kernel_share: float
    """Of the processor time."""
    feeding_share: float
    """Of the processor time."""
    new_pages_per_frame: float


def make_ring(film: Path, *, height: int, count: int) -> list[Frame]:
    """A film's first frames, enlarged, in 8-bit 4:2:0.

    Args:
        film: What is decoded; its first video stream.
        height: Of the frames, pixels; their width follows, rounded to even.
        count: Frames at most.

    Raises:
        av.FFmpegError: The film cannot be read.
    """
    sample_format = SampleFormat(matrix="bt709")
    frames = []
    with av.open(str(film)) as container:
        for index, picture in enumerate(itertools.islice(container.decode(video=0), count)):
            width = round(picture.width * height / picture.height / 2) * 2
            large = picture.reformat(
                width=width, height=height, format="yuv420p", interpolation=Interpolation.LANCZOS, threads=0
            )
            buffer = np.empty(sample_format.frame_bytes(height=height, width=width), dtype=np.uint8)
            planes = planes_in(buffer, sample_format, height=height, width=width)
            for target, plane in zip(planes, large.planes, strict=True):
                rows = np.frombuffer(cast(Any, plane), dtype=np.uint8).reshape(plane.height, plane.line_size)
                target[...] = rows[:, : target.shape[1]]
            stamp = FrameStamp(index=index, pts=index * TICKS_PER_FRAME, duration=TICKS_PER_FRAME)
            frames.append(Frame(stamp=stamp, format=sample_format, height=height, width=width, planes=planes))
    return frames


def measure(case: Case, spec: EncodeSpec, ring: Sequence[Frame], *, seconds: float) -> Result:
    """Run a case.

    Args:
        case: How many encoders, with which threads.
        spec: Of each, but for what the case says.
        ring: Frames of the spec's size.
        seconds: To measure, after `WARM_UP_S`.
    """
    own = case.apply(spec)
    frames, feeding_s = [0] * case.lanes, [0.0] * case.lanes
    stop = threading.Event()

    def feed(lane: int, path: Path) -> None:
        encoder = open_encoder(path, own)
        try:
            for frame in _endless(ring):
                if stop.is_set():
                    return
                encoder.write(frame)
                frames[lane] += 1
                feeding_s[lane] = time.thread_time()
        finally:
            encoder.close()

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(case.lanes) as lanes:
        fed = [lanes.submit(feed, lane, Path(folder) / f"{lane}.part") for lane in range(case.lanes)]
        try:
            _pass(WARM_UP_S, frames, fed)
            start = _read(frames, feeding_s)
            _pass(seconds, frames, fed)
            end = _read(frames, feeding_s)
        finally:
            stop.set()
        for future in fed:
            future.result()
    return _compare(case, start, end, preset=own.preset or own.encoder.default_preset)


def _pass(seconds: float, frames: Sequence[int], fed: Sequence[Future[None]]) -> None:
    """Let time pass, and more of it until every encoder has taken a frame meanwhile or one has failed."""
    before = tuple(frames)
    time.sleep(seconds)
    while any(now == then for now, then in zip(frames, before, strict=True)) and not any(lane.done() for lane in fed):
        time.sleep(LOOK_EVERY_S)


def _endless(ring: Sequence[Frame]) -> Iterator[Frame]:
    """The frames forwards and backwards without a cut, with times that go on."""
    order = [*ring, *ring[-2:0:-1]]
    for index, frame in enumerate(itertools.cycle(order)):
        stamp = FrameStamp(index=index, pts=index * TICKS_PER_FRAME, duration=TICKS_PER_FRAME)
        yield replace(frame, stamp=stamp)


def _read(frames: Sequence[int], feeding_s: Sequence[float]) -> Reading:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Reading(
        at_s=time.perf_counter(),
        frames=sum(frames),
        cpu_s=usage.ru_utime + usage.ru_stime,
        kernel_s=usage.ru_stime,
        feeding_s=sum(feeding_s),
        new_pages=usage.ru_minflt,
    )


def _compare(case: Case, start: Reading, end: Reading, *, preset: str) -> Result:
    frames = end.frames - start.frames
    cpu_s, wall_s = end.cpu_s - start.cpu_s, end.at_s - start.at_s
    return Result(
        preset=preset,
        case=case.name,
        fps=frames / wall_s,
        cores_busy=cpu_s / wall_s,
        cpu_ms_per_frame=cpu_s / frames * 1e3,
        kernel_share=(end.kernel_s - start.kernel_s) / cpu_s,
        feeding_share=(end.feeding_s - start.feeding_s) / cpu_s,
        new_pages_per_frame=(end.new_pages - start.new_pages) / frames,
    )


def table(results: Sequence[Result]) -> Iterator[str]:
    """The figures in lines; the gain is over the first case of the same preset."""
    yield (
        f"{'preset':10} {'encoders x threads':18} {'fps':>7} {'gain':>5} {'cores':>6} {'CPU ms':>7} {'kernel':>7} "
        f"{'feeding':>8} {'pages':>7}"
    )
    for preset, group in itertools.groupby(results, key=lambda result: result.preset):
        first, *others = group
        for result in (first, *others):
            yield (
                f"{preset:10} {result.case:18} {result.fps:7.1f} {result.fps / first.fps:5.2f} "
                f"{result.cores_busy:6.1f} {result.cpu_ms_per_frame:7.1f} {result.kernel_share:7.1%} "
                f"{result.feeding_share:8.1%} {result.new_pages_per_frame:7.0f}"
            )


def main(argv: list[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--height", type=int, default=2160, help="of the frames, pixels (default 2160)")
    parser.add_argument("--codec", default="libx264", choices=sorted(ENCODERS), help="encoder (default libx264)")
    parser.add_argument("--preset", action="append", help="can be repeated (default superfast and veryfast)")
    parser.add_argument("--case", action="append", help=f"can be repeated (default {' '.join(CASES)})")
    parser.add_argument("--quality", type=float, help="default: the pipeline's")
    parser.add_argument("--seconds", type=float, default=4.5, help="to measure each case (default 4.5)")
    parser.add_argument("--ring", type=int, default=24, help="frames in memory (default 24)")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args(argv)
    try:
        cases = [Case.parse(text) for text in arguments.case or CASES]
    except ValueError as exc:
        parser.error(str(exc))
    try:
        ring = make_ring(arguments.film, height=arguments.height, count=arguments.ring)
        results = []
        for preset in arguments.preset or ("superfast", "veryfast"):
            spec = EncodeSpec(
                encoder=ENCODERS[arguments.codec],
                height=ring[0].height,
                width=ring[0].width,
                format=ring[0].format,
                tags=ColourTags(matrix=1, primaries=1, transfer=1, full_range=False),
                time_base=1 / (RATE * TICKS_PER_FRAME),
                average_rate=RATE,
                quality=arguments.quality,
                preset=preset,
            )
            results += [measure(case, spec, ring, seconds=arguments.seconds) for case in cases]
    except (PipelineError, av.FFmpegError, OSError, ValueError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    described = {
        "film": arguments.film.name,
        "codec": arguments.codec,
        "height_px": ring[0].height,
        "width_px": ring[0].width,
        "ring_frames": len(ring),
        "seconds": arguments.seconds,
        "host": probe_host(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "versions": probe_versions(ffmpeg=None),
        "results": [asdict(result) for result in results],
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

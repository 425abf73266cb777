"""How fast a backend runs a model, with nothing around it.

    python tools/bench_engines.py --backend openvino --tile 272x640 --seconds 5

Prints one line per combination of the lists given (``--tile 128x128,256x256 --batch 1,4``): Mpx/s of input, frames per
second of that size, and the arithmetic rate of the network. Every figure is the best of ``--repeat`` measurements
taken in turns, because other programs on the machine only ever make a measurement slower.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from dataclasses import asdict, dataclass

from engines import BACKENDS, DEFAULT_MODEL, MODELS, EngineError, Runner, open_runner
from engines.measure import measure_throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the result."""

    model: str
    backend: str
    device: str
    precision: str
    height: int
    width: int
    scale: int
    batch: int
    threads: int
    slots: int
    mpx_per_s: float
    tiles_per_s: float
    tflop_per_s: float


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _sizes(text: str) -> list[tuple[int, int]]:
    pairs = [part.split("x") for part in text.split(",")]
    return [(int(height), int(width)) for height, width in pairs]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, choices=list(MODELS))
    parser.add_argument("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)}; a comma list compares")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16, bf16; a comma list compares")
    parser.add_argument("--tile", type=_sizes, default=[(272, 640)], help="HEIGHTxWIDTH in input pixels, comma list")
    parser.add_argument("--batch", type=_integers, default=[1], help="tiles per call, comma list")
    parser.add_argument("--threads", type=_integers, default=[0], help="CPU threads, 0 = all, comma list")
    parser.add_argument("--slots", type=_integers, default=[0], help="calls in flight, 0 = default, comma list")
    parser.add_argument("--output-scale", type=_integers, default=[0], help="enlargement, 0 = the model's, comma list")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each combination, taken in turns")
    parser.add_argument("--json", action="store_true", help="one JSON array on stdout")
    return parser.parse_args(argv)


def measure_all(arguments: argparse.Namespace) -> list[Figure]:
    """Open all combinations, then measure them in turns."""
    combinations = itertools.product(
        arguments.backend.split(","),
        arguments.precision.split(","),
        arguments.tile,
        arguments.batch,
        arguments.threads,
        arguments.slots,
        arguments.output_scale,
    )
    with contextlib.ExitStack() as stack:
        runners: list[tuple[Runner, int]] = []
        for backend, precision, (height, width), batch, threads, slots, scale in combinations:
            runner = open_runner(
                model=arguments.model,
                backend=backend,
                precision=precision,
                height=height,
                width=width,
                batch=batch,
                threads=threads,
                slots=slots,
                output_scale=scale or None,
            )
            runners.append((stack.enter_context(runner), threads))
        best: dict[int, Figure] = {}
        for _ in range(arguments.repeat):
            for index, (runner, threads) in enumerate(runners):
                figure = _measure(runner, threads=threads, seconds=arguments.seconds)
                if index not in best or figure.mpx_per_s > best[index].mpx_per_s:
                    best[index] = figure
    return list(best.values())


def _measure(runner: Runner, *, threads: int, seconds: float) -> Figure:
    rate = measure_throughput(runner, seconds=seconds)
    spec = runner.spec
    return Figure(
        model=spec.model.name,
        backend=spec.backend,
        device=spec.device,
        precision=spec.precision,
        height=spec.height,
        width=spec.width,
        scale=spec.scale,
        batch=spec.batch,
        threads=threads,
        slots=spec.slots,
        mpx_per_s=rate.px_per_s / 1e6,
        tiles_per_s=rate.tiles_per_s,
        tflop_per_s=rate.flop_per_s / 1e12,
    )


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        figures = measure_all(arguments)
    except EngineError as exc:
        print(f"error: {exc}\nhint: {exc.hint}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return 0
    print(f"{figures[0].model} on {figures[0].device}, best of {arguments.repeat} x {arguments.seconds:g} s")
    print("backend      prec  tile       x batch thr slots    Mpx/s  tiles/s  TFLOP/s")
    for f in figures:
        print(
            f"{f.backend:12} {f.precision:5} {f.height:4}x{f.width:<5} {f.scale} {f.batch:5} {f.threads:3} {f.slots:5} "
            f"{f.mpx_per_s:8.4f} {f.tiles_per_s:8.3f} {f.tflop_per_s:8.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

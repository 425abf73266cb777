"""All usable engines of this machine beside each other: time, arithmetic, memory, build time and quality.

    python tools/bench_engines.py --model realesr-animevideov3 --size 640x272,1280x720 [--json FILE] [--plot FILE]

Every combination of model, size, backend, device and precision runs in a process of its own, so that none inherits
another's memory, clocks or failures; with ``--rounds 2`` the whole list is gone through again and the samples are
joined. One sample is the time per finished call while the runner's slots are kept full, as the pipeline keeps them;
median and quartiles are given. Runners that take arrays in GPU memory get them there.

The share of the possible is relative to a large matrix product of the same type on the same device (torch), measured in
the same run. Quality is measured on film tiles against the float32 source network. What cannot run is listed, with the
reason.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from measure_engine import MATMUL_SIDE, Task

from engines import BACKENDS, DEFAULT_MODEL, EngineError, PrecisionRequest, find_model
from engines.backends import auto_order
from engines.opening import load_backend

CHILD_TIMEOUT_S = 3600
QUALITY_TILE_PX = 192
"""Sides of the film tiles that quality is measured on: the float32 source network runs them on the processor."""

DEVICES = ("cuda", "gpu", "cpu")
PRECISIONS = ("fp32", "fp16", "bf16", "fp8")
LIBRARIES = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt-rtx-cu13-bindings",
    "tensorrt-cu13",
    "numpy",
)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="names or files, comma list")
    parser.add_argument("--size", type=_sizes, default=[(272, 640)], help="WIDTHxHEIGHT of the input, comma list")
    parser.add_argument("--backend", default="all", help=f"all, or of {', '.join(BACKENDS)}; comma list")
    parser.add_argument("--device", default="all", help=f"all, or of {', '.join(DEVICES)}; comma list")
    parser.add_argument("--precision", default="all", help=f"all, or of {', '.join(PRECISIONS)}; comma list")
    parser.add_argument("--batch", type=_integers, default=[1], help="tiles per call, comma list")
    parser.add_argument("--output-scale", type=_integers, default=[0], help="enlargement, 0 = the model's, comma list")
    parser.add_argument("--threads", type=_integers, default=[0], help="CPU threads, 0 = all, comma list")
    parser.add_argument("--slots", type=_integers, default=[0], help="calls in flight, 0 = default, comma list")
    parser.add_argument("--calls", type=int, default=20, help="calls that one process measures at least (default 20)")
    parser.add_argument("--seconds", type=float, default=3.0, help="and at least this long (default 3)")
    parser.add_argument("--rounds", type=int, default=1, help="how often the whole list is gone through")
    parser.add_argument("--no-quality", action="store_true", help="leave out the comparison with the source network")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--plot", type=Path, help="draw the result into this PNG (needs matplotlib)")
    return parser.parse_args(argv)


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _sizes(text: str) -> list[tuple[int, int]]:
    pairs = [part.split("x") for part in text.split(",")]
    return [(int(height), int(width)) for width, height in pairs]


def _chosen(text: str, every: tuple[str, ...]) -> tuple[str, ...]:
    return every if text == "all" else tuple(text.split(","))


def usable(arguments: argparse.Namespace) -> tuple[list[Task], list[dict[str, str]]]:
    """List what can run here, and what cannot, with the reason."""
    tasks: list[Task] = []
    refused: list[dict[str, str]] = []
    backends = _chosen(arguments.backend, tuple(BACKENDS))
    devices = _chosen(arguments.device, DEVICES)
    candidates = [
        (candidate.backend, candidate.device)
        for candidate in auto_order("srvgg")
        if candidate.backend in backends and candidate.device in devices
    ]
    combinations = itertools.product(
        arguments.model.split(","),
        arguments.size,
        arguments.batch,
        arguments.output_scale,
        candidates,
        _chosen(arguments.precision, PRECISIONS),
        arguments.threads,
        arguments.slots,
    )
    seen: set[tuple[object, ...]] = set()
    for model, (height, width), batch, scale, (backend, device), precision, threads, slots in combinations:
        try:
            choice = load_backend(backend).choose(
                model=find_model(model), precision=cast(PrecisionRequest, precision), device=device
            )
        except EngineError as exc:
            entry = {"backend": backend, "device": device, "precision": precision, "reason": str(exc)}
            if entry not in refused:
                refused.append(entry)
            continue
        key = (model, height, width, batch, scale, backend, choice.device_id, precision, threads, slots)
        if key in seen:
            continue
        seen.add(key)
        tasks.append(
            Task(
                model=model,
                height=height,
                width=width,
                batch=batch,
                output_scale=scale,
                backend=backend,
                device=choice.device_id,
                precision=precision,
                threads=threads,
                slots=slots,
                calls=arguments.calls,
                seconds=arguments.seconds,
                reference="",
            )
        )
    return tasks, refused


def run_child(content: dict[str, Any]) -> dict[str, Any]:
    """Run one task in a process of its own; a failure is a result too."""
    command = [sys.executable, str(Path(__file__).with_name("measure_engine.py"))]
    try:
        ended = subprocess.run(
            command, input=json.dumps(content), capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {CHILD_TIMEOUT_S} s"}
    lines = ended.stdout.splitlines()
    if ended.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    said = ended.stderr.strip().splitlines()
    return {"error": said[-1] if said else f"ended with exit code {ended.returncode}"}


def write_references(models: list[str], folder: Path) -> dict[str, str]:
    """Run the source networks on film tiles once each."""
    from engines.networks import load_network
    from engines.tiles import film_tiles

    files = {}
    for number, name in enumerate(models):
        network = load_network(find_model(name))
        side = max(QUALITY_TILE_PX // network.spec.size_multiple, 1) * network.spec.size_multiple
        tiles = film_tiles(height=side, width=side, batch=1)
        path = folder / f"{number}.npz"
        np.savez(path, tiles=tiles, wanted=network.run_reference(tiles))
        files[name] = str(path)
    return files


def measure_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run every task ``--rounds`` times and put the result together."""
    tasks, refused = usable(arguments)
    models = sorted({task.model for task in tasks})
    results: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        references = {} if arguments.no_quality else write_references(models, Path(folder))
        for turn in range(arguments.rounds):
            for index, task in enumerate(tasks):
                reference = references.get(task.model, "") if turn == 0 else ""
                answer = run_child(asdict(task) | {"reference": reference})
                print(f"{turn + 1}/{arguments.rounds} {_label(task)}: {_brief(answer)}", file=sys.stderr, flush=True)
                if index in results and "samples_s" in answer and "samples_s" in results[index]:
                    results[index]["samples_s"] += answer["samples_s"]
                else:
                    results.setdefault(index, answer)
        ceilings = {}
        for device, precision in sorted({(task.device.partition(":")[0], task.precision) for task in tasks}):
            # torch computes fp16 number by number on a processor, and multiplies no matrices of fp8 without scales
            if device in MATMUL_SIDE and (device, precision) != ("cpu", "fp16") and precision != "fp8":
                ceilings[f"{device} {precision}"] = run_child({"matmul": [device, precision]}).get("tflop_per_s")
    entries = [_entry(task, results[index], ceilings) for index, task in enumerate(tasks)]
    _relate_to_torch(entries)
    return {
        "command": _command(),
        "machine": _machine(entries),
        "versions": {name: _version(name) for name in LIBRARIES if _version(name)},
        "matmul_tflop_per_s": ceilings,
        "results": entries,
        "refused": refused,
    }


def _command() -> str:
    """What was typed, without where the result goes."""
    words = iter(sys.argv[1:])
    kept = ["python tools/bench_engines.py"]
    for word in words:
        if word in {"--json", "--plot"}:
            next(words, None)
        else:
            kept.append(word)
    return " ".join(kept)


def _entry(task: Task, answer: dict[str, Any], ceilings: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    named = {key: value for key, value in asdict(task).items() if key not in {"reference", "calls", "seconds"}}
    if "error" in answer:
        return named | answer
    samples = sorted(answer.pop("samples_s"))
    quartiles = statistics.quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    ceiling = ceilings.get(f"{task.device.partition(':')[0]} {task.precision}")
    tflop = answer["tflop_per_s"] * 1.0
    return (
        named
        | answer
        | {
            "samples": len(samples),
            "ms_median": quartiles[1] * 1e3,
            "ms_quartiles": [quartiles[0] * 1e3, quartiles[2] * 1e3],
            "ms_least": samples[0] * 1e3,
            "fps": 1 / quartiles[1],
            "share_of_matmul": tflop / ceiling if ceiling else None,
        }
    )


def _relate_to_torch(entries: list[dict[str, Any]]) -> None:
    """Say how much faster each is than PyTorch in fp32 on the same device, model and size."""

    def key(entry: dict[str, Any]) -> tuple[Any, ...]:
        device = entry["device"].partition(":")[0]
        return (device, *(entry[name] for name in ("model", "height", "width", "batch", "output_scale")))

    base = {
        key(entry): entry["ms_median"]
        for entry in entries
        if entry["backend"] == "torch" and entry["precision"] == "fp32" and "ms_median" in entry
    }
    for entry in entries:
        if "ms_median" in entry and key(entry) in base:
            entry["times_torch_fp32"] = base[key(entry)] / entry["ms_median"]


def _label(task: Task) -> str:
    return f"{task.model} {task.width}x{task.height} {task.backend} {task.device} {task.precision}"


def _brief(answer: dict[str, Any]) -> str:
    return str(answer["error"]) if "error" in answer else f"{statistics.median(answer['samples_s']) * 1e3:.2f} ms"


def _machine(entries: list[dict[str, Any]]) -> dict[str, Any]:
    from pipeline.host import probe_host

    return probe_host() | {"devices": sorted({entry["device_name"] for entry in entries if "device_name" in entry})}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def table_lines(report: dict[str, Any]) -> Iterator[str]:
    """The result as text."""
    yield (
        "model                      size       backend       device  prec  x  ms median (quartiles)        fps  TFLOP/s"
        "  of max  vs torch fp32   GPU MiB  host MiB  open s   PSNR dB   max err"
    )
    for entry in report["results"]:
        head = (
            f"{entry['model'][:26]:26} {entry['width']:>4}x{entry['height']:<5} {entry['backend']:13} "
            f"{entry['device'][:7]:7} {entry['precision']:5}"
        )
        if "error" in entry:
            yield f"{head} failed: {entry['error']}"
            continue
        low, high = entry["ms_quartiles"]
        times = f"{entry['ms_median']:9.2f} ({low:.2f}-{high:.2f})"
        share = f"{entry['share_of_matmul']:6.1%}" if entry["share_of_matmul"] else "     -"
        ratio = f"{entry['times_torch_fp32']:6.2f}x" if "times_torch_fp32" in entry else "      -"
        quality = f"{entry['psnr_db']:9.2f} {entry['max_abs']:9.2e}" if "psnr_db" in entry else ""
        yield (
            f"{head} {entry['output_scale'] or '-'} {times:28} {entry['fps']:8.3f} {entry['tflop_per_s']:8.3f} "
            f"{share:>7} {ratio:>10} {entry['device_bytes'] / 2**20:13.0f} {entry['host_bytes'] / 2**20:9.0f} "
            f"{entry['open_s']:7.2f} {quality}"
        )
    for ceiling, value in report["matmul_tflop_per_s"].items():
        yield f"matrix product, {ceiling}: " + (f"{value:.2f} TFLOP/s" if value else "not measured (needs torch)")
    for reason, entries in itertools.groupby(report["refused"], key=lambda entry: str(entry["reason"])):
        refused = list(entries)
        precisions = ", ".join(entry["precision"] for entry in refused)
        yield f"not run: {refused[0]['backend']} on {refused[0]['device']} in {precisions}: {reason}"


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        report = measure_all(arguments)
    except EngineError as exc:
        print(f"error: {exc}\nhint: {exc.hint}", file=sys.stderr)
        return 1
    for line in table_lines(report):
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.plot:
        from plot_engines import plot_report

        plot_report(report, arguments.plot)
    return 0 if any("ms_median" in entry for entry in report["results"]) else 1


if __name__ == "__main__":
    sys.exit(main())

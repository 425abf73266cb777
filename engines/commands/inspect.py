"""``engines inspect``: what an engine was built from, whether it loads here, its memory and its layers."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engines.cache.store import EngineStore
from engines.commands import Output
from engines.errors import BackendUnavailable, EngineError

if TYPE_CHECKING:
    from engines.trt.inspection import EngineFile, EngineReport
    from engines.trt.library import TrtLibrary, TrtName

SUMMARY = "Show an engine's origin, memory and layers, and whether it loads on this machine."

_SHOWN_LAYERS = 400
"""More are counted; --json has them all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``engines.commands.Command``."""
    parser.add_argument("target", metavar="FILE|MODEL", help="an engine file, or a model: all its engines in the cache")
    parser.add_argument(
        "--backend",
        choices=("tensorrt", "tensorrt_rtx"),
        default="tensorrt_rtx",
        help="for an engine file from elsewhere: the library that wrote it (default: tensorrt_rtx)",
    )
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="folder of compiled engines")
    parser.add_argument("--json", action="store_true", help="print the report for programs")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """See ``engines.commands.Command``. Gives 1 if an engine does not load here."""
    from engines.gpu.driver import has_nvidia_driver
    from engines.trt.inspection import inspect_engine, read_engine_file

    reports = []
    for path in _files(arguments):
        file = read_engine_file(path)
        library = _library(file.key.compiler if file.key else cast("TrtName", arguments.backend))
        reports.append(inspect_engine(file, library=library, has_gpu=has_nvidia_driver()))
    if arguments.json:
        output.put_json([_to_json(report) for report in reports])
    else:
        for report in reports:
            for line in _lines(report):
                output.put(line)
    return 1 if any(report.loads is False for report in reports) else 0


def _files(arguments: argparse.Namespace) -> list[Path]:
    """The engine file that was named, or all engines of the model in the cache."""
    named = Path(arguments.target)
    if named.suffix in {".engine", ".plan", ".trt"} or (named.is_file() and arguments.target != named.name):
        return [named]
    store = EngineStore(arguments.cache_dir)
    found = [entry.path for entry in store.entries() if entry.key is not None and entry.key.model == arguments.target]
    if not found:
        raise EngineError(
            f"no engine of a model {arguments.target!r} is in {store.folder}, and no engine file has that name",
            hint="see python -m engines list; compile one with python -m engines build",
        )
    return found


def _library(name: TrtName) -> TrtLibrary | None:
    from engines.trt.library import load_trt

    try:
        return load_trt(name)
    except BackendUnavailable:
        return None


def _lines(report: EngineReport) -> list[str]:
    """The report as text."""
    lines = [f"{report.file.path}", *(f"  {name:<12}{text}" for name, text in _facts(report.file))]
    lines.append(f"  {'here':<12}{report.verdict}")
    if report.device_memory_bytes is not None:
        lines.append(f"  {'memory':<12}{_megabytes(report.device_memory_bytes)} for activations per context, as loaded")
    lines += [f"  {'unknown':<12}{text}" for text in report.missing]
    if report.layers:
        kinds = Counter(layer.kind or "unnamed kind" for layer in report.layers)
        summary = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        lines.append(f"  {'layers':<12}{len(report.layers)} after joining: {summary}")
        lines += [
            f"    {layer.kind or '-':<16} {layer.name}" + (f"  [{layer.tactic}]" if layer.tactic else "")
            for layer in report.layers[:_SHOWN_LAYERS]
        ]
        if len(report.layers) > _SHOWN_LAYERS:
            lines.append(f"    and {len(report.layers) - _SHOWN_LAYERS} more, all with --json")
    return lines


def _facts(file: EngineFile) -> list[tuple[str, str]]:
    """What the cache knows, as pairs of a word and a text."""
    if file.key is None or file.record is None:
        return [("origin", "not from this program's cache: what it was built from is unknown")]
    from engines.trt.library import TITLES

    key, record = file.key, file.record
    details = record.details
    facts = [
        ("model", f"{key.model} x{key.output_scale}, {key.precision}, arrays {key.io_dtype}"),
        ("shapes", _shapes(file)),
        ("built for", key.target),
        ("built with", f"{TITLES[key.compiler]} {key.compiler_version}, {record.built_at}, in {record.build_s:.1f} s"),
        ("size", f"{_megabytes(len(file.plan))}, checksum right"),
    ]
    if record.scratch_bytes is not None:
        facts.append(("activations", f"{_megabytes(record.scratch_bytes)} per context at the largest shape"))
    if details.get("weights_bytes") is not None:
        facts.append(("weights", _megabytes(details["weights_bytes"])))
    if details.get("operators"):
        operators = ", ".join(f"{count} {name}" for name, count in details["operators"].items())
        facts.append(("network", f"{sum(details['operators'].values())} operators before joining: {operators}"))
    options = {name: value for name, value in key.option_values.items() if value not in (None, (), False, "none")}
    facts += [
        ("options", ", ".join(f"{name} {_plain(value)}" for name, value in options.items()) or "all default"),
        ("flags", ", ".join(key.flags) or "none"),
        ("onnx", f"sha256 {key.onnx_sha256}"),
        ("accuracy", _accuracy(record.accuracy)),
    ]
    return facts + [("note", note) for note in record.notes]


def _shapes(file: EngineFile) -> str:
    if file.key is None:
        return ""
    texts = []
    for one in file.key.inputs:
        shapes = [one.optimum] if one.is_static else [one.minimum, one.optimum, one.maximum]
        words = ["x".join(str(side) for side in shape) for shape in shapes]
        texts.append(f"{one.name} " + (words[0] if one.is_static else "min {}, opt {}, max {}".format(*words)))
    return "; ".join(texts)


def _accuracy(accuracy: Any) -> str:
    if not accuracy:
        return "not measured: that needs the GPU (python -m engines verify)"
    return ", ".join(f"{name} {value}" for name, value in accuracy.items() if not isinstance(value, dict | list))


def _plain(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _to_json(report: EngineReport) -> dict[str, Any]:
    file = report.file
    return {
        "path": str(file.path),
        "plan_bytes": len(file.plan),
        "key": None if file.key is None else file.key.to_json(),
        "record": None if file.record is None else file.record.to_json(),
        "loads": report.loads,
        "verdict": report.verdict,
        "device_memory_bytes": report.device_memory_bytes,
        "layers": [asdict(layer) for layer in report.layers],
        "missing": list(report.missing),
    }

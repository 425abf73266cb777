"""``python -m engines export``: writes a network as an ONNX file and compares the file with its source."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.commands import Output

if TYPE_CHECKING:
    from engines.export import ExportReport

SUMMARY = "Write a network as an ONNX file and compare it with its source."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME_OR_FILE",
        help="a model of `engines list`, or a .pth, .safetensors or .onnx",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.onnx", help="the file to write")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16"), default="fp32", help="arithmetic and weights (default: fp32)"
    )
    parser.add_argument(
        "--io", choices=("float32", "float16"), default="float32", help="input and output arrays (default: float32)"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set (default: the network's own choice)")
    parser.add_argument("--height", type=_positive, metavar="PX", help="fixed tile height (default: any)")
    parser.add_argument("--width", type=_positive, metavar="PX", help="fixed tile width (default: any)")
    parser.add_argument("--batch", type=_positive, metavar="N", help="fixed number of tiles per call (default: any)")
    parser.add_argument(
        "--output-scale", type=_positive, metavar="S", help="enlargement, where the network can give less than its own"
    )
    parser.add_argument(
        "--denoise", type=float, metavar="SHARE", help="denoise strength, 0 to 1, for models that have it"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not compare the file with its source")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Do it.

    Raises:
        EngineError: As ``engines.export.export_network`` and ``engines.models.find_model`` raise it.
    """
    from engines.export import export_network
    from engines.models import find_model
    from engines.networks import GraphOptions, load_network

    model = find_model(arguments.model, denoise=arguments.denoise)
    options = GraphOptions(
        precision=arguments.precision,
        io_dtype=arguments.io,
        batch=arguments.batch,
        height=arguments.height,
        width=arguments.width,
        output_scale=arguments.output_scale,
        opset=arguments.opset,
    )
    report = export_network(
        load_network(model), arguments.output, options=options, verify=not arguments.no_verify, force=arguments.force
    )
    if arguments.json:
        output.put_json(_as_json(report))
    else:
        for line in report_lines(report):
            output.put(line)
    return 0


def report_lines(report: ExportReport) -> tuple[str, ...]:
    """A report in words."""
    shapes = " -> ".join(
        "x".join(str(length) for length in shape) for shape in (report.input_shape, report.output_shape)
    )
    lines = [
        f"{report.path}: {report.model} x{report.scale}, {report.precision}, {report.io_dtype} arrays {shapes}",
        f"  opset {report.opset}, {report.node_count} nodes, {report.file_bytes} bytes, sha256 {report.sha256}",
    ]
    for accuracy in report.accuracy:
        lines.append(
            f"  at {accuracy.width}x{accuracy.height}: film {accuracy.psnr_film_db:.1f} dB, adversarial "
            f"{accuracy.psnr_adversarial_db:.1f} dB, off by up to {accuracy.max_abs:.2g} ({accuracy.worst})"
        )
    if report.verified_with:
        lines.append(f"  compared with the source by {report.verified_with}")
    else:
        lines.append(f"  NOT compared with the source: {report.unverified_because}")
    return tuple(lines)


def _as_json(report: ExportReport) -> dict[str, Any]:
    return asdict(report) | {"path": str(report.path)}


def _positive(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return number

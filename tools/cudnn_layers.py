"""Prints how far every kind of layer is from what the GPU can do, from measured steps of the cudnn backend.

python tools/cudnn_layers.py tools/results/cudnn-steps-h200.txt

Arithmetic and bytes are counted in the plan of the network at the size that the file names; times are the file's. Bytes
are what a step must read and write at least: its slices, its weights, its planar pictures. What reads e4m3 is held
against twice the arithmetic.
"""

from __future__ import annotations

import argparse
import ast
import math
from pathlib import Path
from typing import Any, Final

from engines import find_model
from engines.canary import random_weights
from engines.cudnn.graph import read_graph
from engines.cudnn.joins import find_joins
from engines.cudnn.narrowing import narrow_candidates, narrow_plan
from engines.cudnn.plan import plan_network
from engines.cudnn.steps import ITEM_BYTES, ConvStep, FinishStep, PackStep, Plan, Slice, Step, reads, writes
from engines.networks import GraphOptions
from engines.networks.layered import LayeredNetwork

TFLOPS: Final = 810.0
"""The fastest fp16 matrix product measured on an H200 (``results/bench_engines-h200-720p.txt``). One after our own
kernels gave 689 (``results/cudnn-kernels-h200.txt``): the clock falls under load."""

TBPS: Final = 4.0
"""What a copy in device memory reaches on an H200, read and written bytes together."""

HEADER: Final = (
    "| step | runs | GFLOP | MB | ms | TFLOP/s | of arithmetic | of memory | by |",
    "|---|---|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Print one table for each network in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="times of steps, one dictionary a line")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help=f"ceiling of arithmetic (default: {TFLOPS:g})")
    parser.add_argument("--tbps", type=float, default=TBPS, help=f"ceiling of memory, TB/s (default: {TBPS:g})")
    options = parser.parse_args()
    plan: Plan | None = None
    rows = (ast.literal_eval(line.strip()) for line in options.file.read_text().splitlines() if line.strip()[:1] == "{")
    for row in rows:
        if "model" in row:
            plan = plan_of(row["model"], height=row["height"], width=row["width"])
            precision = row.get("precision", "fp16")
            if precision == "fp8":
                plan = narrowed(plan, convolutions=int(row["note"].split()[2]))
            print(f"\n{row['model']}, {row['width']}x{row['height']}, {precision}\n", *HEADER, sep="\n")
        elif plan is not None:
            print(table_row(plan, row, tflops=options.tflops, tbps=options.tbps))


def plan_of(model: str, *, height: int, width: int) -> Plan:
    """The plan of a network; weights play no part in it."""
    network = LayeredNetwork(weights=random_weights(find_model(model), seed=0))
    return plan_network(read_graph(network.graph(GraphOptions(precision="fp16", batch=1, height=height, width=width))))


def narrowed(plan: Plan, *, convolutions: int) -> Plan:
    """The plan with so many convolutions in float8; scales play no part in it."""
    names = next(one for one in narrow_candidates(plan) if len(one) == convolutions)
    return narrow_plan(plan, names=names, peaks={step.name: 1.0 for step in plan.steps})


def table_row(plan: Plan, row: dict[str, Any], *, tflops: float, tbps: float) -> str:
    """One line of the table.

    Args:
        plan: Of the network.
        row: What was measured of one kind of step: ``step``, ``kernel``, ``count``, ``ms``, ``by``; of two that ran as
            one, those of the later, and ``by`` ends with "joined".
        tflops: Ceiling of arithmetic.
        tbps: Ceiling of memory.
    """
    kind = row["kernel"] if isinstance(row["kernel"], str) else "ConvStep"
    step = next(one for one in plan.steps if one.name == row["step"] and type(one).__name__ == kind)
    moved, name = bytes_of(plan, step), row["step"]
    if row["by"].endswith("joined"):
        join = next(one for one in find_joins(plan, is_half=False) if plan.steps[one.last] is step)
        before, step = plan.steps[join.first], plan.steps[join.conv]
        (between,) = writes(before)
        moved += bytes_of(plan, before) - 2 * _slice_bytes(plan, between)
        name += ", joined"
    flop, seconds = 0, row["ms"] / 1e3
    if isinstance(step, ConvStep):
        flop = plan.batch * step.flop_per_picture
        tflops *= 1 if step.descale is None else 2
        outputs, inputs = step.kernel.shape[:2]
        name += f", {inputs} -> {outputs}"
    cells = (
        name,
        str(row["count"]),
        f"{flop / 1e9:.0f}",
        f"{moved / 1e6:.0f}",
        f"{row['ms']:.3f}",
        f"{flop / seconds / 1e12:.0f}" if flop else "",
        f"{flop / seconds / 1e12 / tflops:.0%}" if flop else "",
        f"{moved / seconds / 1e12 / tbps:.0%}",
        "ours" if row["by"].startswith("own") or not row["by"] else "cuDNN",
    )
    return f"| {' | '.join(cells)} |"


def bytes_of(plan: Plan, step: Step) -> int:
    """What a step reads and writes at least, each number once."""
    total = sum(_slice_bytes(plan, part) for part in (*reads(step), *writes(step)))
    image = plan.batch * plan.channels * plan.height * plan.width * ITEM_BYTES["float32"]
    if isinstance(step, PackStep):
        return total + image
    if isinstance(step, ConvStep):
        return total + math.prod(step.kernel.shape) * ITEM_BYTES["float16" if step.descale is None else "float8"]
    if isinstance(step, FinishStep):
        return total + math.prod(plan.output_shape) * ITEM_BYTES["float32"] + step.has_base * image
    return total


def _slice_bytes(plan: Plan, part: Slice) -> int:
    buffer = plan.buffers[part.buffer]
    pixels = plan.batch * (buffer.height // part.step) * (buffer.width // part.step)
    return pixels * part.channels * ITEM_BYTES[buffer.dtype]


if __name__ == "__main__":
    main()

"""Draws what ``bench_engines.py --json`` wrote: speed and quality of every engine, one panel per model and size.

python tools/plot_engines.py RESULT.json PICTURE.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

EQUAL_DB = 999.0
"""What ``measure_engine.py`` writes for two equal pictures."""

PRECISION_COLOURS = {"fp32": "#5b6b7a", "fp16": "#2f7ed8", "bf16": "#1f9e77"}


def plot_report(report: dict[str, Any], path: Path) -> None:
    """Draw one bar per engine: frames per second, with quartiles, TFLOP/s and PSNR in words.

    Args:
        report: As ``bench_engines.py`` writes it.
        path: The PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for entry in report["results"]:
        if "fps" in entry:
            panels.setdefault((entry["model"], entry["width"], entry["height"]), []).append(entry)
    if not panels:
        raise SystemExit("nothing was measured, so there is nothing to draw")
    heights = [0.9 + 0.42 * len(entries) for entries in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(11, sum(heights) + 0.6), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axis, ((model, width, height), entries) in zip(axes[:, 0], panels.items(), strict=True):
        ordered = sorted(entries, key=lambda entry: float(entry["fps"]))
        most = max(entry["fps"] for entry in ordered)
        for row, entry in enumerate(ordered):
            low, high = (1e3 / value for value in reversed(entry["ms_quartiles"]))
            fps = entry["fps"]
            axis.barh(row, fps, color=PRECISION_COLOURS[entry["precision"]], height=0.7)
            axis.errorbar(fps, row, xerr=[[max(fps - low, 0)], [max(high - fps, 0)]], color="black", capsize=2, lw=0.8)
            axis.text(max(fps, high) + most * 0.01, row, _words(entry), va="center", fontsize=8)
        axis.set_yticks(range(len(ordered)), [_name(entry) for entry in ordered], fontsize=8)
        axis.set_xlim(0, most * 1.6)
        axis.set_title(f"{model}, {width}x{height} in", fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("frames per second (bar: median; line: quartiles)")
    machine = report["machine"]
    devices = ", ".join(machine["devices"])
    figure.suptitle(f"{devices}   ({machine['cpu_count_usable']} cores, {machine['cpu_model']})", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _name(entry: dict[str, Any]) -> str:
    scale = f" x{entry['output_scale']}" if entry["output_scale"] else ""
    return f"{entry['backend']} {entry['device']} {entry['precision']}{scale}"


def _words(entry: dict[str, Any]) -> str:
    words = [f"{entry['fps']:.3g} fps", f"{entry['tflop_per_s']:.3g} TFLOP/s"]
    if entry.get("share_of_matmul"):
        words.append(f"{entry['share_of_matmul']:.0%} of a matrix product")
    if "psnr_db" in entry:
        words.append("equal to float32" if entry["psnr_db"] >= EQUAL_DB else f"{entry['psnr_db']:.1f} dB")
    return ", ".join(words)


def main() -> int:
    source, target = (Path(argument) for argument in sys.argv[1:3])
    plot_report(json.loads(source.read_text()), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())

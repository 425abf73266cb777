"""What a comparison says: in words, as JSON, and whether it is what was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.show.wording import safe_text
from tools.compare_films import Comparison
from tools.compare_page import decibels

LIMITS = ("psnr", "frame-psnr", "ssim", "frame-ssim", "vmaf", "frame-vmaf")
"""What can be asked for, as options ``--min-...``."""


def failures_of(found: Comparison, *, limits: dict[str, float]) -> list[str]:
    """What is not as it should be, a sentence each.

    Args:
        found: The comparison.
        limits: The least of each of `LIMITS`; what is not in it has none.
    """
    figures = found.figures
    failures = []
    if found.count_a != found.count_b:
        failures.append(f"A has {found.count_a} frames, B {found.count_b}")
    if (late := found.first_late) is not None:
        failures.append(f"frame {late.index} is shown at {late.a_s:.4f} s in A and at {late.b_s:.4f} s in B")
    vmaf, worst_vmaf = figures.vmaf, figures.worst_vmaf
    reached: dict[str, tuple[float | None, str]] = {
        "psnr": (figures.psnr_db, "PSNR"),
        "frame-psnr": (figures.worst_psnr.psnr_db, f"PSNR of frame {figures.worst_psnr.index}"),
        "ssim": (figures.ssim, "SSIM"),
        "frame-ssim": (figures.worst_ssim.ssim_all, f"SSIM of frame {figures.worst_ssim.index}"),
        "vmaf": (vmaf, "VMAF"),
        "frame-vmaf": (None, "VMAF") if worst_vmaf is None else (worst_vmaf.vmaf, f"VMAF of frame {worst_vmaf.index}"),
    }
    for name, least in limits.items():
        value, words = reached[name]
        if value is None:
            failures.append(f"{words} was not measured: {found.no_vmaf}")
        elif not value >= least:
            failures.append(f"{words} is {value:.6g}, {least:g} was asked for")
    return failures


def facts_of(found: Comparison) -> list[tuple[str, str]]:
    """The figures in words."""
    films, figures = found.films, found.figures
    names = "R", "G", "B"
    planes = names if films.format.matrix == "rgb" else ("Y",) if films.is_grey else ("Y", "Cb", "Cr")

    def by_plane(values: Sequence[float], word: str) -> str:
        return ", ".join(
            f"{name} {'inf' if math.isinf(value) else format(value, word)}"
            for name, value in zip(planes, values, strict=True)
        )

    worst = figures.worst_psnr
    least = figures.worst_ssim
    facts = [
        (name, f"{safe_text(info.path.name)}: {count} frames, {info.video.width}x{info.video.height}")
        for name, info, count in (("A", films.a, found.count_a), ("B", films.b, found.count_b))
    ]
    late = found.first_late
    facts += [
        ("times", "alike" if late is None else f"differ from frame {late.index} on, at {late.a_s:.3f} s"),
        (
            "PSNR",
            f"{decibels(figures.psnr_db)} ({by_plane(figures.psnr_planes_db, '.2f')}); lowest "
            f"{decibels(worst.psnr_db)}, frame {worst.index} at {worst.a_s:.3f} s",
        ),
        (
            "SSIM",
            f"{figures.ssim:.5f} ({by_plane(figures.ssim_planes, '.5f')}); lowest {least.ssim_all:.5f}, "
            f"frame {least.index} at {least.a_s:.3f} s",
        ),
    ]
    if figures.vmaf is None or figures.worst_vmaf is None:
        facts.append(("VMAF", f"not measured: {safe_text(found.no_vmaf)}"))
    else:
        lowest = figures.worst_vmaf
        facts.append(
            ("VMAF", f"{figures.vmaf:.2f}; lowest {lowest.vmaf:.2f}, frame {lowest.index} at {lowest.a_s:.3f} s")
        )
    if films.is_converted:
        facts.append(("note", "B's frames were brought to A's size and samples"))
    for name, damage in (("A", films.damage_a), ("B", films.damage_b)):
        if damage:
            facts.append((f"damage of {name}", safe_text(damage)))
    return facts


def as_json(found: Comparison, *, failures: Sequence[str]) -> dict[str, Any]:
    """Everything that was measured, as JSON-native values; a PSNR of null means no difference."""
    figures = found.figures
    return {
        "a": found.films.a.path.name,
        "b": found.films.b.path.name,
        "frames_a": found.count_a,
        "frames_b": found.count_b,
        "is_converted": found.films.is_converted,
        "failures": list(failures),
        "psnr_db": _finite(figures.psnr_db),
        "psnr_planes_db": [_finite(value) for value in figures.psnr_planes_db],
        "ssim": figures.ssim,
        "ssim_planes": list(figures.ssim_planes),
        "vmaf": figures.vmaf,
        "no_vmaf": found.no_vmaf,
        "worst": [frame.figures.index for frame in found.worst],
        "frames": [
            {
                "index": frame.index,
                "a_s": frame.a_s,
                "b_s": frame.b_s,
                "psnr_db": _finite(frame.psnr_db),
                "psnr_planes_db": [_finite(value) for value in frame.psnr_planes_db],
                "ssim": frame.ssim_all,
                "ssim_planes": list(frame.ssim),
                "vmaf": frame.vmaf,
            }
            for frame in found.frames
        ],
    }


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value

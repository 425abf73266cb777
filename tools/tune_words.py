"""What tuning found, in words, as JSON and as a config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tools.tune_quality import PresetQuality
from tools.tune_trials import Found, Measured, Settings, Trial

MOST_ROWS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Settings that change the picture or the file, measured at the best of the others."""

    setting: str
    """``key=value`` as ``--set`` takes it; empty: as it is."""
    run: Measured
    quality: str
    """PSNR, and against what."""
    is_taken: bool = False


def spell_settings(settings: Settings) -> str:
    """Settings on one line."""
    return " ".join(f"{name}={value}" for name, value in settings) or "as the program chooses"


def table(found: Found, *, by_hand: Sequence[str], film: str, frames: int) -> list[str]:
    """All that was tried, the fastest first, and why the rest was not."""
    lines = [f"{film}: runs of {frames} frames", ""]
    lines.append("     fps  +/-   runs   memory      GPU  kB/frame  settings")
    trials = sorted(found.trials, key=lambda trial: -trial.fps)
    shown = [trial for trial in trials if trial.whole][:MOST_ROWS]
    lines += [_row(trial, mark="*" if trial is found.best else " ") for trial in shown]
    given_up = [trial for trial in trials if not trial.whole and trial.runs[-1].is_abandoned]
    refused = [trial for trial in trials if not trial.whole and trial.runs[-1].refusal]
    lines += [
        f"  given up, slower: {spell_settings(trial.settings)} (about {trial.runs[-1].fps:.3g} fps)"
        for trial in given_up
    ]
    lines += [f"  refused: {spell_settings(trial.settings)}: {trial.runs[-1].refusal}" for trial in refused]
    lines += [
        f"  not tried: {name}: with its stage free the run would make {fps:.3g} fps at most"
        for name, fps in found.dropped.items()
    ]
    lines += [f"  left as the config says: {name}" for name in by_hand]
    return lines


def offer_lines(offers: Sequence[Offer]) -> list[str]:
    """The trade of what changes the picture or the file."""
    if not offers:
        return []
    lines = ["", "What changes the picture or the file, at the fastest of the settings above:"]
    for offer in offers:
        what = offer.setting or "as it is"
        speed = offer.run.refusal or f"{offer.run.fps:.3g} fps" + (" (given up)" if offer.run.is_abandoned else "")
        size = f", {offer.run.frame_bytes / 1e3:.4g} kB a frame" if offer.run.frame_bytes else ""
        taken = " - taken" if offer.is_taken else ""
        lines.append(f"  {what}: {speed}{size}{', ' + offer.quality if offer.quality else ''}{taken}")
    return [*lines, "  Not taken unless it says so: add it to the config if the trade suits you."]


def result_line(found: Found) -> str:
    """The outcome in one sentence."""
    ending = " The budget ended before the search did: a larger --budget may find more." if found.is_cut_short else ""
    if not found.best.settings:
        return f"The program's own choice is the fastest: {found.base.fps:.3g} fps.{ending}"
    return (
        f"Fastest: {spell_settings(found.best.settings)}: {found.best.fps:.3g} fps instead of {found.base.fps:.3g} "
        f"({found.gain:+.1%} in turns).{ending}"
    )


def spell_psnr(psnr_db: float | None, *, against: str) -> str:
    """A figure of quality; empty if there is none."""
    if psnr_db is None:
        return ""
    return f"the same picture as {against}" if math.isinf(psnr_db) else f"{psnr_db:.1f} dB from {against}"


def spell_preset_quality(quality: PresetQuality | None) -> str:
    """What a preset makes of the first frames."""
    return "" if quality is None else spell_psnr(quality.psnr_db, against="the frames that it was given")


def as_json(found: Found, *, offers: Sequence[Offer]) -> dict[str, Any]:
    """All figures."""
    return {
        "best": dict(found.best.settings),
        "fps": found.best.fps,
        "default_fps": found.base.fps,
        "gain": found.gain,
        "spent_s": found.spent_s,
        "is_cut_short": found.is_cut_short,
        "runs": sum(len(trial.runs) for trial in found.trials),
        "trials": [
            {"settings": dict(trial.settings), "fps": trial.fps, "runs": [_run_as_json(run) for run in trial.runs]}
            for trial in found.trials
        ],
        "not_tried": {name: fps if math.isfinite(fps) else None for name, fps in found.dropped.items()},
        "offers": [
            {
                "setting": offer.setting,
                "quality": offer.quality,
                "is_taken": offer.is_taken,
                "run": _run_as_json(offer.run),
            }
            for offer in offers
        ],
    }


def _run_as_json(run: Measured) -> Mapping[str, Any]:
    values = asdict(run)
    del values["settings"], values["costs"]
    return values


def _row(trial: Trial, *, mark: str) -> str:
    last = trial.whole[-1]
    gpu = f"{last.device_peak_bytes / 2**20:5.0f} MiB" if last.device_peak_bytes else "        -"
    return (
        f"{mark} {trial.fps:6.4g}  {last.error:4.0%}  {len(trial.runs):4}  {last.peak_bytes / 2**20:5.0f} MiB"
        f"{gpu}  {last.frame_bytes / 1e3:8.4g}  {spell_settings(trial.settings)}"
    )

"""Settings that change the picture or the file: measured beside their quality, and left to the user.

Only a precision that is faster and no further from fp32 than the one in use is taken without being asked for.
"""

from __future__ import annotations

from tools.tune_bench import FilmBench
from tools.tune_quality import PRECISIONS, precision_psnr, preset_quality
from tools.tune_space import faster_presets
from tools.tune_trials import WORTH, Found, Knob, Measured, upper_fps
from tools.tune_words import Offer, spell_preset_quality, spell_psnr


def offer_precisions(bench: FilmBench, found: Found, *, budget_s: float) -> list[Offer]:
    """Measure the other precisions, if the network's time matters; one that is faster and no worse is taken."""
    best = found.best.whole[-1]
    plan = bench.plan(found.best.settings)
    engine = Knob(name="infer.precision", values=(), start=0, stages=frozenset({"upscale"}))
    is_open = bench.config.infer.precision == "auto" and plan.model_files
    if not is_open or upper_fps(best, engine) <= best.fps * (1 + WORTH):
        return []
    own: str = plan.backend.precision
    runs: dict[str, Measured] = {}
    for precision in PRECISIONS:
        if precision == own or sum(run.seconds for run in runs.values()) + best.seconds > budget_s:
            continue
        settings = tuple(sorted((*found.best.settings, ("infer.precision", precision))))
        run = bench.measure(settings, rival_fps=None)
        if not run.refusal:
            runs[precision] = run
    if not runs:
        return []
    psnr = precision_psnr(plan, (own, *runs))
    worst = psnr.get(own, 0.0)
    offers = [Offer(setting="", run=best, quality=f"{own}, {spell_psnr(psnr.get(own), against='fp32')}")]
    for name, run in runs.items():
        is_taken = run.fps > best.fps * (1 + WORTH) and psnr.get(name, -1.0) >= worst
        quality = spell_psnr(psnr.get(name), against="fp32")
        offers.append(Offer(setting=f"infer.precision={name}", run=run, quality=quality, is_taken=is_taken))
    return offers


def offer_presets(bench: FilmBench, found: Found, *, budget_s: float) -> list[Offer]:
    """Measure the next faster presets, if the encoder's time matters."""
    best, plan = found.best.whole[-1], bench.plan(found.best.settings)
    encoder = Knob(name="encode.preset", values=(), start=0, stages=frozenset({"encode"}))
    is_open = bench.config.encode.preset is None and plan.encode.encoder.codec
    if not is_open or upper_fps(best, encoder) <= best.fps * (1 + WORTH):
        return []
    runs: list[tuple[str, Measured]] = []
    for preset in faster_presets(plan):
        if sum(run.seconds for _, run in runs) + best.seconds > budget_s:
            break
        settings = tuple(sorted((*found.best.settings, ("encode.preset", preset))))
        runs.append((preset, bench.measure(settings, rival_fps=None)))
    if not runs:
        return []
    quality = preset_quality(plan, (None, *(preset for preset, _ in runs)))
    own = plan.encode.encoder.default_preset
    return [
        Offer(setting="", run=best, quality=f"{own}, {spell_preset_quality(quality[None])}"),
        *(
            Offer(setting=f"encode.preset={preset}", run=run, quality=spell_preset_quality(quality[preset]))
            for preset, run in runs
        ),
    ]

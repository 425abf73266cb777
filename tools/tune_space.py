"""What can be tuned of a plan: the settings that its config leaves open, and the values worth trying."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.config import Config
from pipeline.plan import JobPlan
from pipeline.tiling import round_up
from pipeline.tuned import OPEN_VALUES, is_open
from tools.tune_trials import Knob, Value

TILE_SHARES = (4, 2)
"""Parts of the longest side of the largest tile."""
TILE_STEP_PX = 8
"""Sides of tiles are multiples of this."""
BATCHES = (1, 2, 4, 8)
SLOTS = (1, 2, 3, 4)
LANES = (1, 2, 4, 8)
FASTER_PRESETS = 2
"""Next faster ones that are offered."""
ALL_STAGES = frozenset({"decode", "tile", "upscale", "stitch", "encode"})


def knobs_of(plan: JobPlan, *, cores: int, takes_preset: bool = False) -> tuple[Knob, ...]:
    """The settings that can be tuned.

    Args:
        plan: Of the film, with nothing tuned.
        cores: That this process may use.
        takes_preset: Whether a preset may be taken that makes another file.
    """
    config, encoder = plan.config, plan.encode.encoder
    found = [_tile(plan)]
    if plan.model.fixed_batch is None:
        found.append(_count("infer.batch_tiles", BATCHES, start=config.infer.batch, stages={"upscale"}))
    found.append(_count("infer.slots", SLOTS, start=plan.slots, stages={"upscale"}))
    if plan.backend.activation_share > 0 and plan.backend.backend != "resize":
        found.append(_threads("infer.threads", {cores // 2, cores - 1}, stages={"upscale"}))
    lanes = [lanes for lanes in LANES if lanes <= max(2, cores)]
    found.append(_count("run.lanes", lanes, start=plan.lanes, stages=ALL_STAGES, shares_work=True))
    powers = [2**n for n in range(8) if 2**n < cores]
    if encoder.codec and not encoder.is_hardware:
        found.append(_threads("encode.threads", powers, stages={"encode"}))
    if plan.decoder.kind == "libav":
        found.append(_threads("decode.threads", powers, stages={"decode"}))
    found = [knob for knob in found if is_open(config, knob.name)]
    if config.decode.kind == "auto" and plan.is_on_gpu and plan.decoder.kind in ("libav", "nvdec"):
        kinds = ("libav", "nvdec")
        start = kinds.index(plan.decoder.kind)
        found.append(Knob(name="decode.kind", values=kinds, start=start, stages=frozenset({"decode"})))
    presets = faster_presets(plan)
    if config.encode.preset is None and presets:
        values: tuple[Value, ...] = (None, *presets)
        stages = frozenset({"encode"})
        found.append(Knob(name="encode.preset", values=values, start=0, stages=stages, is_offered=not takes_preset))
    return tuple(knob for knob in found if len(knob.values) > 1)


def set_by_hand(config: Config) -> tuple[str, ...]:
    """Settings that a config does not leave open: they stay as they are."""
    names = [name for name in OPEN_VALUES if not is_open(config, name)]
    return (*names, *(["encode.preset"] if config.encode.preset is not None else []))


def faster_presets(plan: JobPlan) -> tuple[str, ...]:
    """The next faster presets of a plan's encoder, the nearest first; none where the table does not order them so."""
    encoder = plan.encode.encoder
    presets, own = list(encoder.presets), plan.encode.preset or encoder.default_preset
    if encoder.is_hardware or encoder.product != "film" or encoder.preset_option != "preset" or own not in presets:
        return ()
    behind = presets[presets.index(own) + 1 :]
    return tuple(str(preset) for preset in behind[:FASTER_PRESETS])


def _tile(plan: JobPlan) -> Knob:
    longest = max(plan.grid.tile_height, plan.grid.tile_width)
    least = max(2 * plan.overlap_px + TILE_STEP_PX, plan.model.min_px, 16)
    is_fixed = plan.model.fixed_height is not None or plan.model.fixed_width is not None
    step = max(TILE_STEP_PX, plan.model.size_multiple)
    sides = [round_up(longest // share + plan.overlap_px, step) for share in TILE_SHARES if not is_fixed]
    values: tuple[Value, ...] = (*(side for side in sides if least <= side < longest), "auto")
    stages = frozenset({"tile", "upscale", "stitch"})
    return Knob(name="tile.max_px", values=values, start=len(values) - 1, stages=stages)


def _count(name: str, values: Iterable[int], *, start: int, stages: Iterable[str], shares_work: bool = False) -> Knob:
    ordered = tuple(sorted({*values, start}))
    return Knob(
        name=name, values=ordered, start=ordered.index(start), stages=frozenset(stages), shares_work=shares_work
    )


def _threads(name: str, values: Iterable[int], *, stages: Iterable[str]) -> Knob:
    """Numbers of threads, and 0, the program's own choice, behind them."""
    ordered = (*sorted(value for value in set(values) if value > 0), 0)
    return Knob(name=name, values=ordered, start=len(ordered) - 1, stages=frozenset(stages))

"""Memory: how large tiles can be. Arithmetic on a plan; nothing is allocated.

A network on a GPU has its activations there: they count against the GPU's free memory, the rest against the host's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, MediaError
from pipeline.host import available_memory_bytes
from pipeline.pool_plan import canvas_pool, plan_pools
from pipeline.tiling import TileGrid, choose_tile, plan_tiles

if TYPE_CHECKING:
    from engines import BackendChoice, ModelSpec
    from pipeline.config import Config
    from pipeline.plan import JobPlan

MOST_FOLDED_PX = 4
"""What a network of one tile size can be expected to fold together, pixels per side: nothing about the file says it, as
no other size can be tried. Source: RealESRGAN_x2plus folds 2, RRDBNet of scale 1 folds 4."""

MEMORY_SHARE = 0.7
"""Part of the free memory that ``run.memory_mb: auto`` takes: the rest is for the encoder's own look-ahead and for the
file cache. libx265 at 2160p holds about 1.5 GB by itself. The same part of a GPU's, where it is not measured yet: the
rest is for the libraries' contexts, the weights and the scratch memory of convolutions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLimits:
    """What tiles can be, whatever the memory."""

    min_side_px: int
    """Shortest side; smaller frames are padded."""
    max_side_px: int | None
    """Longest side; None for any."""
    multiple_of: int
    """What sides must be divisible by."""
    overlap_px: int
    """What neighbours share at least."""
    height: int | None = None
    """The only height that the network takes; None if it takes any."""
    width: int | None = None
    """The only width that the network takes; None if it takes any."""

    @property
    def rules(self) -> dict[str, int]:
        """What holds for tiles of any size, as ``pipeline.tiling`` takes it."""
        return {"overlap_px": self.overlap_px, "multiple_of": self.multiple_of, "min_side_px": self.min_side_px}

    def largest_grid(self, *, height: int, width: int) -> TileGrid:
        """The whole frame as one tile without regard to ``max_side_px``, or the tiles that the network insists on."""
        return plan_tiles(height=height, width=width, tile_height=self.height, tile_width=self.width, **self.rules)


def limit_tiles(config: Config, *, model: ModelSpec, backend: BackendChoice) -> TileLimits:
    """Say what tiles the config, the network and a dynamic engine's profile allow.

    Raises:
        ConfigError: The config asks for tiles or batches that the network or the engine will not take.
    """
    engine, wanted = config.infer.engine, config.tile.max_px
    max_side = None if wanted == "auto" else wanted
    min_side = model.min_px
    if engine.dynamic and backend.compiles_engines:
        if max_side is not None and max_side > engine.max_px:
            raise ConfigError(
                (
                    f"tile.max_px: must not be more than infer.engine.max_px "
                    f"(got {max_side}, not {engine.max_px} or less)",
                ),
                hint=f"raise infer.engine.max_px to {max_side}, or leave tile.max_px at auto",
            )
        max_side, min_side = max_side or engine.max_px, max(min_side, engine.min_px)
    fixed = [side for side in (model.fixed_height, model.fixed_width) if side is not None]
    _check_fixed(config, model, fixed=fixed, max_side_px=max_side)
    overlap_px = model.overlap_px if config.tile.overlap_px == "auto" else config.tile.overlap_px
    if fixed and config.tile.overlap_px == "auto":
        overlap_px = min(overlap_px, (min(fixed) - 1) // 2)  # the most that the rule for tile.overlap_px allows
    return TileLimits(
        min_side_px=min(min_side, *fixed) if fixed else min_side,
        max_side_px=max_side,
        multiple_of=math.gcd(model.size_multiple, MOST_FOLDED_PX, *fixed) if fixed else model.size_multiple,
        overlap_px=overlap_px,
        height=model.fixed_height,
        width=model.fixed_width,
    )


def _check_fixed(config: Config, model: ModelSpec, *, fixed: list[int], max_side_px: int | None) -> None:
    """Check the config against a network that takes tiles of one size, or a number of them, only."""
    batch = config.infer.batch
    if model.fixed_batch is not None and batch != model.fixed_batch:
        raise ConfigError(
            (f"infer.batch_tiles: must be {model.fixed_batch}, which is all that {model.name} takes (got {batch})",),
            hint="or export the network with a free number of pictures",
        )
    if not fixed:
        return
    takes = f"{model.name} takes tiles of {model.fixed_width or 'any'}x{model.fixed_height or 'any'} only"
    hint = "or export the network with free height and width"
    if max_side_px is not None and max_side_px < max(fixed):
        raise ConfigError(
            (f"tile.max_px: must be at least {max(fixed)}: {takes} (got {max_side_px})",),
            hint=hint,
        )
    overlap = config.tile.overlap_px
    if overlap != "auto" and 2 * overlap >= min(fixed):
        raise ConfigError(
            (f"tile.overlap_px: must be less than half of {min(fixed)}: {takes} (got {overlap})",),
            hint=hint,
        )


def plan_grid(plan: JobPlan, limits: TileLimits) -> JobPlan:
    """Choose the tiles: as large as the limits and the memory allow.

    Args:
        plan: With ``limits.largest_grid`` as its tiles.
        limits: From ``limit_tiles``.

    Raises:
        MediaError: No tile keeps to the limits.
    """
    height, width = plan.info.video.height, plan.info.video.width
    whole = plan_pools(plan)
    budget = host_budget_bytes(plan.config)
    longest = max(whole.grid.tile_height, whole.grid.tile_width)
    fits = whole.memory_bytes_estimated <= budget and (limits.max_side_px is None or limits.max_side_px >= longest)
    device_budget = plan.backend.device_memory_bytes
    if device_budget is not None:
        device_budget = int(device_budget * MEMORY_SHARE)
        fits = fits and whole.device_bytes_estimated <= device_budget
    if fits:
        return plan
    max_area = _largest_area_on_host(whole, budget_bytes=budget)
    advice = f"raise run.memory_mb (now {budget // 2**20} MiB) or tile.max_px, or lower tile.overlap_px"
    if device_budget is not None:
        device_area = _largest_area_on_device(whole, budget_bytes=device_budget)
        if device_area < max_area:
            advice = f"lower infer.batch_tiles or tile.overlap_px: the GPU has {device_budget // 2**20} MiB for tiles"
        max_area = min(max_area, device_area)
    try:
        tile_height, tile_width = choose_tile(
            height=height,
            width=width,
            tile_height=limits.height,
            tile_width=limits.width,
            max_side_px=limits.max_side_px,
            max_area_px=max_area,
            **limits.rules,
        )
    except ValueError as exc:
        raise MediaError(
            f"{plan.info.path.name}: {width}x{height} cannot be cut into tiles that fit: {exc}",
            path=plan.info.path,
            hint=advice,
        ) from exc
    grid = plan_tiles(height=height, width=width, tile_height=tile_height, tile_width=tile_width, **limits.rules)
    return replace(plan, grid=grid)


def _largest_area_on_host(whole: JobPlan, *, budget_bytes: int) -> int:
    """Pixels of the largest tile whose run fits into the host's memory; 1 if none does."""
    if whole.is_on_gpu:  # no buffer of the host depends on the tile
        return whole.grid.tile_height * whole.grid.tile_width if whole.memory_bytes_estimated <= budget_bytes else 1
    fixed = whole.decoded_bytes + whole.pool("frames out").bytes
    whole_px = whole.grid.tile_height * whole.grid.tile_width
    per_px = (whole.memory_bytes_estimated - fixed - whole.canvas_bytes) / whole_px
    return max(1, int((budget_bytes - fixed - whole.canvas_bytes_if(is_cut=True)) / per_px))


def _largest_area_on_device(whole: JobPlan, *, budget_bytes: int) -> int:
    """The same for the GPU. What frames need there whatever the tile, and the canvas of a cut frame, come off first."""
    whole_px = whole.grid.tile_height * whole.grid.tile_width
    if not whole.is_on_gpu:
        decoder = whole.decoder_bytes_estimated
        return max(1, (budget_bytes - decoder) * whole_px // (whole.device_bytes_estimated - decoder))
    tiles = sum(whole.pool(name).bytes for name in ("tiles in", "tiles out"))
    fixed = whole.device_pool_bytes - tiles + whole.resampling_bytes + whole.decoder_bytes_estimated
    canvas = canvas_pool(whole, is_cut=len(whole.grid.tiles) == 1)  # which a frame that is cut already has
    per_px = (whole.device_bytes_estimated - fixed) / whole_px
    return max(1, int((budget_bytes - fixed - sum(pool.bytes for pool in canvas)) / per_px))


def host_budget_bytes(config: Config) -> int:
    """Memory of the host that a run may use."""
    if config.run.memory_mb == "auto":
        return int(available_memory_bytes() * MEMORY_SHARE)
    return config.run.memory_mb * 2**20

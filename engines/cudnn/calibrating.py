"""How good a network is in float8, and with which ranges: found out on the processor before a GPU runs it so.

The very plan that the GPU gets is emulated, on pictures that a network sees (film) and on those that reach the largest
values (patterns). Ranges come from both: with those of film alone a pattern of points falls to 4 dB on
RealESRGAN_x4plus, cut off at the largest value, with both it has 40. What decides is film.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.accuracy import ACCURACY_LIMITS, PSNR_CEILING_DB, box_average
from engines.cudnn.graph import read_graph
from engines.cudnn.narrowing import narrow_candidates, narrow_plan
from engines.cudnn.plan import plan_network
from engines.cudnn.steps import ConvStep, Plan
from engines.cudnn.support import trial_size
from engines.errors import AccuracyFailed, BackendUnavailable, UnsupportedPrecision
from engines.networks import GraphOptions, Network
from engines.tiles import adversarial_tiles, film_tiles
from engines.verify import psnr_db

logger = logging.getLogger(__name__)

LEAST_DB: Final = ACCURACY_LIMITS["fp8"].psnr_film_db
"""PSNR against float32 that the worst film tile must reach."""

HINT: Final = "choose precision fp16"

_FILM_TILES: Final = 4
"""Two places of both pictures that the package carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What of a network runs in float8."""

    names: tuple[str, ...]
    """Of the convolutions."""
    convolutions: int
    """Of the whole network."""
    peaks: tuple[tuple[str, float], ...]
    """Largest absolute value of every convolution's result, by name."""
    psnr_db: float
    """Of the worst film tile against float32."""

    def narrow(self, plan: Plan) -> Plan:
        """A plan of the same network, at any size, with these convolutions in float8."""
        return narrow_plan(plan, names=self.names, peaks=dict(self.peaks))

    @property
    def note(self) -> str:
        """One sentence for a report."""
        return (
            f"fp8 in {len(self.names)} of {self.convolutions} convolutions: {self.psnr_db:.1f} dB against float32 on "
            f"film tiles, at least {LEAST_DB:g} is required"
        )


def calibrate(network: Network, *, output_scale: int) -> Calibration:
    """Find the largest set of convolutions with which a network stays good enough.

    Args:
        network: The network.
        output_scale: Enlargement.

    Raises:
        UnsupportedPrecision: None of its convolutions can run in float8.
        AccuracyFailed: Film is worse than `LEAST_DB` with every set; the text has the figures.
        BackendUnavailable: torch, which emulates it, is not installed.
    """
    try:
        from engines.cudnn.emulation import EmulatedPlan
    except ImportError as exc:
        raise BackendUnavailable(
            f"backend cudnn computes in fp8 only what it could compare with float32: {exc}",
            missing="torch",
            hint=f"pip install torch, or {HINT}",
        ) from exc
    spec = network.spec
    height, width = trial_size(spec)
    batch = spec.fixed_batch or 1
    options = GraphOptions(precision="fp16", batch=batch, height=height, width=width, output_scale=output_scale)
    plan = plan_network(read_graph(network.graph(options)))
    sets = narrow_candidates(plan)
    if not sets:
        raise UnsupportedPrecision(f"backend cudnn finds no convolution of {spec.name} to run in fp8", hint=HINT)
    film = [np.repeat(tile[np.newaxis], batch, 0) for tile in film_tiles(height=height, width=width, batch=_FILM_TILES)]
    wide = EmulatedPlan(plan)
    for tiles in (*film, *adversarial_tiles(height=height, width=width, batch=batch).values()):
        wide.run(tiles)
    wanted = [box_average(network.run_reference(tiles), factor=spec.scale // output_scale) for tiles in film]
    reached: list[float] = []
    for names in sets:
        narrow = EmulatedPlan(narrow_plan(plan, names=names, peaks=wide.peaks))
        worst = min(_quality_db(narrow.run(tiles), one) for tiles, one in zip(film, wanted, strict=True))
        logger.info("%s: %.1f dB with %d convolutions in fp8", spec.name, worst, len(names))
        reached.append(worst)
        if worst >= LEAST_DB:
            return Calibration(
                names=tuple(sorted(names)),
                convolutions=sum(isinstance(step, ConvStep) for step in plan.steps),
                peaks=tuple(sorted(wide.peaks.items())),
                psnr_db=worst,
            )
    raise AccuracyFailed(
        f"{spec.name} in fp8 reaches {max(reached):.1f} dB against float32 on film tiles, at least {LEAST_DB:g} is "
        "required",
        hint=HINT,
    )


def _quality_db(result: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return min(psnr_db(result, wanted), PSNR_CEILING_DB) if np.isfinite(result).all() else 0.0

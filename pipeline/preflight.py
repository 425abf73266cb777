"""The last steps before a run: can the result be written, which network is opened, and how fast is it here?"""

from __future__ import annotations

import math
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from engines import Runner, open_runner
from engines.measure import measure_throughput
from pipeline.errors import OutputError
from pipeline.tiling import round_up

if TYPE_CHECKING:
    from engines.build_options import BuildListener
    from pipeline.plan import JobPlan


PACE_FLOP = 1e11
"""Arithmetic of one trial inference: a quarter of a second on two cores of a 2024 server."""


def check_paths(plan: JobPlan) -> None:
    """Refuse a job whose result could not be put where the config says. Makes the output folder.

    Raises:
        OutputError: The result would replace its source or an existing file, or the folder cannot be written.
    """
    if not plan.is_written:
        return
    source, output = plan.info.path, plan.output
    if output.exists() and source.exists() and output.samefile(source):
        raise OutputError(
            f"the output would replace the input: {output}", path=output, hint="set output.dir or output.name"
        )
    if output.exists() and not plan.config.output.overwrite:
        raise OutputError(
            f"the output exists: {output}", path=output, hint="set output.overwrite: true, or another output.name"
        )
    if output.is_dir() and plan.container != "png":
        raise OutputError(f"the output is a folder: {output}", path=output, hint="set another output.name")
    make_output_folder(plan)


def make_output_folder(plan: JobPlan) -> None:
    """Make the folder of a plan's result, and see that it can be written.

    Raises:
        OutputError: It cannot.
    """
    folder = plan.output.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise OutputError(
            f"cannot write into {folder}: {exc.strerror}", path=folder, hint="set output.dir to a folder you may write"
        ) from exc


def measure_pace(plan: JobPlan, *, seconds: float = 2.0, listener: BuildListener | None = None) -> float:
    """Run the planned network on noise for a moment, on the processor on tiles small enough that it stays a moment.

    There, speed per pixel hardly depends on the tile's size (measured: 1.5 % between 128x128 and 640x272;
    engines/README.md). On a GPU the tiles are the plan's: small ones would not fill it, and an engine that is compiled
    for one size would have to be compiled once more. So are those of a network that takes one size only.

    Args:
        plan: What to run.
        seconds: How long to measure, after one round to warm up.
        listener: Hears of an engine that has to be compiled first.

    Returns:
        Frames per second that the engine alone reaches; the run cannot be faster.

    Raises:
        EngineError: The network cannot be opened or run.
    """
    height, width = plan.grid.tile_height, plan.grid.tile_width
    is_sized = plan.model.fixed_height is not None or plan.model.fixed_width is not None
    if plan.backend.activation_share > 0 and not is_sized:  # on the processor
        side = max(16, plan.model.min_px, math.isqrt(int(PACE_FLOP / max(1, plan.model.flop_per_px))))
        side = round_up(side, plan.model.size_multiple)
        height, width = min(side, height), min(side, width)
    with open_planned_runner(plan, height=height, width=width, listener=listener) as runner:
        return measure_throughput(runner, seconds=seconds).px_per_s / plan.grid.computed_px


def open_planned_runner(
    plan: JobPlan, *, height: int | None = None, width: int | None = None, listener: BuildListener | None = None
) -> Runner:
    """Open the runner of a plan; a context manager. Compiles its engine first where there is none yet, which can take
    minutes: never call this while frames flow.

    Args:
        plan: What to run.
        height, width: Tile size in pixels, if not the plan's.
        listener: Hears of an engine that has to be compiled.

    Raises:
        BuildCancelled: The listener, or Ctrl-C, stopped the compilation.
        EngineError: The network cannot be opened.
    """
    return open_runner(
        model=plan.model,
        backend=plan.backend.backend,
        precision=plan.backend.precision,
        device=plan.backend.device_id,
        batch=plan.config.infer.batch,
        height=height or plan.grid.tile_height,
        width=width or plan.grid.tile_width,
        output_scale=plan.engine_scale,
        threads=plan.config.infer.threads,
        slots=plan.slots,
        build=plan.config.infer.engine.build_options(),
        listener=listener,
    )

"""A plan in words and as JSON: what ``plan`` prints, what a run says when it starts, and what its report holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.engine import choice_as_json, passed_over_lines
from pipeline.show.report import Choice
from pipeline.show.wording import format_span

if TYPE_CHECKING:
    from pipeline.plan import JobPlan


def list_choices(plan: JobPlan) -> tuple[Choice, ...]:
    """Who does what and why, for the report."""
    engine = f"{plan.model.name} {plan.backend.precision} on {plan.backend.backend}"
    return (
        Choice(part="decoder", chosen=plan.decoder.kind, reason=plan.decoder.reason),
        Choice(part="engine", chosen=engine, reason=plan.backend.reason),
        Choice(part="encoder", chosen=plan.encode.encoder.name, reason=plan.encoder_reason),
        *((Choice(part="hdr", chosen=_seen_word(plan), reason=plan.seen.reason),) if plan.seen.reason else ()),
        Choice(part="lanes", chosen=str(plan.lanes), reason=plan.lanes_reason),
    )


def choice_lines(plan: JobPlan) -> tuple[str, ...]:
    """Who does what and why, a sentence each."""
    video = plan.info.video
    size = f"{video.width}x{video.height} -> {plan.width}x{plan.height}"
    tiles = "whole frames" if plan.grid.is_whole else f"{len(plan.grid.tiles)} tiles of {_tile_size(plan)}"
    return (
        f"decoder: {plan.decoder.reason}",
        *((f"fields: {plan.deinterlacing.text}",) if plan.deinterlacing is not None else ()),
        f"engine: {plan.backend.reason}",
        *((f"hdr: the network sees {plan.seen.reason}",) if plan.seen.reason else ()),
        f"encoder: {plan.encoder_reason}",
        *((f"lanes: {plan.lanes}, {plan.lanes_reason}",) if plan.lanes > 1 else ()),
        *((f"frames: {plan.frames.reason}",) if plan.frames.reason else ()),
        *((f"tuning: {plan.tuned.text}",) if plan.tuned is not None else ()),
        f"size: {size}, {tiles}" + (f", engine x{plan.engine_scale}, then Lanczos" if plan.resamples else ""),
    )


def engine_as_json(plan: JobPlan) -> dict[str, Any]:
    """The network, its files by content, and what runs it, as JSON-native values."""
    return {
        "model": plan.model.name,
        "denoise": plan.model.denoise,
        "files": [{"path": str(file.path), "sha256": file.sha256} for file in plan.model_files],
        "scale": plan.engine_scale,
        **choice_as_json(plan.backend),
    }


def plan_lines(plan: JobPlan, *, pace_fps: float | None = None) -> tuple[str, ...]:
    """The plan in words.

    Args:
        plan: The plan.
        pace_fps: Frames per second that the engine was measured to reach; None if it was not.
    """
    frames = plan.frame_count_estimated
    count = "an unknown number of" if frames is None else f"about {frames}"
    segments = "" if frames is None else f", {-(-frames // plan.segment_frames)} segments"
    on_host = ", ".join(f"{pool.count} x {pool.name}" for pool in plan.pools if pool.place != "device")
    on_device = ", ".join(f"{pool.count} x {pool.name}" for pool in plan.pools if pool.place == "device")
    each = f", in each of {plan.lanes} lanes" if plan.lanes > 1 else ""
    lines = [
        f"{plan.info.path.name} -> {plan.output if plan.is_written else 'nothing (null encoder)'}",
        *(f"  {line}" for line in (*choice_lines(plan), *passed_over_lines(plan.backend))),
        f"  frames: {count}{segments} of {plan.segment_frames} frames",
        *((f"  lanes: 1, {plan.lanes_reason}",) if plan.lanes == 1 else ()),
        f"  memory: about {plan.memory_bytes_estimated / 2**20:.0f} MiB, of it buffers "
        f"{plan.host_pool_bytes * plan.lanes / 2**20:.0f} MiB ({on_host}{each})",
    ]
    if plan.backend.device_memory_bytes is not None:
        lines.append(
            f"  GPU memory: about {plan.device_bytes_estimated / 2**20:.0f} MiB "
            f"of {plan.backend.device_memory_bytes / 2**20:.0f} MiB free"
            + (
                f", of it buffers {plan.device_pool_bytes * plan.lanes / 2**20:.0f} MiB ({on_device}{each})"
                if on_device
                else ""
            )
            + (
                f", NVDEC itself perhaps {plan.decoder_bytes_estimated * plan.lanes / 2**20:.0f} MiB"
                if plan.decoder_bytes_estimated
                else ""
            )
        )
    if pace_fps is not None:
        time_s = "" if frames is None else f": at least {format_span(frames / pace_fps)}"
        lines.append(f"  time: the engine alone makes {pace_fps:.3g} fps here{time_s}")
    disk = estimate_disk_bytes(plan)
    if disk is not None:
        lines.append(
            f"  disk: about {max(1, round(disk / 2**20))} MiB for the result, "
            "the same again for its segments until it is done"
        )
    lines += [f"  note: {guess}" for guess in plan.info.guesses]
    lines += [f"  warning: {warning}" for warning in plan.warnings]
    return tuple(lines)


def estimate_disk_bytes(plan: JobPlan) -> int | None:
    """Size of the result: the encoder's usual bits per pixel, the other streams as they are. None if unknown."""
    frames = plan.frame_count_estimated
    if frames is None or not plan.is_written:
        return None
    return int(frames * plan.height * plan.width * plan.encode.encoder.bits_per_px / 8) + plan.info.size_bytes // 4


def plan_as_json(plan: JobPlan) -> dict[str, Any]:
    """The plan as JSON-native values."""
    frames = plan.frame_count_estimated
    return {
        "input": str(plan.info.path),
        "output": str(plan.output) if plan.is_written else None,
        "container": plan.container or None,
        "source": {"height_px": plan.info.video.height, "width_px": plan.info.video.width},
        "result": {"height_px": plan.height, "width_px": plan.width},
        "model": plan.model.name,
        "engine": engine_as_json(plan),
        "choices": list(choice_lines(plan)),
        "tiles": {
            "count": len(plan.grid.tiles),
            "height_px": plan.grid.tile_height,
            "width_px": plan.grid.tile_width,
            "overlap_px": plan.overlap_px,
            "computed_share": plan.grid.computed_px / (plan.grid.height * plan.grid.width),
        },
        "segments": {
            "frames": plan.segment_frames,
            "count_estimated": -(-frames // plan.segment_frames) if frames else None,
        },
        "lanes": {"count": plan.lanes, "reason": plan.lanes_reason},
        "tuned": None if plan.tuned is None else {"text": plan.tuned.text, "taken": dict(plan.tuned.taken)},
        "frame_count_estimated": frames,
        "memory_bytes_estimated": plan.memory_bytes_estimated,
        "device_bytes_estimated": plan.device_bytes_estimated,
        "disk_bytes_estimated": estimate_disk_bytes(plan),
        "pools": [
            {"name": pool.name, "place": pool.place, "count": pool.count, "bytes": pool.bytes} for pool in plan.pools
        ],
        "frames_on": plan.frames.place,
        "flop_per_frame": plan.model.flop_per_px * plan.grid.computed_px,
        "notes": list(plan.info.guesses),
        "warnings": list(plan.warnings),
    }


def _seen_word(plan: JobPlan) -> str:
    return "direct" if plan.seen.curve is None else "curve"


def _tile_size(plan: JobPlan) -> str:
    return f"{plan.grid.tile_width}x{plan.grid.tile_height} (overlap at least {plan.overlap_px})"

"""The facts of a plan that decide about a film's bytes, and what it means where they are others in the second attempt.

Everything counts unless it is listed here with a reason, so a new field counts by default.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import pipeline
from pipeline.host import installed_version

if TYPE_CHECKING:
    from pipeline.plan import JobPlan

Effect = Literal["refuse", "pin", "note"]
"""What a difference does. refuse: the film would not be one film. pin: the first attempt's value is used again. note:
it is said, and the run goes on."""

EFFECTS: Mapping[str, tuple[Effect, str]] = MappingProxyType(
    {
        "tile.height": ("pin", "follows from the memory that happened to be free; where tiles meet, pixels differ"),
        "tile.width": ("pin", "as tile.height"),
        "tile.overlap_px": ("pin", "as tile.height"),
        "infer.batch_tiles": ("pin", "lowered when memory runs out; a library may add up another batch otherwise"),
        "encode.threads": ("pin", "shared out between the lanes of that attempt; libx264's bits depend on it"),
        "infer.device": (
            "note",
            "the same library in the same arithmetic computes the same network: another processor or GPU of its kind "
            "rounds differently in the last bit at most, and a night's work is worth more",
        ),
        "machine.host": ("note", "where it runs, not what is done"),
        "machine.kernel": ("note", "as machine.host"),
        "machine.gpu_driver": ("note", "as infer.device"),
        "run.lanes_planned": ("note", "frames are the same in any number of lanes; encode.threads is pinned"),
    }
)
"""Facts of the plan that are no reason to refuse, each with its reason. All others are."""

SETTING_EFFECTS: Mapping[str, tuple[Effect, str]] = MappingProxyType(
    {
        "run.lanes": ("note", "frames are the same in any number of lanes; encode.threads is pinned"),
        "run.memory_mb": ("note", "it decides about tiles, which are pinned, and lanes"),
        "run.frames_on": ("note", "where frames are in the end is a fact of its own, frames.place"),
        "infer.device": ("note", "the device in the end is a fact of its own; as that"),
    }
)
"""Settings in the config's digest that are no reason to refuse, each with its reason. All others are: who changed them
wants another film."""

LIBRARIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "torch": ("torch",),
        "cudnn": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
        "openvino": ("openvino",),
        "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
        "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings"),
    }
)
"""Distributions that can bring a backend's library, by backend. Another version computes other bits."""

_GPU_DRIVER = Path("/sys/module/nvidia/version")
"""Version of the loaded NVIDIA driver; Linux shows it there while the module is loaded."""


def plan_facts(plan: JobPlan) -> dict[str, Any]:
    """List what was decided about a film, beside its config: dotted names, JSON-native values.

    Args:
        plan: The plan that a run begins with.
    """
    encode = {field.name: getattr(plan.encode, field.name) for field in fields(plan.encode) if field.name != "encoder"}
    facts: dict[str, Any] = {
        "code.version": pipeline.__version__,
        "decoder.kind": plan.decoder.kind,
        "decode.library": "" if plan.decoder.kind == "synthetic" else _versions(("av",)),
        "model.name": plan.model.name if plan.model.path is None else "",  # a user's file: its content counts
        "model.denoise": plan.model.denoise,
        "model.files": [file.sha256 for file in plan.model_files],
        "infer.backend": plan.backend.backend,
        "infer.precision": plan.backend.precision,
        "infer.library": _versions(LIBRARIES.get(plan.backend.backend, ())),
        "infer.scale": plan.engine_scale,
        "infer.seen": "codes" if plan.seen.curve is None else plan.seen.curve.text,
        "infer.batch_tiles": plan.config.infer.batch,
        "infer.device": plan.backend.device,
        "frames.place": plan.frames.place,
        "tile.height": plan.grid.tile_height,
        "tile.width": plan.grid.tile_width,
        "tile.overlap_px": plan.overlap_px,
        "encode.encoder": plan.encode.encoder.name,
        "encode.library": _versions(("av",)),
        "output.container": plan.container,
        "segment.frames": plan.segment_frames,
        "run.lanes_planned": plan.lanes,
        "machine.host": platform.node(),
        "machine.kernel": platform.release(),
        "machine.gpu_driver": _gpu_driver(),
    }
    for name, value in encode.items():
        facts.update(_flatten(f"encode.{name}", value))
    if plan.encode.encoder.is_hardware:
        facts["encode.device"] = plan.backend.device  # each generation of the hardware has another encoder
    return facts


def _flatten(name: str, value: Any) -> dict[str, Any]:
    """One field of a dataclass as JSON-native values, nested ones with their path."""
    if is_dataclass(value):
        nested = [_flatten(f"{name}.{field.name}", getattr(value, field.name)) for field in fields(value)]
        return {key: inner for facts in nested for key, inner in facts.items()}
    if isinstance(value, Fraction):
        return {name: str(value)}
    if isinstance(value, Mapping):
        return {name: {str(key): str(inner) for key, inner in sorted(value.items())}}
    return {name: value}


def _versions(distributions: tuple[str, ...]) -> str:
    """Names and versions of those that are installed."""
    found = ((name, installed_version(name)) for name in distributions)
    return ", ".join(f"{name} {version}" for name, version in found if version is not None)


def _gpu_driver() -> str:
    """Version of the NVIDIA driver; empty if none is loaded."""
    try:
        return _GPU_DRIVER.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""

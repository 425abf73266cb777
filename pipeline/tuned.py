"""What ``tools/tune.py`` found to be fastest on this machine, kept in the user's cache folder for later plans.

One file for each circumstance: machine, backend, network, precision, sizes, encoder. Only what decides nothing about
the picture beyond rounding is kept; each is taken where the config leaves it open, so what a user sets always wins.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engines.atomic import write_atomic
from engines.cache.store import default_cache_dir
from engines.errors import EngineError
from pipeline.host import probe_host

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.plan import JobPlan

FORMAT_VERSION = 1
"""Of the files. Those of another version count as absent."""
MOST_BYTES = 65536
"""Larger files are not read: one has less than 2 kB."""

OPEN_VALUES: Mapping[str, Any] = MappingProxyType(
    {
        "tile.max_px": "auto",
        "infer.batch_tiles": "auto",
        "infer.slots": "auto",
        "infer.threads": 0,
        "run.lanes": "auto",
        "decode.threads": 0,
        "encode.threads": 0,
    }
)
"""Settings that are kept, each with the value by which a config leaves it open."""

MOST: Mapping[str, int] = MappingProxyType(
    {
        "tile.max_px": 16384,
        "infer.batch_tiles": 1024,
        "infer.slots": 16,
        "infer.threads": 1024,
        "run.lanes": 16,
        "decode.threads": 1024,
        "encode.threads": 1024,
    }
)
"""The most that the config format allows for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What of the kept settings a plan took."""

    wished: Config
    """The config before that."""
    taken: Mapping[str, int]
    """Dotted names and values; empty if none was."""
    text: str
    """One line for the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One file."""

    settings: Mapping[str, int]
    """Of `OPEN_VALUES`; what is not in it was fastest as the program chooses it."""
    date: str
    """On which it was measured, ISO 8601."""
    fps: float
    """Frames per second that the run reached with them."""
    default_fps: float
    """The same without them."""


class UnreadableTuning(Exception):
    """A file is there, but is not what this version writes. Its text says why, a clause."""


def take_tuned(plan: JobPlan, *, folder: Path | None = None) -> JobPlan:
    """Take over what is kept for a plan's circumstances, where its config leaves it open. Cannot fail.

    Args:
        plan: Before its tiles, pools and lanes are decided.
        folder: Where files are; None: `default_folder`.

    Returns:
        The plan with those settings, and ``tuned`` set if there is a file, readable or not.
    """
    folder = folder or default_folder()
    if folder is None:
        return plan
    wanted, config = circumstances(plan), plan.config
    path = folder / file_name(wanted)
    try:
        kept = read_kept(path, wanted=wanted)
    except UnreadableTuning as exc:
        text = f"{path} {exc}, so it is not used; run tools/tune.py again, or remove it"
        return replace(plan, tuned=Tuned(wished=config, taken={}, text=text))
    if kept is None:
        return plan
    taken = {name: value for name, value in kept.settings.items() if is_open(config, name)}
    filled = fill_in(config, taken)
    return replace(
        plan,
        config=filled,
        slots=taken.get("infer.slots", plan.slots),
        encode=replace(plan.encode, threads=taken.get("encode.threads", plan.encode.threads)),
        tuned=Tuned(wished=config, taken=taken, text=_say(kept, taken)),
    )


def is_open(config: Config, name: str) -> bool:
    """Whether a config leaves a setting to the program."""
    section, key = name.split(".")
    return bool(getattr(getattr(config, section), key) == OPEN_VALUES[name])


def fill_in(config: Config, settings: Mapping[str, int]) -> Config:
    """A config with some of `OPEN_VALUES` set."""
    for name, value in settings.items():
        section, key = name.split(".")
        inner = getattr(config, section).model_copy(update={key: value})
        config = config.model_copy(update={section: inner})
    return config


def circumstances(plan: JobPlan) -> dict[str, Any]:
    """Everything on which the fastest settings depend, as JSON-native values.

    Args:
        plan: Of the film; its tiles, lanes and threads play no part.
    """
    host, engine, video = probe_host(), plan.config.infer.engine, plan.info.video
    is_dynamic = engine.dynamic and plan.backend.compiles_engines
    return {
        "processor": host["cpu_model"],
        "cores": host["cpu_count_usable"],
        "device": plan.backend.device,
        "backend": plan.backend.backend,
        "model": plan.model.name if plan.model.path is None else "",
        "model_files": [file.sha256 for file in plan.model_files],
        "precision": plan.backend.precision,
        "engine_scale": plan.engine_scale,
        "engine_px": [engine.min_px, engine.opt_px, engine.max_px] if is_dynamic else None,
        "overlap_px": plan.overlap_px,
        "source": [video.height, video.width],
        "result": [plan.height, plan.width],
        "decoder": plan.decoder.kind,
        "frames": plan.frames.place,
        "encoder": plan.encode.encoder.name,
        "preset": plan.encode.preset or plan.encode.encoder.default_preset,
    }


def default_folder() -> Path | None:
    """``nightscale/tuned`` in the user's cache folder; None where there is none."""
    try:
        return default_cache_dir().parent / "tuned"
    except EngineError:
        return None


def file_name(wanted: Mapping[str, Any]) -> str:
    """Name of the file for given circumstances."""
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    return f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def write_kept(folder: Path, kept: Kept, *, wanted: Mapping[str, Any]) -> Path:
    """Keep settings, in place of older ones for the same circumstances.

    Args:
        folder: Made if missing.
        kept: What to keep.
        wanted: `circumstances` under which it was measured.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written; an older file stays as it was.
    """
    values = {
        "version": FORMAT_VERSION,
        "circumstances": dict(wanted),
        "settings": dict(kept.settings),
        "date": kept.date,
        "fps": kept.fps,
        "default_fps": kept.default_fps,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(wanted)
    write_atomic(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
    return path


def read_kept(path: Path, *, wanted: Mapping[str, Any]) -> Kept | None:
    """Read a file.

    Args:
        path: The file.
        wanted: `circumstances`; a file of others counts as absent.

    Returns:
        What it says; None if it is not there or was made under other circumstances.

    Raises:
        UnreadableTuning: It is damaged, or of another version.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not hold a plan up
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UnreadableTuning(f"cannot be read ({exc.strerror})") from exc
    try:
        values = json.loads(content)
        version = values["version"]
        if version != FORMAT_VERSION:
            raise UnreadableTuning(f"is of version {version!r}, not {FORMAT_VERSION}")
        if values["circumstances"] != json.loads(json.dumps(wanted)):
            return None
        settings = {name: _checked(name, value) for name, value in values["settings"].items()}
        fps, default_fps = float(values["fps"]), float(values["default_fps"])
        return Kept(settings=settings, date=str(values["date"])[:40], fps=fps, default_fps=default_fps)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise UnreadableTuning("is damaged") from exc


def _checked(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MOST[name]:
        raise ValueError(f"{name}: {value!r}")
    return value


def _say(kept: Kept, taken: Mapping[str, int]) -> str:
    text = f"tuned on {kept.date} by tools/tune.py: "
    text += ", ".join(f"{name} {value}" for name, value in taken.items()) or "nothing is taken from it"
    left = [name for name in kept.settings if name not in taken]
    if not kept.settings:
        text += ", as the program's own choice was the fastest"
    if left:
        text += f"; as the config says: {', '.join(left)}"
    return text + " (run.tuned: false leaves it out)"

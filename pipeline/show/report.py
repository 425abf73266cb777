"""The report of a job: one JSON file that says what was done, with what, how fast, and what was wrong.

Schema, version 1. Everything is JSON-native; sizes are bytes, spans seconds, times ISO 8601 in UTC, fractions strings
such as ``"30000/1001"``; null means unknown::

    schema_version          1
    program                 name, version, git_revision (null outside a checkout; "-dirty" if files were changed)
    status                  "done" | "damaged" | "failed" | "stopped"
    started_at, ended_at
    host                    cpu_model, cpu_count, cpu_count_usable, memory_bytes, os, kernel, machine
    versions                python, numpy, av, libavcodec ..., openvino, ffmpeg_program ...: null if not installed
    input                   path, media (null if it could not be probed): the fields of media.MediaInfo by their names
                          (of pictures: how many, the first, the last, and what they have)
    output                  path, size_bytes; null if there is none
    config                  the resolved config, defaults filled in
    choices                 list of {part, chosen, reason}: decoder, engine, encoder ...
    engine                  what ran: model, files ({path, sha256}), backend, device, precision, reason, passed_over
                            ({backend, device, reason, hint}); null if nothing was chosen
    tiles                   the tile plan; null if there was none
    frames_done             frames of the output
    frames_resumed          of these, made by an earlier run
    elapsed_s               this run's
    fps                     frames that this run made, per second of elapsed_s
    stages                  list of {name, state, items_in, items_out, elapsed_s, busy_s, wait_in_s, wait_out_s,
                            wait_buffer_s, load}, in order
    channels                list of {name, capacity, depth, peak, sent, received, occupancy, full}, in order
    lanes                   list of {stages, channels} as above, of each lane; empty if there was one
    pool_bytes              memory that the pools allocated
    peak_rss_bytes          most resident memory of this process; peak_rss_children_bytes: of the largest child process
    verdict                 {stage, load, text}: what limited the run; null if nothing ran
    warnings, errors        lists of lines
    verification            what was checked in the finished file; null if nothing was

Keys are only ever added within a version.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from engines.atomic import write_atomic
from pipeline.errors import OutputError
from pipeline.graph.metrics import GraphSnapshot, StageSnapshot, Verdict
from pipeline.host import (
    git_revision,
    installed_version,
    peak_rss_bytes,
    peak_rss_children_bytes,
    probe_host,
    probe_versions,
)
from pipeline.media import MediaInfo
from pipeline.show.progress import JobStatus

SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision that was made for the user."""

    part: str
    """What was to be chosen: ``decoder``, ``engine``, ``encoder`` ..."""
    chosen: str
    """What was chosen."""
    reason: str
    """Why, one sentence."""


def build_report(
    *,
    status: JobStatus,
    started_at: datetime,
    ended_at: datetime,
    elapsed_s: float,
    input_path: Path,
    media: MediaInfo | None,
    output: Path | None,
    config: Mapping[str, Any],
    choices: Sequence[Choice],
    engine: Mapping[str, Any] | None = None,
    tiles: Mapping[str, Any] | None,
    graph: GraphSnapshot | None,
    verdict: Verdict | None,
    frames_done: int,
    frames_resumed: int = 0,
    warnings: Sequence[str] = (),
    errors: Sequence[str] = (),
    verification: Mapping[str, Any] | None = None,
    ffmpeg: Path | None = None,
) -> dict[str, Any]:
    """Collect everything about a job, and what the machine says of itself.

    Args:
        status: How the job ended.
        started_at, ended_at: With a time zone.
        elapsed_s: Length of this run of the job by a steady clock, seconds.
        input_path: The film, as given.
        media: What probing it found; None if it could not be probed.
        output: The finished file; None if there is none.
        config: The resolved config.
        choices: What ``auto`` became, and why.
        engine: The network, its files and what runs it.
        tiles: The tile plan.
        graph: The last snapshot; None if nothing ran.
        verdict: What limited the run.
        frames_done: Frames of the output.
        frames_resumed: Of these, the frames that an earlier run made.
        warnings: What the user should look at.
        errors: Why the job failed, the cause first.
        verification: What was checked in the finished file.
        ffmpeg: The ffmpeg program that was used.

    Returns:
        The report, JSON-native throughout; the module describes it.

    Raises:
        TypeError: A value has no JSON form; the message says where it is.
        ValueError: A time has no time zone.
    """
    fps = (frames_done - frames_resumed) / elapsed_s if elapsed_s > 0 else 0.0
    report = {
        "schema_version": SCHEMA_VERSION,
        "program": {
            "name": "nightscale",
            "version": installed_version("nightscale"),
            "git_revision": git_revision(Path(__file__).parents[1]),
        },
        "status": status,
        "started_at": started_at,
        "ended_at": ended_at,
        "host": probe_host(),
        "versions": probe_versions(ffmpeg=ffmpeg),
        "input": {"path": input_path, "media": _describe_media(media)},
        "output": None if output is None else {"path": output, "size_bytes": _size_bytes(output)},
        "config": config,
        "choices": choices,
        "engine": engine,
        "tiles": tiles,
        "frames_done": frames_done,
        "frames_resumed": frames_resumed,
        "elapsed_s": elapsed_s,
        "fps": fps,
        "stages": [_stage_figures(stage) for stage in graph.stages] if graph is not None else [],
        "channels": graph.channels if graph is not None else [],
        "lanes": _lane_figures(graph) if graph is not None else [],
        "pool_bytes": graph.pool_bytes if graph is not None else 0,
        "peak_rss_bytes": peak_rss_bytes(),
        "peak_rss_children_bytes": peak_rss_children_bytes(),
        "verdict": verdict,
        "warnings": warnings,
        "errors": errors,
        "verification": verification,
    }
    native = json_native(report)
    assert isinstance(native, dict)
    return native


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report so that readers see the old file or the new one, never a part.

    Args:
        path: The file; its folder exists.
        report: What ``build_report`` returned.

    Raises:
        OutputError: The disk is full or the path is not writable.
    """
    # ASCII: a path of bytes that are no text survives as its surrogates, which UTF-8 could not carry.
    text = json.dumps(report, indent=2, ensure_ascii=True, allow_nan=False)
    try:
        write_atomic(path, text.encode("ascii") + b"\n")
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise OutputError(f"cannot write the report {path}: {reason}", path=path, hint="free space or rights") from exc


def json_native(value: Any, *, where: str = "report") -> Any:
    """Turn a value into what JSON has, without losing exactness where there is a choice.

    Args:
        value: Nested dataclasses, mappings, sequences, sets and scalars. Paths, fractions, times and enumerations
            become strings; numpy scalars and arrays become numbers and lists; a float that is not finite becomes None.
        where: Place of the value, for the error.

    Raises:
        TypeError: Anything else.
        ValueError: A time without a time zone.
    """
    if isinstance(value, enum.Enum):
        return json_native(value.value, where=where)
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return json_native(value.tolist(), where=where)
    if isinstance(value, PurePath | Fraction):
        return str(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{where}: {value} has no time zone")
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, date):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: json_native(getattr(value, field.name), where=f"{where}.{field.name}")
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): json_native(item, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, Set):
        return sorted((json_native(item, where=where) for item in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [json_native(item, where=f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{where}: {type(value).__name__} has no JSON form")


def _describe_media(media: MediaInfo | None) -> Mapping[str, Any] | None:
    """The fields of a film; of pictures how many there are, not each of them."""
    if media is None:
        return None
    fields = {field.name: getattr(media, field.name) for field in dataclasses.fields(media)}
    if (pictures := media.pictures) is not None:
        fields["pictures"] = {
            "count": len(pictures.files),
            "first": pictures.files[0],
            "last": pictures.files[-1],
            "has_alpha": pictures.has_alpha,
            "is_grey": pictures.is_grey,
            "profile_bytes": len(pictures.profile),
        }
    return fields


def _lane_figures(graph: GraphSnapshot) -> list[dict[str, Any]]:
    return [
        {"stages": [_stage_figures(stage) for stage in lane.stages], "channels": lane.channels} for lane in graph.lanes
    ]


def _stage_figures(stage: StageSnapshot) -> dict[str, Any]:
    fields = {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}
    return {**fields, "busy_s": stage.busy_s, "load": stage.load}


def _size_bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None

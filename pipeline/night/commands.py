"""What can be asked of a run from another terminal: how it is, to pause, to go on, to stop."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.night.folder import find_run_folder
from pipeline.night.requests import Request, make_request, withdraw_request
from pipeline.night.status import STALE_S, RunStatus, read_status
from pipeline.show.wording import format_frames, format_rate, format_span, safe_text

_STATES = {
    "starting": "starting",
    "working": "working",
    "paused": "paused",
    "hours": "waiting for the hour",
    "disk": "waiting for room on the disk",
    "retry": "waiting before another attempt",
    "watching": "waiting for new films",
    "ending": "ending",
    "over": "over",
}


def locate_run(place: Path) -> Path:
    """The folder of the latest run of a place.

    Args:
        place: A run's folder, an output folder, or a config file (then its ``output.dir`` is looked at).

    Raises:
        ConfigError: It is a config file that is wrong.
        OutputError: No run is known there.
    """
    folder = place
    if place.is_file():
        from pipeline.config.load import load_config

        folder = load_config(place).output.dir
    found = find_run_folder(folder)
    if found is None:
        raise OutputError(
            f"no run is known in {folder}", path=folder, hint="name the run's folder, its output folder or its config"
        )
    return found


def describe_run(folder: Path) -> tuple[RunStatus, tuple[str, ...]]:
    """How a run is, as values and as a table for people.

    Raises:
        OutputError: Its status cannot be read.
    """
    try:
        status = read_status(folder)
    except (OSError, ValueError) as exc:
        raise OutputError(
            f"the status of the run in {folder} cannot be read: {exc}", path=folder, hint="try again in a moment"
        ) from exc
    state = _STATES.get(status.state, status.state)
    if status.is_dead():
        state = "dead: its process is gone; start it again, it goes on where it was"
    elif not status.is_over and status.silent_s() > STALE_S:
        state += f" (no sign of life for {format_span(status.silent_s())})"
    elif status.reason:
        state += f": {status.reason}"
    seen_at = status.written_at if status.is_over or status.is_dead() else time.time()
    rows = [
        ("run", str(folder)),
        ("state", state),
        ("host", f"{status.host}, process {status.pid}, for {format_span(seen_at - status.started_at)}"),
        ("films", f"{status.done_count} of {status.film_count} done, {status.failed_count} failed"),
    ]
    if status.film and not status.is_over:
        frames = format_frames(done=status.frames_done, total=status.frame_count)
        rows += [
            ("film", f"{status.film} ({status.film_index + 1} of {status.film_count})"),
            ("frames", f"{frames}, {format_rate(status.fps)}"),
            ("ETA", f"film {_span(status.film_eta_s)}, run {_span(status.run_eta_s)}"),
        ]
        if status.bottleneck:
            rows.append(("limit", status.bottleneck))
    width = max(len(name) for name, _ in rows)
    return status, tuple(safe_text(f"{name:<{width}}  {text}") for name, text in rows)


def ask_run(folder: Path, request: Request | None) -> str:
    """Ask a run for something.

    Args:
        folder: Of the run.
        request: None: to go on after a pause.

    Returns:
        What was asked, in one sentence.

    Raises:
        OutputError: The run is over, or its folder cannot be written.
    """
    status, _ = describe_run(folder)
    if status.is_over or status.is_dead():
        raise OutputError(f"the run in {folder} is over", path=folder, hint="start it again: it goes on where it ended")
    if request is None:
        if withdraw_request(folder, "pause"):
            return f"asked the run in {folder} to go on"
        return f"the run in {folder} was not paused"
    make_request(folder, request)
    what = "pause" if request == "pause" else "stop"
    return f"asked the run in {folder} to {what} after the segment in work"


def _span(seconds: float | None) -> str:
    return "unknown" if seconds is None else format_span(seconds)

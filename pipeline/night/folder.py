"""Where a run keeps what it says and what it did: one folder per run, below the output folder."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.night.requests import REQUESTS, request_path
from pipeline.night.status import FILE_NAME, STALE_S, read_status

HIDDEN = ".nightscale"
"""Folder in the output folder for what is ours."""

_LIVE_RUNS = 8
"""Of a place's runs, those written last are looked at: one that goes on is among them."""

LOG_BYTES, LOG_COUNT = 5_000_000, 4
"""A run's log is at most this long, times this many files: 20 MB for a run of any length."""

FILM_LOG_BYTES = 5_000_000
"""A film's log is at most about this long, and so is the part of it that is kept."""


def make_run_folder(output_dir: Path, *, chosen: Path | None = None) -> Path:
    """Make the folder of a new run.

    Args:
        output_dir: ``output.dir``.
        chosen: The user's wish; None: ``.nightscale/runs/<UTC time>-<process>`` in the output folder.

    Raises:
        OutputError: It cannot be made, or a run that still goes on uses it.
    """
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"
    folder = chosen if chosen is not None else output_dir / HIDDEN / "runs" / name
    if chosen is not None and _is_in_use(chosen):
        raise OutputError(
            f"another run keeps its log in {chosen}", path=chosen, hint="give another --run-dir, or wait for that run"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if chosen is None:
            folder = _make_only(folder)
        for part in (folder / "jobs", folder / "requests"):
            part.mkdir(parents=True, exist_ok=True)
        for request in REQUESTS:  # what an earlier run of this folder was asked has nothing to do with this one
            request_path(folder, request).unlink(missing_ok=True)
    except OSError as exc:
        raise OutputError(
            f"cannot make the run's folder {folder}: {exc.strerror}",
            path=folder,
            hint="set output.dir to a folder that you may write, or give another --run-dir",
        ) from exc
    return folder


def find_run_folder(place: Path) -> Path | None:
    """The folder of a place's run: the one that goes on (the first, if there are several), else the latest.

    Args:
        place: A run's folder, or an output folder.

    Returns:
        None if there is none.
    """
    if _written_ns(place) is not None:
        return place
    try:
        folders = list((place / HIDDEN / "runs").iterdir())
    except OSError:
        return None
    written = {folder: moment for folder in folders if (moment := _written_ns(folder)) is not None}
    latest = sorted(written, key=lambda folder: written[folder], reverse=True)
    return next((folder for folder in sorted(latest[:_LIVE_RUNS]) if _is_in_use(folder)), latest[0] if latest else None)


def _written_ns(folder: Path) -> int | None:
    """When the status of a run's folder was written; None if there is none."""
    try:
        return (folder / FILE_NAME).stat().st_mtime_ns
    except OSError:
        return None


def _is_in_use(folder: Path) -> bool:
    try:
        status = read_status(folder)
    except (OSError, ValueError):
        return False
    return not (status.is_over or status.is_dead() or status.silent_s() > STALE_S)


def _make_only(folder: Path) -> Path:
    """Make a folder that was not there: in containers that start together, processes have the same number."""
    for count in itertools.count(2):
        try:
            folder.mkdir()
            break
        except FileExistsError:
            folder = folder.with_name(f"{folder.name.partition('.')[0]}.{count}")
    return folder


def film_log(folder: Path, index: int) -> Path:
    """The log of a film's process."""
    return folder / "jobs" / f"{index:05d}.log"


def bound_log(path: Path) -> None:
    """Begin a film's log anew if it has become too long; the old part is kept beside it, once, as ``.log.1``.

    Its writer appends, and goes on at the new end. What it writes in the moment of the copy is lost.
    """
    try:
        if path.stat().st_size <= FILM_LOG_BYTES:
            return
    except OSError:
        return
    with suppress(OSError):  # no room for the copy: the log is shortened all the same
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    with suppress(OSError):
        os.truncate(path, 0)


class _RunLog(RotatingFileHandler):
    """A log that falls silent while it cannot be written, instead of filling the terminal with the reason."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Lose the record."""


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Write what is logged into the run's folder too, in files of bounded length."""
    handler = _RunLog(
        folder / "run.log", maxBytes=LOG_BYTES, backupCount=LOG_COUNT - 1, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("pipeline", "engines")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()

"""How long films play, asked of the ffmpeg program: a process each, so that no film can do anything to the run."""

from __future__ import annotations

import logging
import re
import subprocess
from pathlib import Path

from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.inputs.order import DurationOf

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""Opening a film takes a fraction of a second, on a disk that has to start up first some more."""

_DURATION = re.compile(rb"^\s*Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
"""How ffmpeg says it: ``av_dump_format`` in libavformat/dump.c."""


class Durations:
    """Playing times of films, each asked for once.

    Args:
        read: Finds out about one film.
    """

    def __init__(self, read: DurationOf | None = None) -> None:
        self._read = read
        self._known: dict[tuple[Path, int, int], float | None] = {}

    def __call__(self, path: Path) -> float | None:
        """Playing time of a film, seconds; None if nobody can say.

        Raises:
            SetupError: There is no ffmpeg.
        """
        try:
            status = path.stat()
        except OSError:
            return None
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._known:
            if self._read is None:
                self._read = _asking(find_ffmpeg().path)
            self._known[key] = self._read(path)
        return self._known[key]


def _asking(ffmpeg: Path) -> DurationOf:
    def read(path: Path) -> float | None:
        # file: so that no name is taken for a protocol or an option.
        command = [str(ffmpeg), "-hide_banner", "-nostdin", "-i", f"file:{path}"]
        try:
            # Without an output it describes the input, complains and ends with 1.
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as exc:
            logger.warning("cannot find out how long %s plays: %s", path, exc)
            return None
        match = _DURATION.search(done.stderr)
        if match is None:
            return None
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600.0 + int(minutes) * 60 + float(seconds)

    return read

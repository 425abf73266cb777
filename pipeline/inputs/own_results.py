"""Which files are results of this program: they must not become inputs of the next run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pipeline.inputs.output_names import REPORT_ENDING, place_beside
from pipeline.journal.finished import FOLDER, FinishedRecord

MOST_REPORT_BYTES = 16 * 2**20
"""Larger files beside a film are no reports of ours, which have some 20 KB."""


class OwnResults:
    """Knows results by what runs left beside them and in the folders of results: names alone say nothing.

    All paths are absolute and without links.
    """

    def __init__(self) -> None:
        self._finished: dict[Path, tuple[int, int]] = {}
        """Size and time of each finished result."""
        self._read: dict[Path, int] = {}
        """Records that were read, with their time: a watch looks again and again at thousands."""
        self._roots: set[Path] = set()

    def refresh(self) -> None:
        """Look at the folders again; what did not change is not read again."""
        self._roots.clear()

    def look_above(self, folder: Path) -> None:
        """Read what is remembered in a folder and in all folders above it."""
        for parent in (folder, *folder.parents):
            self.look_in(parent)

    def look_in(self, folder: Path) -> None:
        """Read what is remembered in a folder, if it is one of results."""
        if folder in self._roots:
            return
        self._roots.add(folder)
        try:
            with os.scandir(folder / FOLDER) as entries:
                records = [(Path(entry.path), entry.stat().st_mtime_ns) for entry in entries]
        except OSError:
            return
        for path, mtime_ns in records:
            if self._read.get(path) == mtime_ns:
                continue
            self._read[path] = mtime_ns
            try:
                record = FinishedRecord.from_json(json.loads(path.read_bytes()))
            except (OSError, KeyError, TypeError, ValueError):
                continue  # half of a record that some other program wrote: there may still be a report
            identity = record.output_identity
            result = Path(os.path.normpath(folder / record.output))
            self._finished[result] = (identity.size_bytes, identity.mtime_ns)

    def has(self, path: Path, status: os.stat_result) -> bool:
        """Whether a file is a result.

        Args:
            path: The file, see above.
            status: Of the file.
        """
        if self._finished.get(path) == (status.st_size, status.st_mtime_ns) or path.parent in self._finished:
            return True  # the latter is a picture of a finished sequence
        return _reported_size(path) == status.st_size


def _reported_size(path: Path) -> int | None:
    """The size that a report beside a file says its result has; None if none says so."""
    report = place_beside(path, REPORT_ENDING)
    try:
        if report.stat().st_size > MOST_REPORT_BYTES:
            return None
        output = json.loads(report.read_bytes())["output"]
        return int(output["size_bytes"]) if Path(output["path"]).name == path.name else None
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return None

"""Which outputs are finished: one small file for each, in the folder of all results.

An output counts as finished if the file that is there is the one that was verified, of the film that is there, with the
settings that are asked for now. Its name alone says nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pipeline
from engines.atomic import fsync_folder, write_atomic
from engines.models import is_model_file
from pipeline.config import Config
from pipeline.config.digest import NOT_IN_DIGEST, list_fields
from pipeline.errors import OutputError
from pipeline.journal.facts import SETTING_EFFECTS
from pipeline.journal.identity import FileIdentity

FOLDER = Path(".nightscale") / "finished"
"""Of the records, in ``output.dir``."""
VERSION = 1
"""Of the format; a record of another one counts as none."""
NAME_DIGITS = 32
"""Hexadecimal digits of SHA-256 in the name of a record, 128 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRecord:
    """One finished output."""

    output: Path
    """Below the folder of all results, relative to it."""
    output_identity: FileIdentity
    source: Path | None
    """Where the film was, for people; None for a computed one."""
    source_identity: FileIdentity | None
    """None for a computed film."""
    config_digest: str
    frames: int
    finished_at: str
    """UTC, ISO 8601."""
    code_version: str
    damage: str = ""
    """What of the film could not be read; empty if nothing was lost."""

    @property
    def words(self) -> str:
        """When it was finished, and of what; a clause."""
        damage = f", from damaged input: {self.damage}" if self.damage else ""
        return f"finished at {self.finished_at}{damage}"

    @classmethod
    def now(
        cls,
        *,
        root: Path,
        output: Path,
        source: Path | None,
        source_identity: FileIdentity | None,
        config_digest: str,
        frames: int,
        damage: str = "",
    ) -> FinishedRecord:
        """Describe an output that was just finished.

        Args:
            root: ``output.dir``.
            output: The result, under its final name, in ``root`` or below.
            source: The film.
            source_identity: What it was when the work on it began (``RunKey.source``).
            config_digest: ``RunKey.config_digest``.
            frames: In the result.
            damage: What of the film could not be read.

        Raises:
            MediaError: The output cannot be read.
        """
        return cls(
            output=_relative(output, root=root),
            output_identity=FileIdentity.of(output),
            source=source,
            source_identity=source_identity,
            config_digest=config_digest,
            frames=frames,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=pipeline.__version__,
            damage=damage,
        )

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {
            "version": VERSION,
            "output": str(self.output),
            "output_identity": self.output_identity.as_json(),
            "source": None if self.source is None else str(self.source),
            "source_identity": None if self.source_identity is None else self.source_identity.as_json(),
            "config_digest": self.config_digest,
            "frames": self.frames,
            "finished_at": self.finished_at,
            "code_version": self.code_version,
            "damage": self.damage,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FinishedRecord:
        """The opposite of ``as_json``.

        Raises:
            KeyError, TypeError, ValueError: They are something else.
        """
        if values["version"] != VERSION:
            raise ValueError(f"format {values['version']} is not {VERSION}")
        source, source_identity = values["source"], values["source_identity"]
        return cls(
            output=Path(values["output"]),
            output_identity=FileIdentity.from_json(values["output_identity"]),
            source=None if source is None else Path(source),
            source_identity=None if source_identity is None else FileIdentity.from_json(source_identity),
            config_digest=str(values["config_digest"]),
            frames=int(values["frames"]),
            finished_at=str(values["finished_at"]),
            code_version=str(values["code_version"]),
            damage=str(values["damage"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCheck:
    """Whether an output is finished."""

    is_finished: bool
    reason: str
    """Why it is not, a clause; when it was finished if it is."""


def remember_finished(root: Path, record: FinishedRecord) -> Path:
    """Write a record, whole or not at all, in the place of an older one for the same output.

    Args:
        root: ``output.dir``; exists.
        record: What is finished.

    Returns:
        The file.

    Raises:
        OutputError: It cannot be written.
    """
    path = _record_path(root, record.output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(record.as_json(), indent=2) + "\n").encode("ascii"))
        for folder in path.parents[1:3]:  # both may have been made just now
            fsync_folder(folder)
    except OSError as exc:
        raise OutputError(
            f"cannot write {path}: {exc.strerror or exc}", path=path, hint="check rights and free space of its folder"
        ) from exc
    return path


def check_finished(root: Path, *, output: Path, source: Path | None, config_digest: str) -> FinishedCheck:
    """Say whether an output is there, whole, and what would be made now. Changes nothing and raises nothing.

    Args:
        root: ``output.dir``.
        output: The result's final path, in ``root`` or below.
        source: The film; None for a computed one.
        config_digest: What was given to ``FinishedRecord.now``, of now.
    """
    relative = _relative(output, root=root)
    path = _record_path(root, relative)
    try:
        record = FinishedRecord.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return FinishedCheck(is_finished=False, reason="no run has finished it")
    except (OSError, KeyError, TypeError, ValueError) as exc:
        return FinishedCheck(is_finished=False, reason=f"the record {path} cannot be used: {exc}")
    doubt = _doubt(record, relative=relative, output=output, source=source, config_digest=config_digest)
    if doubt:
        return FinishedCheck(is_finished=False, reason=doubt)
    return FinishedCheck(is_finished=True, reason=record.words)


class FinishedIndex:
    """All records of a folder of results, read once: whether a film is finished, without planning it anew.

    Args:
        root: ``output.dir``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._records: dict[Path, list[FinishedRecord]] = {}
        try:
            paths = sorted((root / FOLDER).glob("*.json"))
        except OSError:
            paths = []
        for path in paths:
            with suppress(OSError, KeyError, TypeError, ValueError):
                record = FinishedRecord.from_json(json.loads(path.read_bytes()))
                if record.source is not None:
                    self._records.setdefault(record.source, []).append(record)

    def find(self, source: Path, *, config_digest: str) -> FinishedRecord | None:
        """The record of a film's result that is there, whole, and what would be made now; None if there is none.

        Args:
            source: The film.
            config_digest: What was given to ``FinishedRecord.now``, of now.
        """
        for record in self._records.get(source, ()):
            output = self._root / record.output
            if not _doubt(record, relative=record.output, output=output, source=source, config_digest=config_digest):
                return record
        return None


def wish_digest(config: Config) -> str:
    """SHA-256, hex, of what a config asks for: of everything that changes a result or its name.

    Other than ``config_digest`` it can be had without a plan: a network in a file counts by its content, any other by
    its name. How much memory and how many lanes a run may use does not count.

    Args:
        config: Of one film.

    Raises:
        MediaError: The file of the network cannot be read.
    """
    ignored = (set(NOT_IN_DIGEST) | set(SETTING_EFFECTS)) - {"output.name"}
    counted = {name: value for name, value in list_fields(config) if name not in ignored}
    if is_model_file(config.infer.model):
        identity = FileIdentity.of(Path(config.infer.model))
        counted["infer.model"] = [identity.size_bytes, identity.sha256_ends]
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _doubt(record: FinishedRecord, *, relative: Path, output: Path, source: Path | None, config_digest: str) -> str:
    """Why a record does not hold for what is there and asked for now, a clause; empty if it does."""
    if record.output != relative:
        return f"its record is about {record.output}"
    changes = record.output_identity.changes(output)
    if changes:
        return f"the output is not the one that was finished: {', '.join(changes)}"
    if (source is None) != (record.source_identity is None):
        return "it was made from another source"
    if source is not None and record.source_identity is not None:
        changes = record.source_identity.changes(source)
        if changes:
            return f"the source is not the one that it was made from: {', '.join(changes)}"
    return "" if record.config_digest == config_digest else "it was made with other settings"


def _record_path(root: Path, relative: Path) -> Path:
    """Where the record of an output lies: names of any length and any bytes become short plain ones."""
    return root / FOLDER / f"{hashlib.sha256(os.fsencode(relative)).hexdigest()[:NAME_DIGITS]}.json"


def _relative(output: Path, *, root: Path) -> Path:
    """The output as seen from the folder of all results, so that both may be moved together."""
    return Path(os.path.relpath(output, root))

"""What is known about a stored engine beyond its key, and the readable file beside it that says both.

The file beside an engine (``.json``) holds the whole key in clear and the record of the build. While one engine
replaces another of the same key it holds the records of both, told apart by their plans' SHA-256: the rename of the
engine file alone decides which of them is true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any

from engines.cache.key import EngineKey
from engines.cache.sealed import DamagedFile

SIDECAR_FORMAT = 1
"""Raised when the file's layout changes."""


_RECORD_TYPES: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {
        "driver_version": str,
        "build_s": (int, float),
        "built_at": str,
        "model_path": (str, NoneType),
        "denoise": (int, float, NoneType),
        "scratch_bytes": (int, NoneType),
        "notes": list,
        "details": dict,
        "accuracy": (dict, NoneType),
    }
)
"""What JSON gives for each field of `EngineRecord`."""


def _now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """How an engine came to be. None of it decides whether the engine is the right one."""

    driver_version: str = ""
    """Of the display driver during the build; empty without a GPU."""
    build_s: float = 0.0
    """Seconds that the compiler took."""
    built_at: str = field(default_factory=_now_text)
    """Time of the build, ISO 8601, UTC."""
    model_path: str | None = None
    """The user's own file that the network came from; None for models of the table."""
    denoise: float | None = None
    """``ModelSpec.denoise`` of the network."""
    scratch_bytes: int | None = None
    """Device memory for activations at the largest shape, as the compiler reported it; None if it did not."""
    notes: tuple[str, ...] = ()
    """What the compiler or we said about the build, one sentence each."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """More figures of the build; JSON values."""
    accuracy: Mapping[str, Any] | None = None
    """How it differs from the float32 original, as measured on a GPU; None if it was not. JSON values."""

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; numbers that JSON lacks become the words ``inf``, ``-inf`` and ``nan``."""
        return {one.name: _jsonable(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EngineRecord:
        """Read what `to_json` wrote.

        Raises:
            ValueError: A field is missing, unknown or of another type.
        """
        known = {one.name for one in fields(cls)}
        if set(value) != known:
            raise ValueError(f"its record has other fields: {', '.join(sorted(set(value) ^ known))}")
        wrong = [name for name, kinds in _RECORD_TYPES.items() if not isinstance(value[name], kinds)]
        if wrong:
            raise ValueError(f"its record is not readable: {', '.join(wrong)}")
        return cls(**{**value, "notes": tuple(value["notes"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One plan and its record."""

    plan_sha256: str
    """Of the plan, lower-case hex."""
    plan_bytes: int
    """Length of the plan."""
    record: EngineRecord
    """How it came to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """The readable file beside an engine."""

    key: EngineKey
    """What the engine was built from."""
    builds: tuple[Build, ...]
    """The newest first; more than one only while it replaces another."""

    def find(self, plan_sha256: str) -> Build | None:
        """The record of a plan; None if the file speaks of others."""
        return next((one for one in self.builds if one.plan_sha256 == plan_sha256), None)

    def to_bytes(self) -> bytes:
        """The file's content."""
        value = {
            "format": SIDECAR_FORMAT,
            "digest": self.key.digest,
            "key": self.key.to_json(),
            "builds": [
                {"plan_sha256": one.plan_sha256, "plan_bytes": one.plan_bytes, "record": one.record.to_json()}
                for one in self.builds
            ],
        }
        return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Sidecar:
        """Read a file's content.

        Raises:
            ValueError: It is damaged or written by another version of this program; the text says which.
        """
        try:
            value = json.loads(content)
        except ValueError as exc:
            raise ValueError("it is not JSON") from exc
        if not isinstance(value, dict) or value.get("format") != SIDECAR_FORMAT:
            raise ValueError("another version of this program wrote it")
        try:
            key = EngineKey.from_json(value["key"])
            builds = tuple(
                Build(
                    plan_sha256=str(one["plan_sha256"]),
                    plan_bytes=int(one["plan_bytes"]),
                    record=EngineRecord.from_json(one["record"]),
                )
                for one in value["builds"]
            )
        except (KeyError, TypeError) as exc:
            raise ValueError("a part of it is missing") from exc
        if key.digest != value.get("digest"):
            raise ValueError("its key does not have its digest")
        return cls(key=key, builds=builds)


def load_sidecar(path: Path) -> Sidecar:
    """Read the file beside an engine.

    Raises:
        DamagedFile: It is missing or not usable, so the engine is not either.
    """
    try:
        return Sidecar.from_bytes(path.read_bytes())
    except FileNotFoundError as exc:
        raise DamagedFile(f"{path.name}, which describes it, is missing") from exc
    except OSError as exc:
        raise DamagedFile(f"{path.name}, which describes it, cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise DamagedFile(f"{path.name}, which describes it, is not usable: {exc}") from exc


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _jsonable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    return value

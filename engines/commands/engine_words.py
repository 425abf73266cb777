"""Cached engines in words and as JSON, for the commands that show them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from engines.cache.listing import CacheEntry

ENGINE_COLUMNS = ("model", "compiler", "precision", "shape", "for", "size", "built", "used", "film PSNR")
"""Titles of `engine_row`."""


def engine_row(entry: CacheEntry, *, now_s: float | None = None) -> tuple[str, ...]:
    """One engine as the cells of a table.

    Args:
        entry: With a key and a build.
        now_s: Unix time; None is the present.
    """
    if entry.key is None or entry.build is None:
        raise ValueError(f"{entry.path} is no engine")
    now_s = time.time() if now_s is None else now_s
    key, record = entry.key, entry.build.record
    accuracy = (record.accuracy or {}).get("psnr_film_db")
    return (
        key.model,
        f"{key.compiler} {key.compiler_version}",
        key.precision,
        key.shape_text,
        key.target,
        size_text(entry.file_bytes),
        record.built_at[:10],
        f"{age_text(now_s - entry.last_used_s)} ago",
        f"{accuracy:.1f} dB" if isinstance(accuracy, int | float) else "not measured",
    )


def entry_json(entry: CacheEntry) -> dict[str, Any]:
    """One file of the cache as JSON values."""
    value: dict[str, Any] = {
        "path": str(entry.path),
        "kind": entry.kind,
        "bytes": entry.file_bytes,
        "last_used": datetime.fromtimestamp(entry.last_used_s, UTC).isoformat(timespec="seconds"),
        "problem": entry.problem,
    }
    if entry.key is not None and entry.build is not None:
        value |= {"key": entry.key.to_json(), "record": entry.build.record.to_json()}
    return value


def size_text(count: int) -> str:
    """Bytes in the unit that reads best, powers of 1000."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def age_text(seconds: float) -> str:
    """A span of time in its largest unit."""
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{int(seconds // factor)} {unit}"
    return f"{max(0, int(seconds))} s"

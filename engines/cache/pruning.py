"""Which engines may go, a pure decision over what lies in the folder, and their removal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.cache.folder import CacheFolder
from engines.cache.listing import CacheEntry, engine_locks, leftovers, look_at_engine, unlink_engine
from engines.cache.locks import is_held, try_lock


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What pruning did, or would do."""

    removed: tuple[CacheEntry, ...]
    """Gone."""
    kept: tuple[CacheEntry, ...]
    """To be removed, but somebody is building or replacing them at this moment."""

    @property
    def freed_bytes(self) -> int:
        """Length of all removed files."""
        return sum(entry.file_bytes for entry in self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneLimits:
    """What may stay. Without any limit only what is damaged or left over goes."""

    older_than_s: float | None = None
    """What was not used for longer than this goes."""
    max_bytes: int | None = None
    """The longest unused go until the rest of the chosen model, or of everything, is not larger than this."""
    model: str | None = None
    """Only engines of this model go; all of them if neither of the limits above is given."""
    everything: bool = False
    """All engines and timing caches go."""


def choose_victims(
    entries: Sequence[CacheEntry], *, limits: PruneLimits, now_s: float | None = None
) -> tuple[CacheEntry, ...]:
    """Choose what to remove: always what is damaged or left over, never what is foreign.

    Args:
        entries: Of a cache folder.
        limits: What may stay.
        now_s: Unix time; None is the present.

    Returns:
        In the order of ``entries``.
    """
    now_s = time.time() if now_s is None else now_s
    sound = [entry for entry in entries if entry.kind in {"engine", "timing"}]
    everything = limits.everything
    if limits.model is not None:
        sound = [entry for entry in sound if entry.key is not None and entry.key.model == limits.model]
        everything = everything or (limits.older_than_s is None and limits.max_bytes is None)
    chosen = {
        entry.path
        for entry in sound
        if everything or (limits.older_than_s is not None and now_s - entry.last_used_s > limits.older_than_s)
    }
    if limits.max_bytes is not None:
        rest = sorted((entry for entry in sound if entry.path not in chosen), key=lambda entry: entry.last_used_s)
        excess = sum(entry.file_bytes for entry in rest) - limits.max_bytes
        for entry in rest:
            if excess <= 0:
                break
            chosen.add(entry.path)
            excess -= entry.file_bytes
    return tuple(entry for entry in entries if entry.kind in {"damaged", "leftover"} or entry.path in chosen)


def remove_victims(files: CacheFolder, victims: Sequence[CacheEntry], *, dry_run: bool) -> PruneReport:
    """Remove files of a cache, one after the other, and the locks that killed builders left.

    Args:
        files: The cache.
        victims: From `choose_victims`.
        dry_run: Only look which would go.

    Raises:
        CacheFailed: The folder cannot be written to.
    """
    removed: list[CacheEntry] = []
    kept: list[CacheEntry] = []
    for victim in victims:
        went = _would_go(files, victim) if dry_run else _remove(files, victim)
        (removed if went else kept).append(victim)
    if not dry_run and files.path.is_dir():
        with files.failing("remove abandoned locks"):
            for path in engine_locks(files.path):
                with try_lock(path):
                    pass  # giving a lock back removes its file
    return PruneReport(removed=tuple(removed), kept=tuple(kept))


def _remove(files: CacheFolder, entry: CacheEntry) -> bool:
    path = entry.path
    with files.changing(f"remove {path.name}"):
        if entry.kind == "leftover":
            if path in leftovers(files.path):
                path.unlink(missing_ok=True)
            return True
        if path.suffix != ".engine":
            path.unlink(missing_ok=True)
            return True
        with try_lock(path.with_suffix(".lock")) as is_ours:
            if not is_ours or (entry.kind == "damaged" and _is_sound(path)):
                return False
            unlink_engine(path)
            return True


def _is_sound(path: Path) -> bool:
    """Whether an engine that was damaged when we looked has been replaced since."""
    try:
        return look_at_engine(path, check_content=False).kind == "engine"
    except FileNotFoundError:
        return False


def _would_go(files: CacheFolder, entry: CacheEntry) -> bool:
    with files.failing("read the locks"):
        return entry.path.suffix != ".engine" or not is_held(entry.path.with_suffix(".lock"))

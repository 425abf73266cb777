"""Compiled engines in a folder: found by key, checked before use, replaced as a whole.

Files of one engine: ``<stem>.engine`` (header and plan), ``<stem>.json`` (key and record in clear), ``<stem>.lock``
while it is built, and attachments ``<stem>.<name>``. Timing caches are ``*.timing``. Everything else is foreign.

Two kinds of locks, always taken in this order: the lock of a key is held by who builds that engine, for minutes; the
lock of the folder is held for single changes of files. Reading takes none: an engine file and the record in the file
beside it are told to belong together by the plan's SHA-256, and the rename of the engine file is the one moment at
which an engine changes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.atomic import write_atomic
from engines.cache.folder import CacheFolder
from engines.cache.key import EngineKey
from engines.cache.listing import CacheEntry, companions, leftovers, list_entries, unlink_engine
from engines.cache.pruning import PruneLimits, PruneReport, choose_victims, remove_victims
from engines.cache.record import Build, EngineRecord, Sidecar, load_sidecar
from engines.cache.sealed import DamagedFile, read_header, seal
from engines.cache.timing import TimingScope
from engines.errors import CacheFailed, EngineError

logger = logging.getLogger(__name__)

_ATTACHMENT_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED_NAMES = frozenset({"engine", "json", "lock", "part"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEngine:
    """An engine of the store, checked."""

    path: Path
    """Its file; the plan begins after the header."""
    key: EngineKey
    """What it was built from."""
    plan: bytes = field(repr=False)
    """What the compiler wrote and its runtime loads."""
    record: EngineRecord
    """How it came to be."""


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/nightscale/engines``, or the same under ``~/.cache``.

    Source: XDG Base Directory Specification: a path there that is not absolute is ignored.

    Raises:
        EngineError: The user has no home folder, as in some containers.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as exc:
            raise EngineError(
                "there is no home folder to keep compiled engines in", hint="set XDG_CACHE_HOME to a folder"
            ) from exc
    return base / "nightscale" / "engines"


class EngineStore:
    """A folder of compiled engines; several processes and threads may use one at the same time.

    Args:
        folder: Made when it is first written to; None is the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (default_cache_dir() if folder is None else folder).absolute()
        self._files = CacheFolder(self.folder)

    def path_of(self, key: EngineKey) -> Path:
        """Where the engine of this key is or would be."""
        return self.folder / f"{key.file_stem}.engine"

    def get(self, key: EngineKey, *, notes_use: bool = True) -> StoredEngine | None:
        """Read and check an engine, and note that it was used.

        Args:
            key: The engine's.
            notes_use: Let it count as used now, which keeps it from being pruned.

        Returns:
            None if it is not there. A damaged one is removed, with one warning that says why.

        Raises:
            CacheFailed: The folder is something else or may not be entered.
        """
        path = self.path_of(key)
        try:
            engine = self._read(key)
        except DamagedFile as exc:
            self._remove_damaged(key, reason=str(exc))
            return None
        if engine is not None and notes_use:
            with suppress(OSError):  # a cache that may only be read still serves
                os.utime(path)
        return engine

    def put(self, key: EngineKey, *, plan: bytes, record: EngineRecord) -> StoredEngine:
        """Store an engine, replacing the one that is there.

        Whoever reads meanwhile, and whoever comes after a crash at any point, finds the old engine or the new one.

        Raises:
            CacheFailed: The disk is full or the folder cannot be written to; what was there is unchanged and no part
                of the new engine is left.
        """
        path, sidecar = self.path_of(key), self._sidecar_of(key)
        build = Build(plan_sha256=hashlib.sha256(plan).hexdigest(), plan_bytes=len(plan), record=record)
        content = seal(plan, kind="engine", owner_sha256=key.digest)
        with self._files.changing(f"store the engine {path.name} ({len(content)} bytes)", needed_bytes=len(content)):
            for leftover in leftovers(self.folder):
                leftover.unlink(missing_ok=True)
            before = self._current_build(key)
            older = () if before is None or before.plan_sha256 == build.plan_sha256 else (before,)
            try:
                write_atomic(sidecar, Sidecar(key=key, builds=(build, *older)).to_bytes())
                write_atomic(path, content)
            except OSError:
                if before is None:
                    unlink_engine(path)
                raise
            if older:
                with suppress(OSError):  # the engine is in its place; what follows only tidies up
                    write_atomic(sidecar, Sidecar(key=key, builds=(build,)).to_bytes())
                    for stale in companions(path):
                        if stale != sidecar:
                            stale.unlink(missing_ok=True)
        return StoredEngine(path=path, key=key, plan=plan, record=record)

    def discard(self, key: EngineKey, *, reason: str) -> None:
        """Remove an engine that its runtime no longer loads, with a warning; not being there is no error.

        Args:
            key: The engine's.
            reason: What the runtime said.

        Raises:
            CacheFailed: The folder cannot be written to.
        """
        path = self.path_of(key)
        logger.warning("the cached engine %s is removed: %s", path, reason)
        with self._files.changing(f"remove {path.name}"):
            unlink_engine(path)

    @contextmanager
    def lock(self, key: EngineKey) -> Iterator[None]:
        """Be the only one to build an engine; blocks, after one line about it, while another process or thread does.

        After it `get` has to be asked again: the one before may have built it. Not re-entrant.

        Raises:
            CacheFailed: The folder cannot be written to or knows no locks.
        """
        with self._files.locking(f"{key.file_stem}.lock", waiting_for=f"the build of the engine {key.file_stem}"):
            yield

    def record_accuracy(self, key: EngineKey, accuracy: Mapping[str, Any]) -> bool:
        """Note beside an engine how it differs from the float32 original.

        Args:
            key: The engine's.
            accuracy: JSON values; numbers may be infinite.

        Returns:
            False if the engine is gone or the folder cannot be written to, which changes nothing for who uses it.
        """
        try:
            with self._files.changing("note an engine's accuracy"):
                build = self._current_build(key)
                if build is None:
                    return False
                measured = replace(build, record=replace(build.record, accuracy=dict(accuracy)))
                write_atomic(self._sidecar_of(key), Sidecar(key=key, builds=(measured,)).to_bytes())
                return True
        except CacheFailed as exc:
            logger.info("%s", exc)
            return False

    def load_timing_cache(self, scope: TimingScope) -> bytes | None:
        """Read a timing cache; a damaged one is removed, with one warning that says why."""
        return self._files.load_sealed(scope.file_name, kind="timing", owner_sha256=scope.digest)

    def save_timing_cache(self, scope: TimingScope, content: bytes) -> bool:
        """Store a timing cache. Of two builds at once the later one's measurements stay.

        Returns:
            False, after a warning, if it cannot be written: the next build takes longer, that is all.
        """
        return self._files.save_sealed(scope.file_name, content, kind="timing", owner_sha256=scope.digest)

    def load_attachment(self, engine: StoredEngine, *, name: str) -> bytes | None:
        """Read what a runtime stored beside an engine, such as kernels that it compiled for this GPU.

        Args:
            engine: Whose it is; what was stored for another plan of the same key is not returned.
            name: Lower-case word, which is the file name's ending.
        """
        file_name = self._attachment_name(engine, name)
        owner = hashlib.sha256(engine.plan).hexdigest()
        return self._files.load_sealed(file_name, kind="attachment", owner_sha256=owner)

    def save_attachment(self, engine: StoredEngine, content: bytes, *, name: str) -> bool:
        """Store something beside an engine that goes when it goes.

        Returns:
            False, after a warning, if it cannot be written.
        """
        file_name = self._attachment_name(engine, name)
        owner = hashlib.sha256(engine.plan).hexdigest()
        return self._files.save_sealed(file_name, content, kind="attachment", owner_sha256=owner)

    def entries(self, *, check_content: bool = False) -> tuple[CacheEntry, ...]:
        """Everything in the folder, by name; nothing is changed.

        Args:
            check_content: Also read every file to its end and compare its checksum.

        Raises:
            CacheFailed: The folder cannot be read.
        """
        with self._files.failing("list the files"):
            return list_entries(self.folder, check_content=check_content)

    def prune(self, limits: PruneLimits, *, dry_run: bool = False, now_s: float | None = None) -> PruneReport:
        """Remove engines that are not needed, and in any case what crashes left and what is damaged.

        An engine that somebody builds at this moment stays, and foreign files always do.

        Args:
            limits: What may stay.
            dry_run: Only say what would go.
            now_s: Unix time; None is the present.

        Raises:
            CacheFailed: The folder cannot be read or written to.
        """
        victims = choose_victims(self.entries(), limits=limits, now_s=now_s)
        return remove_victims(self._files, victims, dry_run=dry_run)

    def _read(self, key: EngineKey) -> StoredEngine | None:
        """Read engine and record; asks again where somebody replaced the one between our reading of the two."""
        path, seen = self.path_of(key), ""
        while True:
            found = self._files.open_sealed(path.name, kind="engine", owner_sha256=key.digest)
            if found is None:
                return None
            header, plan = found
            try:
                build = self._find_build(key, header.content_sha256)
                return StoredEngine(path=path, key=key, plan=plan, record=build.record)
            except DamagedFile:
                if header.content_sha256 == seen:
                    raise
            seen = header.content_sha256

    def _find_build(self, key: EngineKey, plan_sha256: str) -> Build:
        """The record of a plan in the file beside it.

        Raises:
            DamagedFile: There is none.
        """
        path = self._sidecar_of(key)
        sidecar = load_sidecar(path)
        if sidecar.key.digest != key.digest:
            raise DamagedFile(f"{path.name} describes an engine of another key")
        build = sidecar.find(plan_sha256)
        if build is None:
            raise DamagedFile(f"{path.name} describes another plan")
        return build

    def _current_build(self, key: EngineKey) -> Build | None:
        """The record of the engine that is there, without reading its plan; None if there is no sound one."""
        path = self.path_of(key)
        try:
            with path.open("rb") as stream:
                header = read_header(stream, file_bytes=os.fstat(stream.fileno()).st_size)
            return self._find_build(key, header.content_sha256)
        except (OSError, DamagedFile):
            return None

    def _remove_damaged(self, key: EngineKey, *, reason: str) -> None:
        """Say why an engine is not used, and remove it unless somebody repaired it meanwhile."""
        path = self.path_of(key)
        logger.warning("the cached engine %s is not used and has to be built anew: %s", path, reason)
        try:
            with self._files.changing(f"remove {path.name}"):
                try:
                    self._read(key)
                except DamagedFile:
                    unlink_engine(path)
        except CacheFailed as exc:
            logger.info("%s", exc)

    def _sidecar_of(self, key: EngineKey) -> Path:
        return self.folder / f"{key.file_stem}.json"

    @staticmethod
    def _attachment_name(engine: StoredEngine, name: str) -> str:
        if name in _RESERVED_NAMES or not _ATTACHMENT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for an attachment")
        return f"{engine.key.file_stem}.{name}"

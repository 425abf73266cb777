"""What lies in a cache folder: engines, timing caches, what is damaged or left over, and what is not ours."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.cache.key import DIGEST_CHARACTERS, EngineKey
from engines.cache.record import Build, load_sidecar
from engines.cache.sealed import DamagedFile, Header, read_header

EntryKind = Literal["engine", "timing", "damaged", "leftover", "foreign"]

_STEM = rf".+-[0-9a-f]{{{DIGEST_CHARACTERS}}}"
_ENGINE = re.compile(rf"{_STEM}\.engine")
_COMPANION = re.compile(rf"({_STEM})\.([a-z][a-z0-9_]*)")
_LOCK = re.compile(rf"{_STEM}\.lock")
_TIMING = re.compile(rf"{_STEM}\.timing")
_PART = re.compile(rf"\.{_STEM}\.[a-z][a-z0-9_]*\.\d+\.part")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One engine, timing cache or other file of a cache folder."""

    path: Path
    """The file; of an engine its largest one."""
    kind: EntryKind
    """``damaged``: an engine or timing cache that cannot be used. ``leftover``: of a crash. ``foreign``: not ours."""
    file_bytes: int
    """Length, of an engine with all files that belong to it."""
    last_used_s: float
    """Unix time of the last use."""
    key: EngineKey | None = None
    """Engines: what it was built from."""
    build: Build | None = None
    """Engines: how it came to be."""
    problem: str = ""
    """Damaged: what is wrong."""


def companions(engine: Path) -> tuple[Path, ...]:
    """Files that belong to an engine and go with it, by name; not its lock."""
    return tuple(
        sorted(
            path
            for path in engine.parent.glob("*")
            if path.stem == engine.stem and path != engine and path.suffix != ".lock" and path.is_file()
        )
    )


def unlink_engine(engine: Path) -> None:
    """Remove an engine and what belongs to it; the engine first: from then on nothing is found, come what may."""
    engine.unlink(missing_ok=True)
    for companion in companions(engine):
        companion.unlink(missing_ok=True)


def engine_locks(folder: Path) -> tuple[Path, ...]:
    """The files of engines' locks, held or abandoned, by name."""
    return tuple(path for path in sorted(folder.iterdir()) if _LOCK.fullmatch(path.name))


def leftovers(folder: Path) -> tuple[Path, ...]:
    """Temporary files, and descriptions without their engine, by name.

    Only who holds the folder's lock may take them for abandoned: during a change they are in use.
    """
    names = {path.name for path in folder.iterdir()}
    return tuple(
        folder / name
        for name in sorted(names)
        if _PART.fullmatch(name)
        or (
            (match := _COMPANION.fullmatch(name))
            and match[2] not in {"engine", "lock", "timing"}
            and f"{match[1]}.engine" not in names
        )
    )


def list_entries(folder: Path, *, check_content: bool) -> tuple[CacheEntry, ...]:
    """Everything in a folder, by name.

    Args:
        folder: A cache folder; one that does not exist is empty.
        check_content: Read every file to its end and compare its checksum.

    Raises:
        OSError: The folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return ()
    engines = {path.stem for path in paths if _ENGINE.fullmatch(path.name)}
    found = []
    for path in paths:
        name = path.name
        companion = _COMPANION.fullmatch(name)
        try:
            if _ENGINE.fullmatch(name):
                entry = look_at_engine(path, check_content=check_content)
                if entry.kind == "damaged":  # or it was replaced while we looked: then it is not damaged any more
                    entry = look_at_engine(path, check_content=check_content)
                found.append(entry)
            elif _TIMING.fullmatch(name):
                found.append(_timing_entry(path, check_content=check_content))
            elif name == ".lock" or (companion and (companion[2] == "lock" or companion[1] in engines)):
                continue
            else:
                kind: EntryKind = "leftover" if companion or _PART.fullmatch(name) else "foreign"
                found.append(_plain_entry(path, kind=kind))
        except FileNotFoundError:
            continue  # removed since the folder was read
    return tuple(found)


def look_at_engine(path: Path, *, check_content: bool) -> CacheEntry:
    """Read an engine's header and description, without its plan unless ``check_content``.

    Raises:
        FileNotFoundError: It is gone.
    """
    status = path.stat()
    file_bytes = status.st_size + sum(one.stat().st_size for one in companions(path))
    try:
        header = _read_file(path, check_content=check_content)
        key, build = _read_description(path, header)
    except DamagedFile as exc:
        return CacheEntry(
            path=path, kind="damaged", file_bytes=file_bytes, last_used_s=status.st_mtime, problem=str(exc)
        )
    return CacheEntry(
        path=path, kind="engine", file_bytes=file_bytes, last_used_s=status.st_mtime, key=key, build=build
    )


def _read_description(path: Path, header: Header) -> tuple[EngineKey, Build]:
    beside = path.with_suffix(".json")
    sidecar = load_sidecar(beside)
    build = sidecar.find(header.content_sha256)
    if header.kind != "engine" or header.owner_sha256 != sidecar.key.digest or build is None:
        raise DamagedFile(f"{beside.name} describes another engine")
    if sidecar.key.file_stem != path.stem:
        raise DamagedFile("it has another name than it was stored under")
    return sidecar.key, build


def _timing_entry(path: Path, *, check_content: bool) -> CacheEntry:
    entry = _plain_entry(path, kind="timing")
    try:
        header = _read_file(path, check_content=check_content)
        if header.kind != "timing" or not path.stem.endswith(header.owner_sha256[:DIGEST_CHARACTERS]):
            raise DamagedFile("it is no timing cache of this name")
    except DamagedFile as exc:
        return CacheEntry(
            path=path, kind="damaged", file_bytes=entry.file_bytes, last_used_s=entry.last_used_s, problem=str(exc)
        )
    return entry


def _plain_entry(path: Path, *, kind: EntryKind) -> CacheEntry:
    status = path.lstat()
    return CacheEntry(path=path, kind=kind, file_bytes=status.st_size, last_used_s=status.st_mtime)


def _read_file(path: Path, *, check_content: bool) -> Header:
    try:
        with path.open("rb") as stream:
            header = read_header(stream, file_bytes=os.fstat(stream.fileno()).st_size)
            if check_content:
                digest = hashlib.sha256()
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
                if digest.hexdigest() != header.content_sha256:
                    raise DamagedFile("its checksum is wrong")
            return header
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise DamagedFile(f"it cannot be read: {exc.strerror}") from exc

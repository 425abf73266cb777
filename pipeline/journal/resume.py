"""Going on with what an earlier attempt left in a work folder. The journal is trusted as far as the disk agrees."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.errors import OutputError, ResumeRefused
from pipeline.journal.facts import EFFECTS
from pipeline.journal.journal import JOURNAL_NAME, Journal, JournalContent, read_journal
from pipeline.journal.key import RunKey
from pipeline.journal.pinning import LANES_AT_MOST
from pipeline.journal.records import (
    AttemptBegun,
    DemandLowered,
    ResultVerified,
    SegmentCommitted,
    SegmentDropped,
    measure_file,
)
from pipeline.segments import CommittedSegment
from pipeline.work_folder import KEPT_NAMES

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """What is there to go on from."""

    journal: Journal
    """Where this attempt writes on."""
    done: tuple[CommittedSegment, ...]
    """Whole and on disk, in film order; there may be gaps."""
    pinned: Mapping[str, Any]
    """Facts of the plan that this attempt must take over (``pipeline.journal.pinning``), by name. Empty at first."""
    notes: tuple[str, ...]
    """What is another thing now but no reason to refuse, and what has to be made again; one sentence each."""
    result: ResultVerified | None
    """The result that was about to get its name when the earlier attempt ended. If the output is that file, the film
    is finished."""
    attempts: int
    """Earlier ones."""

    @property
    def frames_done(self) -> int:
        """Frames in ``done``."""
        return sum(segment.frame_count for segment in self.done)

    def is_finished(self, output: Path) -> bool:
        """Whether the output is there already: the earlier attempt ended between its last two steps."""
        return self.result is not None and not self.result.identity.changes(output)


def find_done(work: Path, key: RunKey, *, report: Callable[[int, int], None] | None = None) -> Resume:
    """Find out what of a film is done, and clear away what does not count. Begins a journal where there is none.

    Every segment is read whole and compared with the SHA-256 in its line: what it holds was checked frame by frame
    before the line was written, so equal bytes are checked frames. (Decoding would take many times as long and see
    less; a length alone would miss a rotten block.) Where a segment is not what it was, it is made again.

    Args:
        work: The work folder, owned by the caller.
        key: What this attempt is going to do.
        report: Called in this thread with the bytes that were checked and all that there are; what it raises ends this.

    Raises:
        ResumeRefused: What is there belongs to another film, other settings, another network or another program.
        OutputError: The folder cannot be read or written.
    """
    path = work / JOURNAL_NAME
    content = read_journal(path)
    if content.damage:
        logger.warning("%s", content.damage)
    if content.key is None:
        sweep(work, keep=())
        return _begin(path, key, damage=content.damage)
    differences = content.key.differences(key)
    refusing = tuple(one for one in differences if one.effect == "refuse")
    if refusing:
        raise ResumeRefused(
            f"{work} was begun with something else: " + "; ".join(str(one) for one in refusing),
            path=work,
            differences=refusing,
            hint="go on with what it was begun with, or begin anew with --restart, which moves the old work aside",
        )
    journal = Journal.reopen(path, content)
    notes = [content.damage] if content.damage else []
    notes += [str(one) for one in differences if one.effect == "note"]
    done, again = _confirm(work, content, segment_frames=int(content.key.plan["segment.frames"]), report=report)
    for reason in again:
        logger.warning("%s", reason)
    sweep(work, keep={segment.path.name for segment in done if segment.path is not None})
    journal.append(AttemptBegun.now(notes=[*notes, *again]))
    results = [record for record in content.records if isinstance(record, ResultVerified)]
    return Resume(
        journal=journal,
        done=done,
        pinned=_pinned(content),
        notes=(*notes, *again),
        result=results[-1] if results else None,
        attempts=sum(isinstance(record, AttemptBegun) for record in content.records),
    )


def sweep(work: Path, *, keep: Iterable[str]) -> None:
    """Remove everything from a work folder but its journal, the names of ``keep`` and what belongs to the folder.

    Raises:
        OutputError: Something cannot be removed.
    """
    kept = {JOURNAL_NAME, *KEPT_NAMES, *keep}
    try:
        for entry in sorted(work.iterdir()):
            if entry.name not in kept:
                logger.info("removing %s, which no finished segment is", entry)
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
    except OSError as exc:
        raise OutputError(
            f"cannot clear {work}: {exc.strerror or exc}", path=work, hint="check its owner and rights"
        ) from exc


def _begin(path: Path, key: RunKey, *, damage: str) -> Resume:
    """A film that nothing is done of."""
    journal = Journal.create(path, key)
    notes = (damage,) if damage else ()
    journal.append(AttemptBegun.now(notes=notes))
    return Resume(journal=journal, done=(), pinned=MappingProxyType({}), notes=notes, result=None, attempts=0)


def _confirm(
    work: Path, content: JournalContent, *, segment_frames: int, report: Callable[[int, int], None] | None
) -> tuple[tuple[CommittedSegment, ...], tuple[str, ...]]:
    """The segments that journal and disk agree on, and why others have to be made again."""
    latest: dict[int, SegmentCommitted] = {}
    for record in content.records:
        if isinstance(record, SegmentCommitted):
            latest[record.index] = record
        elif isinstance(record, SegmentDropped):
            latest.pop(record.index, None)
    total = sum(record.bytes for record in latest.values())
    done: list[CommittedSegment] = []
    again: list[str] = []
    checked = 0
    for index in sorted(latest):
        record = latest[index]
        doubt = _doubt(work, record, segment_frames=segment_frames, is_last=index == max(latest))
        if doubt:
            again.append(f"segment {index} is made again: {doubt}")
        else:
            done.append(record.restore(work))
        checked += record.bytes
        if report is not None:
            report(checked, total)
    return tuple(done), tuple(again)


def _doubt(work: Path, record: SegmentCommitted, *, segment_frames: int, is_last: bool) -> str:
    """Why a segment does not count, a clause; empty if it does."""
    frame_count = record.stop - record.start
    if record.start != record.index * segment_frames or frame_count > segment_frames:
        return f"frames {record.start} to {record.stop} are no segment of {segment_frames} frames"
    if frame_count < segment_frames and not is_last:
        return f"it has {frame_count} of {segment_frames} frames, and others follow it"
    path = work / record.name
    try:
        size_bytes = path.lstat().st_size
        if size_bytes == record.bytes:
            size_bytes, sha256 = measure_file(path)
        else:
            sha256 = ""
    except FileNotFoundError:
        return f"{record.name} is gone"
    except OSError as exc:
        return f"{record.name} cannot be read: {exc.strerror or exc}"
    if size_bytes != record.bytes:
        return f"{record.name} has {size_bytes} bytes, not {record.bytes}"
    return "" if sha256 == record.sha256 else f"{record.name} is damaged: its SHA-256 is {sha256}, not {record.sha256}"


def _pinned(content: JournalContent) -> Mapping[str, Any]:
    """What the plan of this attempt has to take over: the first one's facts, and what had to be lowered since."""
    assert content.key is not None
    facts = content.key.plan
    pinned = {name: facts[name] for name, (effect, _) in EFFECTS.items() if effect == "pin" and name in facts}
    for record in content.records:
        if isinstance(record, DemandLowered):
            pinned["tile.height"] = record.tile_height
            pinned["tile.width"] = record.tile_width
            pinned["infer.batch_tiles"] = record.batch_tiles
            pinned[LANES_AT_MOST] = record.lanes
    return MappingProxyType(pinned)

"""Run keys, segments and whole small runs for tests of the journal. A segment's bytes follow from its index alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.journal import FileIdentity, Journal, Resume, RunKey, find_done
from pipeline.journal.journal import JOURNAL_NAME
from pipeline.segments import CommittedSegment

SEGMENT_FRAMES = 10
SOURCE = FileIdentity(size_bytes=1000, mtime_ns=1_700_000_000_123_456_789, sha256_ends="ab" * 32)
SETTINGS = {"encode.kind": "libx264", "encode.preset": "fast", "run.lanes": "auto", "run.memory_mb": 500}
PLAN = {
    "segment.frames": SEGMENT_FRAMES,
    "infer.backend": "openvino",
    "infer.device": "a CPU",
    "infer.batch_tiles": 1,
    "tile.height": 180,
    "tile.width": 320,
    "tile.overlap_px": 16,
    "encode.threads": 4,
    "model.files": ["cd" * 32],
    "machine.host": "here",
}


def sample_key(**changes: Any) -> RunKey:
    """A key; ``changes`` replace its fields."""
    fields: dict[str, Any] = {"source": SOURCE, "config_digest": "ef" * 32, "settings": SETTINGS, "plan": PLAN}
    return RunKey(**{**fields, **changes})


def segment_bytes(index: int) -> bytes:
    """What the file of a segment holds."""
    return f"segment {index} ".encode() * (index + 3)


def make_segment(work: Path, index: int, *, frame_count: int = SEGMENT_FRAMES) -> CommittedSegment:
    """Commit a segment as the writer does: under another name first."""
    start = index * SEGMENT_FRAMES
    path = work / f"seg-{index:05d}.mp4"
    part = path.with_name(path.name + ".part")
    part.write_bytes(segment_bytes(index))
    part.replace(path)
    return CommittedSegment(
        index=index,
        start=start,
        stop=start + frame_count,
        path=path,
        bytes=len(segment_bytes(index)),
        pts=tuple(frame * 512 + (frame % 3 == 0) for frame in range(start, start + frame_count)),
        last_duration=512,
    )


def begin(work: Path, *indices: int, key: RunKey | None = None) -> Journal:
    """A work folder with some segments committed."""
    work.mkdir(exist_ok=True)
    journal = find_done(work, key or sample_key()).journal
    for index in indices:
        journal.commit(make_segment(work, index))
    return journal


def go_on(work: Path, *, key: RunKey | None = None) -> Resume:
    """The next attempt's first step."""
    return find_done(work, key or sample_key())


def done_indices(work: Path) -> list[int]:
    """What the next attempt finds done; every such segment is checked to be what it must be."""
    resume = go_on(work)
    for segment in resume.done:
        check_segment_whole(segment)
    return [segment.index for segment in resume.done]


def check_segment_whole(segment: CommittedSegment) -> None:
    """A segment that counts as done is exactly the one that was committed."""
    assert segment.path is not None
    assert segment.path.read_bytes() == segment_bytes(segment.index)
    assert segment.start == segment.index * SEGMENT_FRAMES
    frames = range(segment.start, segment.stop)
    assert segment.pts == tuple(frame * 512 + (frame % 3 == 0) for frame in frames)
    assert segment.last_duration == 512


def journal_path(work: Path) -> Path:
    """Where its journal is."""
    return work / JOURNAL_NAME

"""The picture check of one film: frames of the source and of the result side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipeline.frames import Frame
from pipeline.verify.findings import Finding
from pipeline.verify.floors import Floors
from pipeline.verify.judge import Figures, Judge, Verdict
from pipeline.verify.picture import Grid, Picture, picture_of
from pipeline.verify.reading import FrameReader

logger = logging.getLogger(__name__)

MAX_FINDINGS = 20
"""More are not looked for: the film has to be made anew in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureCheck:
    """What came of a picture check."""

    compared: int
    """Frames."""
    findings: tuple[Finding, ...]
    """In film order; empty if all is well."""
    worst: Figures | None
    """The worst of each figure, not all of one frame; None if nothing was compared."""
    damage: str | None = None
    """What of the result could not be decoded, as far as it was; None if nothing."""
    source_damage: str | None = None
    """The same of the source."""


class _SourcePictures:
    """The source's frames on the grid; keeps the few around the current one."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader
        self._kept: dict[int, Frame | None] = {}
        self._pictures: dict[int, Picture] = {}

    def frame(self, index: int) -> Frame | None:
        """The frame itself; None if there is none."""
        if index not in self._kept:
            self._kept[index] = self._reader.frame(index)
        return self._kept[index]

    def picture(self, index: int, grid: Grid) -> Picture | None:
        """The frame on the grid; None if there is none."""
        if index < 0:
            return None
        frame = self.frame(index)
        if frame is None:
            return None
        if grid.is_second_look:
            return picture_of(frame, grid)
        if index not in self._pictures:
            self._pictures[index] = picture_of(frame, grid)
        return self._pictures[index]

    def forget(self, before: int) -> None:
        """Free what nobody asks for any more."""
        for index in [index for index in self._kept if index < before]:
            frame = self._kept.pop(index)
            self._pictures.pop(index, None)
            if frame is not None:
                frame.release()


def compare_films(
    source: FrameReader,
    result: FrameReader,
    *,
    frames: Sequence[int],
    floors: Floors,
    time_base: Fraction,
    max_findings: int = MAX_FINDINGS,
    tick: Callable[[], None] = lambda: None,
) -> PictureCheck:
    """Compare frames of a result with those of its source.

    Args:
        source: Frames as the network gets them.
        result: Frames as they were written.
        frames: Which, ascending.
        floors: What the network's results reach at least.
        time_base: Of the source's times, seconds.
        max_findings: After that many nothing more is compared.
        tick: Called before each frame; may raise to end the check.

    Raises:
        MediaError: A frame of either cannot be read.
    """
    originals = _SourcePictures(source)
    findings: list[Finding] = []
    worst: Figures | None = None
    compared = 0
    for index in frames:
        tick()
        originals.forget(index - 1)
        before_frame = originals.frame(index - 1) if index else None
        own, made = originals.frame(index), result.frame(index)
        if own is None or made is None:
            place = own or made or before_frame
            time_s = 0.0 if place is None else float(place.stamp.pts * time_base)
            missing = "source" if own is None else "result"
            findings.append(Finding(frame=index, time_s=time_s, what=f"the {missing} ends before it"))
            break
        grid = Grid.between(own, made)
        verdict = _compare(originals, index, made, grid=grid, floors=floors)
        if verdict.differences and not verdict.mistakes and not grid.is_rgb_bound:
            verdict = _compare(originals, index, made, grid=grid.second_look(), floors=floors)
        compared += 1
        worst = verdict.figures if worst is None else _worse(worst, verdict.figures)
        if verdict.faults:
            what = "; ".join(verdict.faults)
            logger.info("frame %d: %s", index, what)
            findings.append(Finding(frame=index, time_s=float(own.stamp.pts * time_base), what=what))
            if len(findings) >= max_findings:
                break
    originals.forget(frames[-1] + 2 if frames else 0)
    return PictureCheck(compared=compared, findings=tuple(findings), worst=worst)


def _compare(originals: _SourcePictures, index: int, made: Frame, *, grid: Grid, floors: Floors) -> Verdict:
    """One frame of a result, which has its source, against that."""
    judge = Judge(floors=floors, grid=grid, scale=min(made.height / grid.height, made.width / grid.width))
    picture = originals.picture(index, grid)
    assert picture is not None
    return judge.judge(
        picture,
        picture_of(made, grid),
        before=originals.picture(index - 1, grid),
        after=originals.picture(index + 1, grid),
    )


def _worse(one: Figures, other: Figures) -> Figures:
    return Figures(
        luma_db=min(one.luma_db, other.luma_db),
        chroma_db=min(one.chroma_db, other.chroma_db),
        block=max(one.block, other.block),
        cast=max(one.cast, other.cast),
        slip_px=max(one.slip_px, other.slip_px),
        chroma_slip_px=max(one.chroma_slip_px, other.chroma_slip_px),
        lean=max(one.lean, other.lean),
    )

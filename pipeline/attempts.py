"""The frames of a film with the network opened for them, and a second attempt if memory runs out in the first."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engines.errors import EngineError, OutOfMemory
from pipeline.backoff import MemoryLack, SmallerPlan, find_lack, forget_frames, second_lack, shrink
from pipeline.errors import GraphFailed, PipelineError
from pipeline.lane_run import upscale_film
from pipeline.preflight import open_planned_runner
from pipeline.run_terms import RunTerms, UpscaledFilm
from pipeline.segments import CommittedSegment
from pipeline.warmup import compile_kernels

if TYPE_CHECKING:
    from engines import Runner
    from engines.build_options import BuildListener
    from pipeline.plan import JobPlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setback:
    """The first attempt ran out of memory."""

    lack: MemoryLack
    smaller: SmallerPlan


def run_attempts(
    plan: JobPlan,
    terms: RunTerms,
    *,
    done: tuple[CommittedSegment, ...] = (),
    listener: BuildListener | None = None,
    on_begin: Callable[[int], None],
    warn: Callable[[str], None] | None = None,
    on_lowered: Callable[[JobPlan, str], None] | None = None,
) -> UpscaledFilm:
    """Open the network of a plan and run its frames; once more with a smaller demand if memory runs out.

    Everything of the first attempt is closed before the second begins. What the first has committed is kept; frames
    that were in work are decoded again.

    Args:
        plan: What to run.
        terms: How to run it.
        done: As ``upscale_film`` takes it.
        listener: Hears of an engine that has to be compiled: for smaller tiles it may be another one.
        on_begin: Called before the frames of each attempt flow, with those that are done already.
        warn: Called with what ran out and what the run goes on with, before it does. The notes have it too.
        on_lowered: Called with the smaller plan and the same words, before it is run.

    Returns:
        The film; its ``graph_s`` is the time of both attempts.

    Raises:
        SetupError: Memory ran out again, or pools do not fit and nothing can be made smaller.
        EngineError, GraphFailed, MediaError, Aborted: As ``open_planned_runner`` and ``upscale_film`` say.
    """
    kept = {segment.index: segment for segment in done}
    terms = _noting(terms, kept)
    setback: _Setback | None = None
    spent_s = 0.0
    while True:
        runner: Runner | None = None
        begun_s = time.perf_counter()
        try:
            runner = open_planned_runner(plan, listener=listener)
            with runner:
                compile_kernels(plan)
                terms.stop.raise_if_aborted()
                on_begin(sum(segment.frame_count for segment in kept.values()))
                begun_s = time.perf_counter()
                film = upscale_film(plan, runner, terms, done=tuple(kept.values()))
            notes = (*runner.spec.notes, *film.notes)
            if setback is not None:
                notes = (*notes, _words(setback))
            return replace(film, graph_s=spent_s + film.graph_s, notes=notes)
        except (GraphFailed, EngineError, PipelineError, MemoryError) as exc:
            new = _set_back(exc, plan, before=setback, has_engine=runner is not None)
            if new is None:
                raise
        if runner is not None:
            spent_s += time.perf_counter() - begun_s
        setback, runner = new, None
        gc.collect()  # an error and its traceback hold each other, and with them buffers
        terms.stop.raise_if_aborted()
        plan = setback.smaller.plan
        logger.warning("%s: %s", plan.info.path, _words(setback))
        if warn is not None:
            warn(_words(setback))
        if on_lowered is not None:
            on_lowered(plan, _words(setback))


def _noting(terms: RunTerms, kept: dict[int, CommittedSegment]) -> RunTerms:
    """Terms that also note what is committed; a dictionary's single operations are safe from several threads."""

    def commit(segment: CommittedSegment) -> None:
        kept[segment.index] = segment
        terms.on_committed(segment)

    def discard(segment: CommittedSegment) -> None:
        kept.pop(segment.index, None)
        terms.on_discarded(segment)

    return replace(terms, on_committed=commit, on_discarded=discard)


def _set_back(exc: Exception, plan: JobPlan, *, before: _Setback | None, has_engine: bool) -> _Setback | None:
    """What to do about an error; None if it is not about memory, or nothing can be made smaller.

    Raises:
        SetupError: Memory had run out before.
        OutOfMemory: In place of a ``MemoryError``, which is nothing that a user can act on.
    """
    lack = find_lack(exc)
    if lack is None:
        return None
    if before is not None:
        raise second_lack(plan, first=before.lack, change=before.smaller.change, second=lack) from exc
    smaller = shrink(plan, lack, has_engine=has_engine)
    if smaller is None:
        if isinstance(exc, MemoryError):
            raise OutOfMemory(lack.text, hint="end other programs that use the host's memory") from exc
        return None
    logger.debug("traceback of the lack of memory", exc_info=exc)
    forget_frames(exc)
    return _Setback(lack=lack, smaller=smaller)


def _words(setback: _Setback) -> str:
    return f"memory ran out, going on with {setback.smaller.change}: {setback.lack.text}"

"""The frames of one film through its stages, in one lane or in several, to committed segments in film order.

Several lanes need a film in which a decoder can begin anywhere, and agree at every seam (`pipeline.lanes`). Where they
do not, because the film is damaged, what lies before that place is kept and a single lane does the rest, so that the
result is the same as a single lane's from the beginning.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines import Runner
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.errors import MediaError
from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.pool import Pool
from pipeline.graph.runtime import run_graph
from pipeline.graph.shared_runner import SharedRunner
from pipeline.graph.stage import Stage
from pipeline.graph.stop import StopToken
from pipeline.lanes import LaneSource, RestSource, Review, SegmentSchedule
from pipeline.plan import JobPlan
from pipeline.segments import CommittedSegment, SegmentWriter
from pipeline.stages import EncodeSink
from pipeline.wiring import open_transforms, open_wiring, planned_capacities, planned_decoder

if TYPE_CHECKING:
    from pipeline.decode.frame_index import FrameIndex

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerms:
    """What all graphs of one job have in common."""

    work: Path
    """Folder for the segments; exists, unless nothing is written."""
    stop: StopToken
    on_snapshot: Callable[[GraphSnapshot, int], None]
    """Called in the calling thread with the figures of the graph that runs, and the frames that were done before it."""
    interval_s: float
    """About how often, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaledFilm:
    """A film's segments, and how they came to be."""

    segments: tuple[CommittedSegment, ...]
    """In film order, without gaps."""
    graph: GraphSnapshot
    """Of the graph that ran last."""
    graph_s: float
    """Time in which frames flowed, in all graphs."""
    damage: str | None
    """What of the film could not be read; None if nothing was lost."""
    notes: tuple[str, ...] = field(default=())
    """What was repaired without losing a frame, and why fewer lanes ran than were planned; one sentence each."""

    @property
    def frame_count(self) -> int:
        """Frames in all segments."""
        return sum(segment.frame_count for segment in self.segments)


def upscale_film(plan: JobPlan, runner: Runner, terms: RunTerms) -> UpscaledFilm:
    """Run a plan's frames through its stages.

    Args:
        plan: What to run.
        runner: Opened for the plan's tiles; stays the caller's.
        terms: How to run it.

    Raises:
        GraphFailed: A stage failed; the first member is the cause.
        MediaError: The film has no frame that can be decoded, or can no longer be read.
        SetupError: The pools do not fit into memory.
        Aborted: The run was aborted from outside.
    """
    if plan.lanes == 1:
        return _run_single(plan, runner, terms)
    index = _index_of(plan)
    if index is not None and index.doubt:
        note = f"one lane instead of {plan.lanes}: {index.doubt}"
        film = _run_single(replace(plan, lanes=1), runner, terms)
        return replace(film, notes=(*film.notes, note))
    terms.stop.raise_if_aborted()
    return _run_lanes(plan, runner, terms, index=index)


def _run_single(plan: JobPlan, runner: Runner, terms: RunTerms) -> UpscaledFilm:
    """The whole film in one lane."""
    with open_wiring(plan, runner, work=terms.work) as wiring:
        graph = _run(plan, [wiring.stages], terms, capacities=wiring.capacities, pools=wiring.pools, done_before=0)
    _check_counts(plan, decoded=graph.stages[0].items_out, segments=wiring.sink.segments)
    return UpscaledFilm(
        segments=wiring.sink.segments,
        graph=graph,
        graph_s=graph.elapsed_s,
        damage=wiring.source.damage,
        notes=wiring.source.notes,
    )


def _run_lanes(plan: JobPlan, runner: Runner, terms: RunTerms, *, index: FrameIndex | None) -> UpscaledFilm:
    """The film in several lanes, and what they have to leave over in one."""
    schedule = SegmentSchedule(
        segment_frames=plan.segment_frames, frame_count=None if index is None else index.frame_count
    )
    sinks = [_lane_sink(plan, terms.work) for _ in range(plan.lanes)]
    with ExitStack() as stack:
        shared = SharedRunner(runner, lane_count=plan.lanes)
        lanes: list[tuple[Stage, ...]] = []
        pools: list[Pool] = []
        for sink in sinks:
            transforms = stack.enter_context(open_transforms(plan, shared.open_lane()))
            source = LaneSource(planned_decoder(plan, index=index, transforms=transforms), schedule=schedule)
            lanes.append((source, transforms.tiler, transforms.upscaler, transforms.stitcher, sink))
            pools += transforms.pools
        graph = _run(plan, lanes, terms, capacities=planned_capacities(plan), pools=pools, done_before=0)
    review = schedule.review()
    committed = sorted((segment for sink in sinks for segment in sink.segments), key=lambda segment: segment.start)
    kept, others = committed[: review.segment_count], committed[review.segment_count :]
    for segment in others:
        if segment.path is not None:
            segment.path.unlink()
    film = UpscaledFilm(segments=tuple(kept), graph=graph, graph_s=graph.elapsed_s, damage=None)
    if review.doubt and not graph.was_stopped:
        return _run_rest(plan, runner, terms, film=film, review=review)
    _check_counts(plan, decoded=review.frame_count, segments=film.segments)
    return film


def _run_rest(plan: JobPlan, runner: Runner, terms: RunTerms, *, film: UpscaledFilm, review: Review) -> UpscaledFilm:
    """What several lanes could not do, in one; what it says of the film is about all of it."""
    start = review.frame_count
    note = f"one lane instead of {plan.lanes} from frame {start} on: {review.doubt}"
    logger.info("%s: %s", plan.info.path, note)
    single = replace(plan, lanes=1)
    sink = EncodeSink(
        lambda: SegmentWriter(terms.work, plan.encode, segment_frames=plan.segment_frames, first_frame=start)
    )
    with open_transforms(single, runner) as transforms:
        source = RestSource(
            planned_decoder(single, transforms=transforms), start=start, silence=terms.stop.expect_silence
        )
        stages = (source, transforms.tiler, transforms.upscaler, transforms.stitcher, sink)
        graph = _run(
            single, [stages], terms, capacities=planned_capacities(plan), pools=transforms.pools, done_before=start
        )
    segments = film.segments + sink.segments
    _check_counts(plan, decoded=start + graph.stages[0].items_out, segments=segments)
    return UpscaledFilm(
        segments=segments,
        graph=graph,
        graph_s=film.graph_s + graph.elapsed_s,
        damage=source.damage,
        notes=(*source.notes, note),
    )


def _run(
    plan: JobPlan,
    lanes: Sequence[Sequence[Stage]],
    terms: RunTerms,
    *,
    capacities: Sequence[int],
    pools: Sequence[Pool],
    done_before: int,
) -> GraphSnapshot:
    run = plan.config.run
    return run_graph(
        lanes[0],
        more_lanes=lanes[1:],
        capacities=capacities,
        pools=pools,
        stop=terms.stop,
        drop=lambda item: item.release(),
        on_snapshot=lambda graph: terms.on_snapshot(graph, done_before),
        report_every_s=terms.interval_s,
        stall_timeout_s=plan.stall_timeout_s,
        join_deadline_s=run.join_deadline_s,
        time_base=plan.info.video.time_base,
    )


def _lane_sink(plan: JobPlan, work: Path) -> EncodeSink:
    return EncodeSink(lambda: SegmentWriter(work, plan.encode, segment_frames=plan.segment_frames, skips=True))


def _index_of(plan: JobPlan) -> FrameIndex | None:
    """Where the frames of a film are; None for a computed one, whose decoder needs no index.

    Raises:
        MediaError: The file can no longer be read.
    """
    if plan.info.container == SYNTHETIC_CONTAINER:
        return None
    from pipeline.decode.frame_index import build_frame_index

    return build_frame_index(plan.info, threads=plan.config.decode.threads)


def _check_counts(plan: JobPlan, *, decoded: int, segments: Sequence[CommittedSegment]) -> None:
    """Every decoded frame was encoded, each once; a film has at least one."""
    if decoded == 0:
        raise MediaError(
            f"{plan.info.path}: no frame could be decoded", path=plan.info.path, hint="check the file in a player"
        )
    encoded = sum(segment.frame_count for segment in segments)
    is_gapless = all(before.stop == after.start for before, after in itertools.pairwise(segments))
    if plan.is_written and (encoded != decoded or not is_gapless or segments[0].start != 0):
        raise MediaError(
            f"{plan.info.path}: {decoded} frames were decoded but {encoded} encoded"
            + ("" if is_gapless else ", and there are gaps between segments"),
            path=plan.info.path,
            hint="this is a defect of the program; please report it with the log",
        )

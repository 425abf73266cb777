"""The frames of one film through its stages, in one lane or in several, to committed segments in film order.

Several lanes need a film in which a decoder can begin anywhere, and agree at every seam (`pipeline.lanes`). Where they
do not, because the film is damaged, what lies before that place is kept and a single lane does the rest, so that the
result is the same as a single lane's from the beginning.

Segments that an earlier attempt has committed are kept in the same way: where the film has an index that reaches to its
end and agrees with them, decoding begins at the first that is missing; otherwise one decoder comes from the film's
beginning and compares.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from engines import Runner
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.errors import GraphFailed, MediaError
from pipeline.graph.channel import Aborted
from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.pool import Pool
from pipeline.graph.runtime import run_graph
from pipeline.graph.shared_runner import SharedRunner
from pipeline.graph.stage import Stage
from pipeline.lanes import LaneSource, SegmentSchedule
from pipeline.plan import JobPlan
from pipeline.rest_source import RestSource
from pipeline.run_terms import RunTerms, UpscaledFilm
from pipeline.segments import CommittedSegment, SegmentWriter, is_segment_start
from pipeline.stages import EncodeSink
from pipeline.wiring import Transforms, open_transforms, planned_capacities, planned_decoder

if TYPE_CHECKING:
    from pipeline.decode.frame_index import FrameIndex

logger = logging.getLogger(__name__)


def upscale_film(
    plan: JobPlan, runner: Runner, terms: RunTerms, *, done: tuple[CommittedSegment, ...] = ()
) -> UpscaledFilm:
    """Run a plan's frames through its stages.

    Args:
        plan: What to run.
        runner: Opened for the plan's tiles; stays the caller's.
        terms: How to run it.
        done: Segments of this film that were committed before, with the same ``segment_frames`` and an encoder of the
            same settings: any of them, each whole, in any order. They are not made again, unless they turn out not to
            be the film's; then their files are removed and ``terms.on_discarded`` hears of it.

    Raises:
        GraphFailed: A stage failed; the first member is the cause. What was committed stays where it is.
        MediaError: The film has no frame that can be decoded, or can no longer be read.
        SetupError: The pools do not fit into memory.
        Aborted: The run was aborted from outside.
        ValueError: ``done`` has a segment twice, or one that does not begin where the plan's segments do.
    """
    done = _in_order(done, segment_frames=plan.segment_frames)
    if plan.lanes == 1 and not done:
        return _run_whole(plan, runner, terms, done=())
    index = _index_of(plan)
    doubt = index.doubt if index is not None and index.doubt else _doubt_of(done, plan=plan, index=index)
    if doubt:
        film = _run_whole(plan, runner, terms, done=done)
        if plan.lanes == 1:
            logger.info("%s was decoded from its beginning: %s", plan.info.path, doubt)
            return film
        return replace(film, notes=(*film.notes, f"one lane instead of {plan.lanes}: {doubt}"))
    terms.stop.raise_if_aborted()
    return _run_lanes(plan, runner, terms, index=index, done=done)


def _run_lanes(
    plan: JobPlan, runner: Runner, terms: RunTerms, *, index: FrameIndex | None, done: Sequence[CommittedSegment]
) -> UpscaledFilm:
    """The film in lanes that begin anywhere, and what they have to leave over in one from the film's beginning."""
    schedule = SegmentSchedule(
        segment_frames=plan.segment_frames,
        frame_count=None if index is None else index.frame_count,
        done=done,
        pts=None if index is None else index.pts.tolist(),
    )
    sinks = []
    with ExitStack() as stack:
        shared = SharedRunner(runner, lane_count=plan.lanes)
        lanes: list[tuple[Stage, ...]] = []
        pools: list[Pool] = []
        for _ in range(plan.lanes):
            transforms = stack.enter_context(
                open_transforms(plan, shared.open_lane(), open_gpu=terms.instruments.open_gpu)
            )
            opener = terms.instruments.decoder(planned_decoder(plan, index=index, transforms=transforms))
            source = LaneSource(opener, schedule=schedule)
            sink = _sink(plan, terms, transforms, complaint=lambda: schedule.complaint)
            sinks.append(sink)
            lanes.append((source, transforms.tiler, transforms.upscaler, transforms.stitcher, sink))
            pools += transforms.pools
        graph = _run(plan, lanes, terms, pools=pools, done=done)
    review = schedule.review()
    committed = sorted((*done, *(made for sink in sinks for made in sink.segments)), key=lambda made: made.index)
    if graph.was_stopped:
        doubted = schedule.doubted_index
        kept = [segment for segment in committed if doubted is None or segment.index < doubted]
    else:
        kept = committed[: review.segment_count]
    _discard((segment for segment in committed if segment not in kept), terms)
    film = UpscaledFilm(
        segments=tuple(kept),
        is_complete=not graph.was_stopped,
        graph=graph,
        graph_s=graph.elapsed_s,
        damage=None,
    )
    if graph.was_stopped:
        return film
    if review.doubt:
        note = f"one lane instead of {plan.lanes} from frame {review.frame_count} on: {review.doubt}"
        logger.info("%s: %s", plan.info.path, note)
        rest = _run_whole(plan, runner, terms, done=film.segments)
        notes = (*rest.notes, note) if plan.lanes > 1 else rest.notes
        return replace(rest, graph_s=film.graph_s + rest.graph_s, notes=notes)
    _check_counts(plan, decoded=review.frame_count, segments=film.segments)
    return film


def _run_whole(
    plan: JobPlan, runner: Runner, terms: RunTerms, *, done: tuple[CommittedSegment, ...], before_s: float = 0.0
) -> UpscaledFilm:
    """What is missing, in one lane, from a decoder that reads the film from its beginning.

    Args:
        plan, runner, terms: As ``upscale_film`` has them.
        done: In order.
        before_s: For ``graph_s``: time in which frames flowed before.
    """
    single = replace(plan, lanes=1)
    with open_transforms(single, runner, open_gpu=terms.instruments.open_gpu) as transforms:
        source = RestSource(
            terms.instruments.decoder(planned_decoder(single, transforms=transforms)),
            segment_frames=plan.segment_frames,
            done=done,
            stop=terms.stop,
        )
        sink = _sink(plan, terms, transforms, complaint=lambda: source.complaint)
        stages = (source, transforms.tiler, transforms.upscaler, transforms.stitcher, sink)
        graph = _run(single, [stages], terms, pools=transforms.pools, done=done)
    segments = _in_order((*done, *sink.segments), segment_frames=plan.segment_frames)
    graph_s = before_s + graph.elapsed_s
    first_wrong = source.contradicted_index
    if first_wrong is not None:
        logger.warning("%s: segment %d is not what the film has there: made again", plan.info.path, first_wrong)
        right = tuple(segment for segment in segments if segment.index < first_wrong)
        _discard(segments[len(right) :], terms)
        return _run_whole(plan, runner, terms, done=right, before_s=graph_s)
    if not graph.was_stopped:
        done_frames = sum(segment.frame_count for segment in done)
        _check_counts(plan, decoded=done_frames + graph.stages[0].items_out, segments=segments)
    return UpscaledFilm(
        segments=segments,
        is_complete=not graph.was_stopped,
        graph=graph,
        graph_s=graph_s,
        damage=source.damage,
        notes=source.notes,
    )


def _run(
    plan: JobPlan,
    lanes: Sequence[Sequence[Stage]],
    terms: RunTerms,
    *,
    pools: Sequence[Pool],
    done: Sequence[CommittedSegment],
) -> GraphSnapshot:
    run = plan.config.run
    done_before = sum(segment.frame_count for segment in done)
    lanes = terms.instruments.stages(lanes)
    try:
        return run_graph(
            lanes[0],
            more_lanes=lanes[1:],
            capacities=planned_capacities(plan),
            pools=pools,
            stop=terms.stop,
            is_boundary=lambda frame: is_segment_start(frame.stamp.index, segment_frames=plan.segment_frames),
            drop=lambda item: item.release(),
            on_snapshot=lambda graph: terms.on_snapshot(graph, done_before),
            report_every_s=terms.interval_s,
            stall_timeout_s=plan.stall_timeout_s,
            join_deadline_s=run.join_deadline_s,
            time_base=plan.info.video.time_base,
            tracer=terms.instruments.tracer,
        )
    except GraphFailed as exc:
        if all(isinstance(member, Aborted) for member in exc.exceptions):  # a source that saw it before the graph did
            raise Aborted("the run was aborted") from exc
        raise


def _sink(plan: JobPlan, terms: RunTerms, transforms: Transforms, *, complaint: Callable[[], str]) -> EncodeSink:
    """The last stage of a lane: it gets some of the segments, each as a whole."""
    return EncodeSink(
        lambda: SegmentWriter(
            terms.work,
            plan.encode,
            segment_frames=plan.segment_frames,
            skips=True,
            committed=terms.on_committed,
            complaint=complaint,
            device=transforms.encoder_device,
        )
    )


def _in_order(segments: Iterable[CommittedSegment], *, segment_frames: int) -> tuple[CommittedSegment, ...]:
    """Segments in film order.

    Raises:
        ValueError: One is there twice, or begins elsewhere.
    """
    ordered = tuple(sorted(segments, key=lambda segment: segment.index))
    for before, after in itertools.pairwise(ordered):
        if before.index == after.index:
            raise ValueError(f"segment {after.index} is there twice")
    for segment in ordered:
        if segment.start != segment.index * segment_frames or not 0 < segment.frame_count <= segment_frames:
            raise ValueError(
                f"segment {segment.index} has frames {segment.start} to {segment.stop}, "
                f"which does not fit segments of {segment_frames}"
            )
    return ordered


def _doubt_of(done: Sequence[CommittedSegment], *, plan: JobPlan, index: FrameIndex | None) -> str:
    """Why decoders must not begin beside segments that are done, a clause; empty if they may."""
    for segment in done:
        if segment.complaint:
            return segment.complaint
        if index is None:
            continue
        is_whole = segment.frame_count == plan.segment_frames or segment.stop == index.frame_count
        if not is_whole or index.pts[segment.start : segment.stop].tolist() != list(segment.pts):
            return f"frames {segment.start} to {segment.stop} are not where the packets announce them"
    return ""


def _discard(segments: Iterable[CommittedSegment], terms: RunTerms) -> None:
    """Remove segments that are not part of the film."""
    for segment in segments:
        if segment.path is not None:
            segment.path.unlink(missing_ok=True)
        terms.on_discarded(segment)


def _index_of(plan: JobPlan) -> FrameIndex | None:
    """Where the frames of a film are; None for a computed one and for pictures, whose decoders need no index.

    Raises:
        MediaError: The file can no longer be read.
    """
    if plan.info.container == SYNTHETIC_CONTAINER or plan.info.pictures is not None:
        return None
    from pipeline.decode.frame_index import build_frame_index

    if plan.deinterlacing is None:
        return build_frame_index(plan.info, threads=plan.config.decode.threads)
    from pipeline.decode.deinterlacing import index_fields

    index = build_frame_index(plan.deinterlacing.source, threads=plan.config.decode.threads)
    return index_fields(index, deinterlacing=plan.deinterlacing)


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

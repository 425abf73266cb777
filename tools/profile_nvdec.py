"""How fast the hardware decoders of a run are, drained as fast as they go while nothing else runs.

NVDEC decodes ahead of the stage that asks for its frames: what that stage takes for a frame, mostly waits for what is
nearly done, says nothing of how many frames the hardware can decode.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from engines import Runner
from pipeline.frames import Frame
from pipeline.instruments import DecoderOpener
from pipeline.plan import JobPlan
from pipeline.wiring import GpuOpener, open_transforms, planned_decoder
from tools.profile_shares import STEADY_SHARE

LONGEST_S = 1.0
"""What a film of any length is measured for."""
LEAST_FRAMES = 20
"""In the time that is counted: one more or less is 5 % then."""
OPENING_S = 60.0
"""How long decoders wait for each other before they are drained."""


def measure_nvdec(
    plan: JobPlan, runner: Runner, *, frame_count: int, open_gpu: GpuOpener | None = None
) -> float | None:
    """Drain as many decoders side by side as the run has lanes, each from the film's beginning.

    Args:
        plan: The run.
        runner: Opened for it, idle.
        frame_count: Of the film, which each decoder gives at most.
        open_gpu: As ``record_run`` has it.

    Returns:
        Frames per second of all together; None if NVDEC is not the run's decoder, or the film is too short to say.
    """
    if plan.decoder.kind != "nvdec":
        return None
    with ExitStack() as stack:
        openers: list[DecoderOpener] = []
        for _ in range(plan.lanes):
            transforms = stack.enter_context(open_transforms(plan, runner, open_gpu=open_gpu))
            openers.append(planned_decoder(plan, transforms=transforms))
        begin = threading.Barrier(plan.lanes, timeout=OPENING_S)
        with ThreadPoolExecutor(plan.lanes) as threads:
            came = threads.map(lambda opener: _drain(opener, frame_count=frame_count, begin=begin), openers)
            return common_fps(list(came))


def common_fps(lanes: Sequence[Sequence[float]]) -> float | None:
    """Frames per second of all lanes in the middle of the time in which all of them gave some.

    Args:
        lanes: When the frames of each came, seconds.
    """
    if not all(lanes):
        return None
    first_s, last_s = max(came[0] for came in lanes), min(came[-1] for came in lanes)
    start_s, stop_s = (first_s + share * (last_s - first_s) for share in STEADY_SHARE)
    count = sum(start_s <= at_s < stop_s for came in lanes for at_s in came)
    return count / (stop_s - start_s) if count >= LEAST_FRAMES else None


def _drain(opener: DecoderOpener, *, frame_count: int, begin: threading.Barrier) -> list[float]:
    """When each frame came, from when all decoders gave their first."""
    came: list[float] = []
    held: Frame | None = None
    try:
        with opener() as decoder:
            for frame in decoder.frames(0, frame_count):
                if held is None:
                    with suppress(threading.BrokenBarrierError):  # another one failed, and says so itself
                        begin.wait()
                else:
                    _give_back(held)
                held = frame
                came.append(time.perf_counter())
                if came[-1] - came[0] > LONGEST_S:
                    break
            if held is not None:
                _give_back(held)
    finally:
        if not came:
            begin.abort()
    return came


def _give_back(frame: Frame) -> None:
    """Give a frame back when it is there: the next one is under way meanwhile, but no more than that."""
    if frame.ready is not None:
        frame.ready.wait()
    frame.release()

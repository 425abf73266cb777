"""Which of cuDNN's kernels runs a signature: those on offer are timed on the real shape, the best is kept on disk.

The first choice of cuDNN's heuristic is mostly right for float16, and off by 2x where not (H200, cuDNN 9.19).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.atomic import write_atomic
from engines.cudnn.fused import FusedSignature, build_fused_graph
from engines.errors import InferenceFailed
from engines.gpu import Device, Stream

logger = logging.getLogger(__name__)

_SCHEMA = 1
_WARM_UP_RUNS = 2
_TIMED_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceKey:
    """All that decides which kernel is fastest, beside the signature."""

    onnx_sha256: str
    gpu_name: str
    compute_capability: tuple[int, int]
    driver_version: str
    cudnn_version: int
    frontend_version: str

    @property
    def digest(self) -> str:
        """SHA-256 over all fields."""
        text = json.dumps([_SCHEMA, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A kernel, in words that make it again in another process."""

    engine: int
    """Number of cuDNN's engine."""
    knobs: tuple[tuple[str, int], ...]
    """(name of ``cudnn.knob_type``, value), ascending."""
    milliseconds: float
    """Median when it was chosen."""
    name: str
    """As cuDNN names the plan."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusedKernel:
    """A graph with one plan, ready to run."""

    graph: Any
    index: int
    workspace_bytes: int
    choice: Choice
    tried: tuple[tuple[str, float | None], ...] = ()
    """(plan, milliseconds) of all that were measured; None where it failed."""


class ChoiceStore:
    """The choices of one network on one GPU: a JSON file, read once, replaced whole."""

    def __init__(self, folder: Path, key: ChoiceKey) -> None:
        self._path = folder / f"cudnn-{key.digest[:32]}.json"
        self._choices: dict[str, Choice] = {}
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self._choices = {
                name: Choice(
                    engine=int(one["engine"]),
                    knobs=tuple((str(knob), int(value)) for knob, value in one["knobs"]),
                    milliseconds=float(one["milliseconds"]),
                    name=str(one["name"]),
                )
                for name, one in stored.items()
            }
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            logger.warning("%s is not readable and will be made again: %s", self._path, exc)

    def find(self, signature: FusedSignature) -> Choice | None:
        """What was chosen for a signature."""
        return self._choices.get(digest_of(signature))

    def add(self, signature: FusedSignature, choice: Choice) -> None:
        """Remember a choice until `save`."""
        self._choices[digest_of(signature)] = choice

    def save(self) -> None:
        """Write all choices; a folder that cannot be written costs the next start its time, not this one its run."""
        content = json.dumps({name: asdict(one) for name, one in sorted(self._choices.items())}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, content.encode())
        except OSError as exc:
            logger.warning("the choice of kernels cannot be kept in %s: %s", self._path, exc)


def digest_of(signature: FusedSignature) -> str:
    """Name of a signature in a file."""
    return hashlib.sha256(json.dumps(asdict(signature), sort_keys=True).encode()).hexdigest()[:32]


def restore_kernel(cudnn: Any, signature: FusedSignature, *, choice: Choice, handle: Any) -> FusedKernel:
    """Build the one plan that was chosen before.

    Raises:
        InferenceFailed: cuDNN does not make that plan any more.
    """
    graph = build_fused_graph(cudnn, signature, handle=handle)
    try:
        graph.build_operation_graph()
        knobs = {cudnn.knob_type.__members__[name]: value for name, value in choice.knobs}
        graph.create_execution_plan(choice.engine, knobs)
        index = graph.get_execution_plan_count() - 1
        graph.build_plan_at_index(index)
        workspace = int(graph.get_workspace_size_plan_at_index(index))
    except _refusals(cudnn) as exc:
        raise InferenceFailed(f"cuDNN does not make the plan {choice.name} again: {exc}") from exc
    return FusedKernel(graph=graph, index=index, workspace_bytes=workspace, choice=choice)


def choose_kernel(
    cudnn: Any,
    signature: FusedSignature,
    *,
    handle: Any,
    device: Device,
    stream: Stream,
    operands: dict[int, int],
    workspace: Callable[[int], int],
    budget_s: float,
) -> FusedKernel:
    """Build and time every plan that cuDNN offers.

    Args:
        cudnn: The module.
        signature: What is to be computed.
        handle: Of ``cudnn.create_handle``, set to ``stream``.
        device: Where.
        stream: Where to.
        operands: Address of every tensor by number; its targets are overwritten.
        workspace: Gives the address of as many bytes of scratch memory.
        budget_s: After this long no further plan is tried, once one runs. cuDNN lists the likely best first.

    Raises:
        InferenceFailed: No plan runs; the message says what cuDNN said.
    """
    graph = build_fused_graph(cudnn, signature, handle=handle)
    try:
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.B, cudnn.heur_mode.FALLBACK])
        count = int(graph.get_execution_plan_count())
    except _refusals(cudnn) as exc:
        raise InferenceFailed(f"cuDNN has no plan for a fused convolution {signature.kernel}: {exc}") from exc
    best: tuple[float, int, int, str] | None = None
    tried: dict[str, float | None] = {}
    said = ""
    started = time.perf_counter()
    for index in range(count):
        if best is not None and time.perf_counter() - started > budget_s:
            break
        name = ""
        try:
            name = str(graph.get_plan_name_at_index(index))
            if name in tried:
                continue
            tried[name] = None
            graph.build_plan_at_index(index)
            needed = int(graph.get_workspace_size_plan_at_index(index))
            scratch = workspace(needed)
            milliseconds = _time(
                lambda: graph.execute_plan_at_index(operands, scratch, index, handle),  # noqa: B023  # called here
                device=device,
                stream=stream,
            )
        except _refusals(cudnn) as exc:
            said = f"{name}: {exc}".splitlines()[0]
            continue
        tried[name] = milliseconds
        if best is None or milliseconds < best[0]:
            best = (milliseconds, index, needed, name)
    if best is None:
        raise InferenceFailed(f"none of {count} plans of cuDNN runs a fused convolution {signature.kernel}: {said}")
    milliseconds, index, needed, name = best
    engine, knobs = graph.get_engine_and_knobs_at_index(index)
    choice = Choice(
        engine=int(engine),
        knobs=tuple(sorted((knob.name, int(value)) for knob, value in (knobs or {}).items())),
        milliseconds=milliseconds,
        name=name,
    )
    return FusedKernel(graph=graph, index=index, workspace_bytes=needed, choice=choice, tried=tuple(tried.items()))


def _refusals(cudnn: Any) -> tuple[type[Exception], ...]:
    """What cudnn-frontend raises where a graph or a plan does not work; the first is a plain ``Exception``."""
    return (cudnn.cudnnGraphNotSupportedError, NotImplementedError, KeyError, RuntimeError, TypeError, ValueError)


def _time(run: Callable[[], None], *, device: Device, stream: Stream) -> float:
    """Median milliseconds of a run, by the GPU's clock."""
    for _ in range(_WARM_UP_RUNS):
        run()
    events = [device.make_timed_event() for _ in range(_TIMED_RUNS + 1)]
    events[0].record(stream)
    for event in events[1:]:
        run()
        event.record(stream)
    events[-1].wait()
    return 1e3 * statistics.median(float(later.seconds_since(earlier)) for earlier, later in itertools.pairwise(events))

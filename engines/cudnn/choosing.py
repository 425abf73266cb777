"""Which kernel runs a step: ours and cuDNN's are compared with the plain one and timed on the real shape.

What was measured on an H200 (cuDNN 9.19, the kinds of step of all three networks) decides how: the fastest of all plans
of all heuristics was always among the first five of heuristic A, but for one step that takes 0.2 % of its network;
making one plan takes 0.25 s and holds the interpreter's lock, so that threads would gain nothing; plans of the fallback
list took up to 190 ms where others took 1.
"""

from __future__ import annotations

import itertools
import logging
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from engines.cudnn.choices import OWN_ENGINE, Choice
from engines.cudnn.fused import FusedSignature, build_fused_graph
from engines.errors import OutOfDeviceMemory, run_error, speaks_of_memory
from engines.gpu import Device, Stream

logger = logging.getLogger(__name__)

MOST_PLANS = 6
"""Plans of cuDNN's that are tried for a kind of step; see above."""

MOST_PLANS_BESIDE_OWN = 2
"""The same where a kernel of ours runs: cuDNN's first choice, and one more in case that one is refused."""

_TIMED_RUNS = 5
_HOPELESS = 1.5
"""How much slower than the best the first run of a kernel may be: runs of one differ by less than 10 %."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusedKernel:
    """A graph of cuDNN's with one plan, ready to run."""

    graph: Any
    index: int
    workspace_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """A choice, and the kernel that it names."""

    choice: Choice
    fused: FusedKernel | None
    """None: a kernel of ours."""
    tried: tuple[tuple[str, float | None], ...] = ()
    """(name, milliseconds) of all that were looked at; None where it failed or was wrong."""


class OwnKernelStep(Protocol):
    """A step with a kernel of ours, ready to run."""

    def launch(self, stream: Stream) -> None:
        """Enqueue it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """Where candidates for one kind of step run."""

    cudnn: Any
    """The module."""
    handle: Any
    """Of ``cudnn.create_handle``, set to ``stream``."""
    device: Device
    stream: Stream
    operands: dict[int, int]
    """Address of every tensor by number; its targets are overwritten."""
    workspace: Callable[[int], int]
    """Gives the address of as many bytes of scratch memory."""
    objection: Callable[[Callable[[], object]], str]
    """Runs a kernel and says what is wrong with what it stored; empty if nothing."""

    def execute(self, kernel: FusedKernel) -> None:
        """Enqueue a kernel of cuDNN's."""
        kernel.graph.execute_plan_at_index(
            self.operands, self.workspace(kernel.workspace_bytes), kernel.index, self.handle
        )


def restore_kernel(cudnn: Any, signature: FusedSignature, *, choice: Choice, handle: Any) -> FusedKernel:
    """Build the one plan that was chosen before.

    Raises:
        InferenceFailed: cuDNN does not make that plan any more.
        OutOfDeviceMemory: It has no memory for it.
    """
    graph = build_fused_graph(cudnn, signature, handle=handle)
    try:
        graph.build_operation_graph()
        knobs = {cudnn.knob_type.__members__[name]: value for name, value in choice.knobs}
        graph.create_execution_plan(choice.engine, knobs)
        index = graph.get_execution_plan_count() - 1
        graph.build_plan_at_index(index)
        workspace = int(graph.get_workspace_size_plan_at_index(index))
    except refusals(cudnn) as exc:
        raise run_error(f"cuDNN does not make the plan {choice.name} again: {exc}", on_gpu=True) from exc
    return FusedKernel(graph=graph, index=index, workspace_bytes=workspace)


def choose_kernel(
    trial: Trial,
    signature: FusedSignature,
    *,
    name: str,
    own: OwnKernelStep | None = None,
    most_plans: int = MOST_PLANS,
) -> Chosen:
    """Time what can run a kind of step, strike out what is wrong, take the fastest.

    Args:
        trial: Where.
        signature: What is to be computed.
        name: Of a step of that kind, for messages.
        own: The same with a kernel of ours, if there is one.
        most_plans: Of cuDNN's, at most.

    Raises:
        InferenceFailed: Nothing runs it, or nothing runs it rightly; the message says what was wrong.
        OutOfDeviceMemory: There is no memory for any plan.
    """
    search = _Search(trial, name=name)
    if own is not None:
        search.offer("own", lambda: own.launch(trial.stream), fused=None, engine=OWN_ENGINE)
        most_plans = min(most_plans, MOST_PLANS_BESIDE_OWN)
    modes = trial.cudnn.heur_mode
    for group in ((modes.A,), (modes.B, modes.FALLBACK)):
        for plan in itertools.islice(_plans(trial, signature, modes=group, search=search), most_plans):
            search.offer_plan(plan)
        if search.best is not None:
            break
    if search.best is None:
        what = f"a fused convolution {signature.kernel} ({name})"
        raise run_error(f"no plan of cuDNN runs {what}: {search.said or 'none is offered'}", on_gpu=True)
    return Chosen(choice=search.best.choice, fused=search.best.fused, tried=tuple(search.tried.items()))


def refusals(cudnn: Any) -> tuple[type[Exception], ...]:
    """What cudnn-frontend raises where a graph or a plan does not work; the first is a plain ``Exception``."""
    return (cudnn.cudnnGraphNotSupportedError, NotImplementedError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    graph: Any
    index: int
    name: str


class _Search:
    def __init__(self, trial: Trial, *, name: str) -> None:
        self._trial = trial
        self._name = name
        self.best: Chosen | None = None
        self.tried: dict[str, float | None] = {}
        self.said = ""

    def refuse(self, name: str, exc: Exception) -> None:
        """Remember why something does not run."""
        text = f"{name}: {exc}".strip().splitlines()[0]
        if not self.said or not speaks_of_memory(self.said):
            self.said = text

    def offer_plan(self, plan: _Plan) -> None:
        trial, graph, index = self._trial, plan.graph, plan.index
        try:
            graph.build_plan_at_index(index)
            needed = int(graph.get_workspace_size_plan_at_index(index))
            kernel = FusedKernel(graph=graph, index=index, workspace_bytes=needed)
            self.offer(plan.name, lambda: trial.execute(kernel), fused=kernel)
        except OutOfDeviceMemory as exc:  # for the plan's scratch memory: another may take less
            self.refuse(plan.name, exc)
        except refusals(trial.cudnn) as exc:
            self.refuse(plan.name, exc)

    def offer(
        self, name: str, run: Callable[[], object], *, fused: FusedKernel | None, engine: int | None = None
    ) -> None:
        """Time a kernel; if it would be the best, see whether it is right."""
        best = self.best.choice.milliseconds if self.best is not None else None
        milliseconds = time_runs(run, device=self._trial.device, stream=self._trial.stream, best=best)
        self.tried[name] = milliseconds
        if best is not None and milliseconds >= best:
            return
        objection = self._trial.objection(run)
        if objection:
            self.tried[name] = None
            self.said = f"{name} is wrong: {objection}"
            logger.warning("the kernel %s is not used for %s, since it is wrong: %s", name, self._name, objection)
            return
        knobs: tuple[tuple[str, int], ...] = ()
        if fused is not None:
            number, values = fused.graph.get_engine_and_knobs_at_index(fused.index)
            engine = int(number)
            knobs = tuple(sorted((knob.name, int(value)) for knob, value in (values or {}).items()))
        assert engine is not None
        self.best = Chosen(choice=Choice(engine=engine, knobs=knobs, milliseconds=milliseconds, name=name), fused=fused)


def _plans(trial: Trial, signature: FusedSignature, *, modes: tuple[Any, ...], search: _Search) -> Iterator[_Plan]:
    """What cuDNN offers, the likely best first; each name once."""
    cudnn = trial.cudnn
    graph = build_fused_graph(cudnn, signature, handle=trial.handle)
    try:
        graph.build_operation_graph()
        graph.create_execution_plans(list(modes))
        names = [str(graph.get_plan_name_at_index(index)) for index in range(int(graph.get_execution_plan_count()))]
    except refusals(cudnn) as exc:
        search.refuse("cuDNN", exc)
        return
    for index, name in enumerate(names):
        if name not in search.tried:
            search.tried[name] = None
            yield _Plan(graph=graph, index=index, name=name)


def time_runs(run: Callable[[], object], *, device: Device, stream: Stream, best: float | None = None) -> float:
    """Median milliseconds of a run by the GPU's clock; of one run if that is much slower than the best."""
    run()
    first = _sample(run, runs=1, device=device, stream=stream)
    if best is not None and first > _HOPELESS * best:
        return first
    return _sample(run, runs=_TIMED_RUNS, device=device, stream=stream)


def _sample(run: Callable[[], object], *, runs: int, device: Device, stream: Stream) -> float:
    events = [device.make_timed_event() for _ in range(runs + 1)]
    events[0].record(stream)
    for event in events[1:]:
        run()
        event.record(stream)
    events[-1].wait()
    return 1e3 * statistics.median(float(later.seconds_since(earlier)) for earlier, later in itertools.pairwise(events))

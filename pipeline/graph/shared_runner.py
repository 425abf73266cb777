"""One network for the upscaling stages of several lanes, each in a thread of its own.

A `Runner` is used by one thread at a time, and its inferences take turns on ``spec.slots`` sets of buffers: the next
one waits for the oldest. Here that wait belongs to this module, so that two threads never wait for one inference at
once, and nobody touches one whose buffers already serve the next. Nothing here waits for a lane, only for the network:
no lane can hold up another one by being slow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from threading import Lock
from types import TracebackType
from typing import Any, Self

from engines.errors import EngineError
from engines.runner import Completion, Runner


class SharedRunner:
    """Hands out one `LaneRunner` per lane.

    Args:
        runner: The network; stays the caller's, who closes it when no lane runs any more.
        lane_count: Lanes that will use it.
    """

    def __init__(self, runner: Runner, *, lane_count: int) -> None:
        self._runner = runner
        self._turn = _Turn()
        self._flying: deque[_SharedCompletion] = deque()
        slots = -(-runner.spec.slots // lane_count)  # rounded up: together the lanes keep every slot busy
        self.lane_spec = replace(runner.spec, slots=slots)
        """What a lane sees: its share of the slots."""

    def open_lane(self) -> LaneRunner:
        """The network for one more lane."""
        return LaneRunner(self)

    def infer(self, tiles: Any, *, out: Any, stream: Any) -> Completion:
        """See `Runner.infer`; from any lane's thread. Lanes are served in the order in which they ask."""
        with self._turn:
            if stream is not None:  # ordered by the GPU: nobody waits, and the runner keeps the order of its buffers
                return self._runner.infer(tiles, out=out, stream=stream)
            if len(self._flying) == self._runner.spec.slots:
                self._flying.popleft().settle()
            completion = _SharedCompletion(self._runner.infer(tiles, out=out))
            self._flying.append(completion)
            return completion


class LaneRunner:
    """A `Runner` for one lane; closing it changes nothing, as the network is not the lane's."""

    def __init__(self, shared: SharedRunner) -> None:
        self.spec = shared.lane_spec
        self._shared = shared

    def infer(self, tiles: Any, *, out: Any, stream: Any = None) -> Completion:
        """See `Runner.infer`."""
        return self._shared.infer(tiles, out=out, stream=stream)

    def close(self) -> None:
        """Nothing: whoever opened the network closes it."""

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""


class _SharedCompletion:
    """An inference that its lane and the next one in its buffers may wait for; the first of them does."""

    def __init__(self, completion: Completion) -> None:
        self._completion: Completion | None = completion
        self._lock = Lock()
        self._failure: EngineError | None = None

    def settle(self) -> None:
        """Block until the inference is over, well or not."""
        with self._lock:
            if self._completion is None:
                return
            try:
                self._completion.wait()
            except EngineError as exc:
                self._failure = exc  # for its own lane
            self._completion = None

    def wait(self) -> None:
        """See `Completion.wait`."""
        self.settle()
        if self._failure is not None:
            raise self._failure


class _Turn:
    """A lock that is given to whoever has waited longest: a plain one goes to whoever is quick, often the same lane."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._gates: deque[Lock] = deque()
        self._is_taken = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            gate = Lock()
            gate.acquire()
            self._gates.append(gate)
        gate.acquire()

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            if self._gates:
                self._gates.popleft().release()
            else:
                self._is_taken = False

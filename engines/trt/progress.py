"""Follows a build: turns the compiler's nested phases into one share, and a Ctrl-C or a listener's no into a stop.

The compiler runs in the calling thread and looks at Python only in its callbacks. An interrupt raised inside one is
swallowed by the bindings, so while a build runs SIGINT sets a flag instead; the next progress callback then answers no
and the compiler unwinds by itself. Between two callbacks nothing can stop it: with TensorRT-RTX 1.7, whose code
generation is one step, a Ctrl-C one second into the build of RealESRGAN_x4plus took effect 2.3 s later (measured).
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from engines.build_options import BuildListener


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0
    """Finished steps."""


class PhaseShare:
    """How far nested phases are, as one share.

    A phase is worth one step of its parent, and its steps are worth equal parts of it. Phases say beforehand how many
    steps they will take at most, not how long each lasts, so the share is an estimate; it never falls.
    """

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0

    @property
    def share(self) -> float:
        """Estimated part that is done, [0, 1]."""
        return self._share

    def start(self, name: str, *, parent: str | None, steps: int) -> None:
        """A phase begins inside another one, or at the top."""
        self._phases[name] = _Phase(parent=parent, steps=max(1, steps))

    def step(self, name: str) -> None:
        """A step of a phase is done."""
        phase = self._phases.get(name)
        if phase is not None:
            phase.done = min(phase.steps, phase.done + 1)
            self._update()

    def finish(self, name: str) -> None:
        """A phase is done, whether or not all its steps were reported."""
        phase = self._phases.pop(name, None)
        if phase is not None and phase.parent is None:
            self._share = 1.0

    def _update(self) -> None:
        top = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        if top:
            self._share = max(self._share, min(1.0, max(self._part(name) for name in top)))

    def _part(self, name: str) -> float:
        phase = self._phases[name]
        inner = [self._part(child) for child, candidate in self._phases.items() if candidate.parent == name]
        running = max(inner, default=0.0)
        return min(1.0, (min(phase.done, phase.steps - 1 if inner else phase.steps) + running) / phase.steps)


class BuildWatch:
    """What a build in progress answers to.

    Args:
        listener: Hears of the progress; None: nobody.
    """

    def __init__(self, listener: BuildListener | None) -> None:
        self._listener = listener
        self._share = PhaseShare()
        self._lock = threading.Lock()  # the compiler may report from several threads of its own
        self.stopped = False
        """Whether the user or the listener asked to stop."""
        self.failure: BaseException | None = None
        """What the listener raised; the bindings swallow it, so the builder raises it again."""

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._share.start(name, parent=parent, steps=steps)
            self._tell(name)

    def step(self, name: str) -> bool:
        """A step is done; returns whether to go on."""
        with self._lock:
            self._share.step(name)
            return self._tell(name)

    def finish(self, name: str) -> None:
        """A phase is done."""
        with self._lock:
            self._share.finish(name)
            self._tell(name)

    def _tell(self, phase: str) -> bool:
        if self._listener is not None and not self.stopped:
            answered = False
            try:
                if not self._listener.progress(phase=phase, share=self._share.share):
                    self.stopped = True  # never back to False: a Ctrl-C may have come during the call
                answered = True
            finally:
                if not answered:
                    self.stopped, self.failure = True, sys.exception()
        return not self.stopped

    @contextmanager
    def catch_interrupt(self) -> Iterator[None]:
        """Let Ctrl-C stop the build instead of being lost in a callback.

        Leaves the signal alone in other threads than the main one, and where the program has a handler of its own.
        """
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            yield
            return

        def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self.stopped = True

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def make_monitor(trt: Any, watch: BuildWatch) -> Any:
    """An ``IProgressMonitor`` of the library that reports to ``watch``."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base is known only at run time
        """Called by the compiler, from any of its threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins."""
            watch.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:  # noqa: ARG002
            """A step is done; False stops the build."""
            return watch.step(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            """A phase is done."""
            watch.finish(phase_name)

    return Monitor()

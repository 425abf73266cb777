"""How a run is told to end before its end: from a signal handler, from another thread, or because a stage failed.

Nothing here takes a lock. A signal handler runs in the main thread between two byte codes of whatever it was doing, so
a handler that waited for a lock held there would wait for ever. Flags are plain attributes; registrations live in
dictionaries, whose single operations are atomic; who removes an entry owns it, so that each callback runs at most once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from pipeline.graph.channel import Aborted


class AbortHook:
    """One registration of `StopToken.on_abort`; as a context manager it is cancelled at the end."""

    __slots__ = ("_hooks",)

    def __init__(self, hooks: dict[AbortHook, Callable[[], None]]) -> None:
        self._hooks = hooks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """The callback is not needed any more. Can be repeated, also after it ran."""
        self._hooks.pop(self, None)


class StopToken:
    """Asks the runs that it was given to to end. One token for all that should end together.

    Both requests are final. They may be made at any time, from any thread and from a signal handler.
    """

    def __init__(self) -> None:
        self._is_stopping = False
        self._is_aborted = False
        self._wakers: dict[object, Callable[[], None]] = {}
        self._aborting_runs: dict[object, None] = {}
        self._silent: dict[object, None] = {}
        self._silent_until_s = 0.0
        self._hooks: dict[AbortHook, Callable[[], None]] = {}

    @property
    def is_stopping(self) -> bool:
        """`stop` or `abort` was called."""
        return self._is_stopping

    @property
    def is_aborted(self) -> bool:
        """`abort` was called."""
        return self._is_aborted

    @property
    def silent_until_s(self) -> float:
        """Until when a lack of movement is excused, ``perf_counter`` seconds: now while `expect_silence` is on."""
        return time.perf_counter() if self._silent else self._silent_until_s

    def stop(self) -> None:
        """Graceful: the source ends at the next boundary, and everything that it sent goes through to the sink."""
        self._is_stopping = True

    def abort(self) -> None:
        """Now: channels and pools wake everyone, and what is under way is dropped. Returns at once; the run does it.

        Without a run, the callbacks of `on_abort` are called here.
        """
        self._is_aborted = True  # first: who sees a stop must see whether it is an abort
        self._is_stopping = True
        wakers = self._wakers.copy()
        for wake in wakers.values():
            wake()
        if not wakers:
            self.run_hooks()

    def raise_if_aborted(self) -> None:
        """For work between two runs.

        Raises:
            Aborted: `abort` was called.
        """
        if self._is_aborted:
            raise Aborted("the run was aborted")

    def on_abort(self, callback: Callable[[], None]) -> AbortHook:
        """Register what wakes a wait that is neither a channel's nor a pool's: kill the subprocess, close the socket.

        The callback runs once if a run of this token is aborted, for whatever reason, in a thread of its own; at once
        and right here if that has happened already. It must not block. Cancel the registration (``with``) when the wait
        is over.

        Args:
            callback: Called without arguments.
        """
        hook = AbortHook(self._hooks)
        self._hooks[hook] = callback
        if self._is_aborted or self._aborting_runs:  # after the entry is visible: one of the two sides sees the other
            self._call(hook)
        return hook

    @contextmanager
    def expect_silence(self) -> Iterator[None]:
        """While inside, no run of this token counts as stalled: for work that takes minutes, as building an engine."""
        key = object()
        self._silent[key] = None
        try:
            yield
        finally:
            self._silent_until_s = time.perf_counter()
            del self._silent[key]

    def attach(self, run: object, *, wake: Callable[[], None]) -> None:
        """The runtime: a run begins.

        Args:
            run: Identifies it.
            wake: Called by `abort`, possibly in a signal handler; must not lock.
        """
        self._wakers[run] = wake

    def begin_abort(self, run: object) -> None:
        """The runtime: ``run`` is being aborted; from now on `on_abort` calls back at once."""
        self._aborting_runs[run] = None

    def detach(self, run: object) -> None:
        """The runtime: ``run`` is over."""
        self._wakers.pop(run, None)
        self._aborting_runs.pop(run, None)

    def run_hooks(self) -> None:
        """The runtime: call every registered callback that was not called yet.

        Raises:
            BaseException: Whatever a callback raised, after all were called.
        """
        with ExitStack() as calls:
            for hook in reversed(self._hooks.copy()):
                calls.callback(self._call, hook)

    def _call(self, hook: AbortHook) -> None:
        """Call a hook's callback unless it was called or cancelled."""
        callback = self._hooks.pop(hook, None)
        if callback is not None:
            callback()

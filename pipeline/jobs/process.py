"""A film's process seen from outside: started, given its orders, listened to, asked to stop, and buried."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.graph.stop import StopToken
from pipeline.jobs.messages import Building, Ended, Message, Noted, Progressed, Ready, Started
from pipeline.jobs.order import FilmOrder, encode_order
from pipeline.jobs.reading import MessageReader
from pipeline.results import JobResult
from pipeline.show.progress import Display

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""How often the caller gets to look at other things."""

WORKER = (sys.executable, "-m", "pipeline.jobs.worker")
"""The program of a film's process; see there for its arguments."""

_CLOSED_S = 0.01
"""How often it is looked whether a process is gone that has closed the pipe without a last word."""

_END_S = 5.0
"""How long a process that has nothing more to do may take to be gone: libraries tidy up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmEnd:
    """How the work on a film in a process ended, as far as the process let anyone know."""

    result: JobResult | None
    """Its last word; None if it died without."""
    job: Started | None
    """What it said when the film was planned."""
    was_killed: bool
    """Whether it had to be killed from here."""
    is_ready_for_more: bool
    """Whether it waits for another film, as far as can be seen: it said how this one ended, and was asked nothing."""


class FilmProcess:
    """A process that works on one film after the other. `close` ends it, and all that it started.

    Args:
        worker: The program and its first arguments.
        name: Of the first film, for lists of processes.
        log: Where the process and its libraries write until the first order says otherwise.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, *, worker: Sequence[str], name: str, log: BinaryIO) -> None:
        self._pipe, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*worker, str(writing), str(os.getpid()), name],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=log,
                stderr=log,
                pass_fds=(writing,),
                start_new_session=True,  # the terminal's Ctrl-C is for us; and the whole group can be killed
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(writing)
        assert self._process.stdin is not None
        self._orders = self._process.stdin.fileno()
        os.set_blocking(self._orders, False)
        self._reader = MessageReader(self._pipe)
        self.film_count = 0
        """Films that it was given."""

    @property
    def code(self) -> int | None:
        """How it ended; negative: the signal that killed it. Known once it is closed."""
        return self._process.returncode

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, without taking note of it: until `close`, the number of its group stays its own."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # whoever uses us as a library waits for all children, or ignores them
            return True

    def work(
        self,
        order: FilmOrder,
        *,
        display: Display,
        stop: StopToken,
        deadline_s: float,
        tick: Callable[[], None] = lambda: None,
    ) -> FilmEnd:
        """Let it work on a film until it has said how that ended, or died.

        Args:
            order: What to do.
            display: Shows what the process says.
            stop: Ends the work: at the next boundary or at once.
            deadline_s: Seconds that the process has to end after an abort, before it is killed.
            tick: Called in this thread about every ``TICK_S``; it may call ``stop``.
        """
        self.film_count += 1
        attendant = _Attendant(self, order, display=display, stop=stop, deadline_s=deadline_s)
        result = attendant.attend(tick, pipe=self._pipe, orders=self._orders, reader=self._reader)
        return FilmEnd(
            result=result,
            job=attendant.job,
            was_killed=attendant.was_killed,
            is_ready_for_more=result is not None and attendant.is_undisturbed and not self._reader.is_over,
        )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal. Not by way of ``Popen``, which would take note of its end: see `has_ended`."""
        if not self.has_ended:
            os.kill(self._process.pid, number)

    def close(self) -> None:
        """Tell it that there are no more films, wait until it has gone, and kill what does not go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        until_s = time.monotonic() + _END_S
        while not self.has_ended and time.monotonic() < until_s:
            time.sleep(0.002)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # an ffmpeg whose owner died goes too
        self._process.wait()
        os.close(self._pipe)


class _Attendant:
    """Passes the order, messages and requests on while a process works on a film.

    Args:
        process: The process.
        order: See ``FilmProcess.work``.
        display: See there.
        stop: See there.
        deadline_s: See there.
    """

    def __init__(
        self, process: FilmProcess, order: FilmOrder, *, display: Display, stop: StopToken, deadline_s: float
    ) -> None:
        self._process = process
        self._name = order.name
        self._unsent = memoryview(encode_order(order))
        self._display = display
        self._stop = stop
        self._deadline_s = deadline_s
        self._is_ready = False
        self._asked = 0
        self._kill_at_s: float | None = None
        self.job: Started | None = None
        """What the process said when the film was planned."""
        self.was_killed = False
        """Whether it had to be killed from here."""

    @property
    def is_undisturbed(self) -> bool:
        """Whether the process has had its order and nothing else: a signal may reach it after the film's end."""
        return not self._unsent and self._asked == 0 and not self.was_killed

    def attend(self, tick: Callable[[], None], *, pipe: int, orders: int, reader: MessageReader) -> JobResult | None:
        """Go on until the process has said how the film ended, or died.

        Not until its pipe is closed: what it started may have that too, and outlive it.
        """
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(orders, select.POLLOUT)
        is_open = True
        try:
            while True:
                poll.poll(1000 * (TICK_S if is_open else _CLOSED_S))
                is_last = self._process.has_ended  # asked before reading: nothing can come afterwards
                for message in reader.read():
                    if (result := self._show(message)) is not None:
                        return result
                if is_last:
                    return None
                if self._unsent and not self._send_order(orders):
                    poll.unregister(orders)
                if reader.is_over and is_open:  # its last act, as a rule
                    is_open = False
                    poll.unregister(pipe)
                    self._kill_at_s = time.monotonic() + _END_S
                tick()
                self._pass_on_requests()
        except BaseException:  # of the display or of the tick: the film's process is not wanted any more
            self._process.send(signal.SIGTERM)
            raise

    def _send_order(self, orders: int) -> bool:
        """Send as much of the order as the process takes now; whether there is more."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(orders, self._unsent) :]
        except BlockingIOError:
            return True
        except OSError:  # nobody reads it any more: the process is about to end
            self._unsent = memoryview(b"")
        return False

    def _pass_on_requests(self) -> None:
        now_s = time.monotonic()
        if self._stop.is_aborted and self._asked < 2:
            self._asked = 2
            self._kill_at_s = now_s + self._deadline_s
            self._process.send(signal.SIGTERM)
        elif self._stop.is_stopping and self._is_ready and self._asked == 0:
            self._asked = 1
            self._process.send(signal.SIGUSR1)
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill_at_s = None
            self.was_killed = True
            logger.warning("%s: its process did not end in time, and is killed", self._name)
            self._process.send(signal.SIGKILL)

    def _show(self, message: Message) -> JobResult | None:
        """Show a message; the last one's result."""
        self._is_ready = True  # whatever it says, its handlers are there: before them, SIGUSR1 would kill it
        match message:
            case Ready():
                pass
            case Started(job=job):
                self.job = message
                self._display.job_started(job)
            case Building(build=build, is_over=is_over):
                (self._display.build_finished if is_over else self._display.build_progress)(build)
            case Progressed(progress=progress):
                self._display.job_progress(progress)
            case Noted(text=text, is_warning=is_warning):
                (self._display.warning if is_warning else self._display.note)(text)
            case Ended(result=result):
                return result
        return None

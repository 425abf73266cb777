"""Starts the process of a film, passes on what it says and what is asked of it, and buries it."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.graph.stop import StopToken
from pipeline.jobs.messages import Building, Ended, Message, Noted, Progressed, Ready, Started
from pipeline.jobs.obituary import explain_death, explain_no_start
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
"""How long a process that has said how it ended may take to be gone: libraries tidy up."""


def work_in_process(
    order: FilmOrder,
    *,
    display: Display,
    stop: StopToken,
    log: Path,
    deadline_s: float,
    tick: Callable[[], None] = lambda: None,
    worker: Sequence[str] = WORKER,
) -> JobResult:
    """Work on a film in a process of its own. When this returns or raises, the process and what it started are gone.

    Args:
        order: What to do.
        display: Shows what the process says.
        stop: Ends the work: at the next boundary or at once.
        log: File for what the process and its libraries write; made, or appended to.
        deadline_s: Seconds that the process has to end after an abort, before it is killed.
        tick: Called in this thread about every ``TICK_S``; it may call ``stop``.
        worker: The program and its first arguments.

    Returns:
        What became of the film, also if the process died or could not be started.
    """
    started_s = time.perf_counter()
    with ExitStack() as stack:
        try:
            log_file = stack.enter_context(log.open("ab"))
            log_start = log_file.tell()
            process, pipe = stack.enter_context(_started(order, worker=worker, log=log_file))
        except OSError as exc:  # no descriptors, no memory, no room for the log: the next film may have more luck
            return explain_no_start(order, exc)
        attendant = _Attendant(process, pipe, name=order.name, display=display, stop=stop, deadline_s=deadline_s)
        result = attendant.attend(tick)
    if result is not None:
        return result
    return explain_death(
        order,
        process.returncode,
        job=attendant.job,
        is_aborted=stop.is_aborted,
        was_killed=attendant.was_killed,
        log=log,
        log_start=log_start,
        elapsed_s=time.perf_counter() - started_s,
    )


@contextmanager
def _started(
    order: FilmOrder, *, worker: Sequence[str], log: BinaryIO
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process, and the pipe that it writes messages to. On leaving, it and all that it started are gone."""
    with ExitStack() as stack:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        try:
            # a file and not a pipe: nobody has to wait until it is read, however long it is
            with tempfile.TemporaryFile() as order_file:
                order_file.write(encode_order(order))
                order_file.seek(0)
                process = subprocess.Popen(
                    [*worker, str(writing), str(os.getpid()), order.name],
                    stdin=order_file,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writing,),
                    start_new_session=True,  # the terminal's Ctrl-C is for us; and the whole group can be killed
                )
        finally:
            os.close(writing)
        stack.callback(_bury, process)
        yield process, reading


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended, without taking note of it: until somebody does, the number of its group stays its own."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # whoever uses us as a library waits for all children, or ignores them
        return True


def _bury(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that ends by itself, kill what does not, and what it left running."""
    until_s = time.monotonic() + _END_S
    while not _has_ended(process) and time.monotonic() < until_s:
        time.sleep(0.002)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # an ffmpeg whose owner died goes too
    process.wait()


class _Attendant:
    """Passes messages and requests on while a film's process lives.

    Args:
        process: The process.
        pipe: Where its messages come from.
        name: Of the film.
        display: See ``work_in_process``.
        stop: See ``work_in_process``.
        deadline_s: See ``work_in_process``.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        pipe: int,
        *,
        name: str,
        display: Display,
        stop: StopToken,
        deadline_s: float,
    ) -> None:
        self._process = process
        self._pipe: int | None = pipe
        self._name = name
        self._reader = MessageReader(pipe)
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._display = display
        self._stop = stop
        self._deadline_s = deadline_s
        self._is_ready = False
        self._asked = 0
        self._kill_at_s: float | None = None
        self.job: Started | None = None
        """What it said when the film was planned."""
        self.was_killed = False
        """Whether it had to be killed from here."""

    def attend(self, tick: Callable[[], None]) -> JobResult | None:
        """Go on until the process has said how it ended, or died.

        Not until its pipe is closed: what it started may have that too, and outlive it.
        """
        try:
            while True:
                self._poll.poll(1000 * (TICK_S if self._pipe is not None else _CLOSED_S))
                is_last = _has_ended(self._process)  # asked before reading: nothing can come afterwards
                for message in self._reader.read():
                    if (result := self._show(message)) is not None:
                        return result
                if is_last:
                    return None
                if self._reader.is_over and self._pipe is not None:  # its last act, as a rule
                    self._poll.unregister(self._pipe)
                    self._pipe = None
                    self._kill_at_s = time.monotonic() + _END_S
                tick()
                self._pass_on_requests()
        except BaseException:  # of the display or of the tick: the film's process is not wanted any more
            self._send(signal.SIGTERM)
            raise

    def _pass_on_requests(self) -> None:
        now_s = time.monotonic()
        if self._stop.is_aborted and self._asked < 2:
            self._asked = 2
            self._kill_at_s = now_s + self._deadline_s
            self._send(signal.SIGTERM)
        elif self._stop.is_stopping and self._is_ready and self._asked == 0:
            self._asked = 1
            self._send(signal.SIGUSR1)
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill_at_s = None
            self.was_killed = True
            logger.warning("%s: its process did not end in time, and is killed", self._name)
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        """Send it a signal. Not by way of ``Popen``, which would take note of its end: see ``_has_ended``."""
        if not _has_ended(self._process):
            os.kill(self._process.pid, number)

    def _show(self, message: Message) -> JobResult | None:
        """Show a message; the last one's result."""
        self._is_ready = True  # whatever it says, its handlers are there: before, SIGUSR1 would kill it
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

"""The process of one film: reads its order from standard input, works, says how it goes, and ends.

Started by ``pipeline.jobs.process`` as ``python -m pipeline.jobs.worker PIPE PARENT NAME``. Its own standard output and
error are a log: whatever a library writes there disturbs nobody. SIGUSR1 asks for a stop at the next boundary, SIGTERM
for an abort, a second SIGTERM ends the process at once. Ctrl-C of the terminal is the parent's business.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import BinaryIO, Self

from pipeline.failures import classify
from pipeline.graph.stop import StopToken
from pipeline.jobs.film import work_film
from pipeline.jobs.messages import Building, Ended, Message, Noted, Progressed, Ready, Started, encode_message
from pipeline.jobs.order import FilmOrder, decode_order
from pipeline.results import JobResult
from pipeline.show.explain import ExitCode, exit_code, explain
from pipeline.show.progress import BuildProgress, JobEnd, JobProgress, JobStart, RunEnd

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""

_SPARE_S = 15.0
"""After an abort, a process ends itself this long after ``run.join_deadline_s``; a parent that lives does it before."""


class MessageDisplay:
    """A ``Display`` that writes messages for another process to show.

    Args:
        pipe: Where to; stays the caller's.
        interval_s: See ``Display.interval_s``.
    """

    def __init__(self, pipe: BinaryIO, *, interval_s: float) -> None:
        self._pipe = pipe
        self.interval_s = interval_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to restore."""

    def run_started(self, job_count: int) -> None:
        """Not this process's to say."""

    def job_started(self, job: JobStart) -> None:
        """See ``Display``."""
        self.send(Started(job=job))

    def build_progress(self, build: BuildProgress) -> None:
        """See ``Display``."""
        self.send(Building(build=build, is_over=False))

    def build_finished(self, build: BuildProgress) -> None:
        """See ``Display``."""
        self.send(Building(build=build, is_over=True))

    def job_progress(self, progress: JobProgress) -> None:
        """See ``Display``."""
        self.send(Progressed(progress=progress))

    def job_finished(self, end: JobEnd) -> None:
        """Follows from ``Ended``."""

    def note(self, text: str) -> None:
        """See ``Display``."""
        self.send(Noted(text=text, is_warning=False))

    def warning(self, text: str) -> None:
        """See ``Display``."""
        self.send(Noted(text=text, is_warning=True))

    def run_finished(self, end: RunEnd) -> None:
        """Not this process's to say."""

    def send(self, message: Message) -> None:
        """Write a message. A parent that is gone loses it; its death has a signal of its own."""
        try:
            self._pipe.write(encode_message(message))
            self._pipe.flush()
        except OSError as exc:
            logger.debug("nobody reads the messages: %s", exc)


def die_with(parent: int) -> None:
    """Be sent SIGTERM when the process that started this one ends, however it ends.

    Args:
        parent: Its process id.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the call
        os._exit(ExitCode.STOPPED)


class LastWords:
    """Says what ended the process, if an error did that nobody expected. The error goes on to the log.

    Args:
        order: What the process works on.
        display: Where to say it.
    """

    def __init__(self, order: FilmOrder, *, display: MessageDisplay) -> None:
        self._order = order
        self._display = display

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say it."""
        if exc is not None and not isinstance(exc, SystemExit):
            self._display.send(Ended(result=fail(self._order, exc)))


def fail(order: FilmOrder, exc: BaseException) -> JobResult:
    """What became of a film whose work ended with an error that nobody expected.

    Args:
        order: What was to be done.
        exc: The error.
    """
    return JobResult(
        name=order.name,
        source=order.source,
        status="failed",
        code=exit_code(exc),
        outcome=None,
        errors=explain(exc),
        warnings=(),
        report=None,
        comparison=None,
        elapsed_s=0.0,
        failure=classify(exc),
    )


def _end_now() -> None:
    """End this process and whatever it has started, such as an ffmpeg, at once."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(ExitCode.STOPPED)


@contextmanager
def _signals_to(stop: StopToken, *, deadline_s: float) -> Iterator[None]:
    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if number == signal.SIGUSR1:
            stop.stop()
        elif stop.is_aborted:
            _end_now()
        else:
            # Whoever asked may be gone, and then nobody else ends what hangs.
            faulthandler.dump_traceback_later(deadline_s, exit=True)
            stop.abort()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGUSR1)}
    previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        for number, handler in previous.items():
            signal.signal(number, handler)


def main(arguments: list[str]) -> int:
    """Work on the film of standard input.

    Args:
        arguments: File descriptor of the message pipe, process id of the parent, and a name for lists of processes.
    """
    descriptor, parent = int(arguments[0]), int(arguments[1])
    faulthandler.enable()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    for package in ("pipeline", "engines"):
        logging.getLogger(package).setLevel(logging.INFO)
    os.set_inheritable(descriptor, False)
    die_with(parent)
    order = decode_order(sys.stdin.buffer.read())
    stop = StopToken()
    deadline_s = order.config.run.join_deadline_s + _SPARE_S
    with _signals_to(stop, deadline_s=deadline_s), open(descriptor, "wb") as pipe:
        display = MessageDisplay(pipe, interval_s=order.interval_s)
        with LastWords(order, display=display):
            display.send(Ready())
            result = work_film(order, display=display, stop=stop)
            display.send(Ended(result=result))
    return ExitCode.DONE


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # All is said and on disk. Taking the interpreter and its libraries apart would take 0.4 s of every film.
    os._exit(code)

"""The process of a film: reads its order from standard input, works, says how it goes, and waits for the next order.

Started by ``pipeline.jobs.process`` as ``python -m pipeline.jobs.worker PIPE PARENT NAME``. It ends when standard input
does. Its own standard output and error are a log: whatever a library writes there disturbs nobody. SIGUSR1 asks for a
stop at the next boundary, SIGTERM for an abort; a second SIGTERM, or one between two films, ends the process at once.
Ctrl-C of the terminal is the parent's business.
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
from pathlib import Path
from types import FrameType, TracebackType
from typing import BinaryIO, Self

from pipeline.failures import classify
from pipeline.graph.stop import StopToken
from pipeline.host import forget_peak_rss
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


class Requests:
    """What the parent asks for by signals."""

    def __init__(self) -> None:
        self._stop = StopToken()
        self._deadline_s = 0.0
        self._is_working = False

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Take signals as requests, in the main thread."""
        previous = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGUSR1)}
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def about_a_film(self, *, deadline_s: float) -> Iterator[StopToken]:
        """Requests are about a film, and go to the token that is given; also those that came just before.

        Args:
            deadline_s: Seconds that an abort may take before the process ends itself.
        """
        self._deadline_s = deadline_s
        self._is_working = True
        try:
            yield self._stop
        finally:
            self.film_over()
            self._is_working = False

    def film_over(self) -> None:
        """What is asked from now on is not about this film any more."""
        faulthandler.cancel_dump_traceback_later()
        self._stop = StopToken()

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if number == signal.SIGUSR1:
            self._stop.stop()
        elif self._stop.is_aborted or not self._is_working:
            _end_now()
        else:
            # Whoever asked may be gone, and then nobody else ends what hangs.
            faulthandler.dump_traceback_later(self._deadline_s, exit=True)
            self._stop.abort()


def take_orders() -> BinaryIO:
    """Where orders come from, out of the reach of what libraries start: an ffmpeg reads its standard input too."""
    orders = os.fdopen(os.dup(0), "rb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return orders


def log_to(path: Path) -> None:
    """Let standard output and error go to a file from here on, appended, those of libraries and crashes too.

    Args:
        path: The file; made if need be.

    Raises:
        OSError: It cannot be opened.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with path.open("ab") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)


def main(arguments: list[str]) -> int:
    """Work on the films of standard input.

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
    requests = Requests()
    with requests.hearing(), open(descriptor, "wb") as pipe, take_orders() as orders:
        for line in orders:
            _work(decode_order(line), pipe=pipe, requests=requests)
    return ExitCode.DONE


def _work(order: FilmOrder, *, pipe: BinaryIO, requests: Requests) -> None:
    """Work on one film, and say what became of it."""
    display = MessageDisplay(pipe, interval_s=order.interval_s)
    deadline_s = order.config.run.join_deadline_s + _SPARE_S
    with LastWords(order, display=display), requests.about_a_film(deadline_s=deadline_s) as stop:
        display.send(Ready())
        if order.log is not None:
            log_to(order.log)
        forget_peak_rss()
        result = work_film(order, display=display, stop=stop)
        requests.film_over()  # before it is said: what is asked afterwards cannot be about it
        display.send(Ended(result=result))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # All is said and on disk. Taking the interpreter and its libraries apart would take 0.4 s.
    os._exit(code)

"""What kind of failure it was decides whether trying again can help; what nobody expected is said all the same."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers.child_scripts import film_order, wait_until
from helpers.runs import ROOT

from engines.errors import BuildFailed, InferenceFailed
from pipeline.errors import (
    ConfigError,
    GraphFailed,
    MediaError,
    OutputError,
    SetupError,
    StallError,
    VerificationFailed,
)
from pipeline.failures import FailureKind, classify
from pipeline.jobs.messages import Ended, Noted, decode_message
from pipeline.jobs.worker import LastWords, MessageDisplay


def caused(error: BaseException, number: int) -> BaseException:
    error.__cause__ = OSError(number, os.strerror(number))
    return error


def without_context(error: BaseException, number: int) -> BaseException:
    error.__context__ = OSError(number, os.strerror(number))
    error.__suppress_context__ = True
    return error


OUTPUT, MEDIA = partial(OutputError, "a", path=Path("a")), partial(MediaError, "a", path=Path("a"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, "no memory"), "memory"),
        (caused(OUTPUT(), errno.ENOSPC), "disk"),
        (caused(OUTPUT(), errno.EDQUOT), "disk"),
        (caused(MEDIA(), errno.EIO), "io"),
        (caused(MEDIA(), errno.ESTALE), "io"),
        (caused(MEDIA(), -errno.ETIMEDOUT), "io"),  # as libav's errors have it
        (StallError("a", states=()), "stall"),
        (InferenceFailed("a"), "gpu"),
        (MEDIA(), "input"),
        (caused(MEDIA(), errno.ENOENT), "input"),
        (without_context(MEDIA(), errno.EAGAIN), "input"),
        (caused(VerificationFailed("a", path=Path("a")), errno.EIO), "internal"),  # the next attempt would end alike
        (OUTPUT(), "output"),
        (ConfigError(("a",)), "config"),
        (SetupError("a", missing="b"), "setup"),
        (BuildFailed("a"), "setup"),
        (ZeroDivisionError(), "internal"),
        (GraphFailed("a", [caused(OUTPUT(), errno.ENOSPC), ZeroDivisionError()]), "disk"),
        (GraphFailed("a", [ZeroDivisionError(), caused(OUTPUT(), errno.ENOSPC)]), "internal"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_failure_has_a_kind(error: BaseException, kind: FailureKind) -> None:
    assert classify(error) == kind


def test_errors_that_cause_each_other_are_no_trap() -> None:
    first, second = ValueError(), ValueError()
    first.__context__, second.__context__ = second, first
    assert classify(first) == "internal"


class OpenBuffer(io.BytesIO):
    """Keeps what was written."""


def test_an_error_that_nobody_expected_is_the_last_word(tmp_path: Path) -> None:
    pipe = OpenBuffer()
    with (
        pytest.raises(ZeroDivisionError),
        LastWords(film_order(tmp_path), display=MessageDisplay(pipe, interval_s=1.0)),
    ):
        raise ZeroDivisionError("by nought")
    (line,) = pipe.getvalue().splitlines()
    message = decode_message(line)
    assert isinstance(message, Ended)
    result = message.result
    assert (result.name, result.status, result.failure, result.code) == ("film.mkv", "failed", "internal", 70)
    assert "ZeroDivisionError: by nought" in result.errors[0]


@pytest.mark.parametrize("error", [None, SystemExit(70)])
def test_an_expected_end_needs_no_last_word(tmp_path: Path, error: BaseException | None) -> None:
    pipe = OpenBuffer()
    words = LastWords(film_order(tmp_path), display=MessageDisplay(pipe, interval_s=1.0))
    words.__exit__(None if error is None else type(error), error, None)
    assert pipe.getvalue() == b""


def test_a_parent_that_is_gone_loses_the_message_alone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        display = MessageDisplay(pipe, interval_s=1.0)
        display.send(Noted(text="anyone?", is_warning=False))
        display.note("still here")


def run_code(code: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **options)  # type: ignore[call-overload,no-any-return]


def test_a_process_whose_parent_ended_before_it_could_ask_ends() -> None:
    with run_code(
        "from pipeline.jobs.worker import die_with\ndie_with(1 << 30)\nraise SystemExit('still here')"
    ) as process:
        assert process.wait(timeout=120) == 130


def test_a_second_abort_ends_a_process_and_what_it_started_at_once(tmp_path: Path) -> None:
    code = (
        "import subprocess, time\nfrom pipeline.jobs.worker import Requests\nrequests = Requests()\n"
        "with requests.hearing(), requests.about_a_film(deadline_s=60):\n"
        "    other = subprocess.Popen(['sleep', '100'])\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(f'{{other.pid}}.')\n"
        "    while True: time.sleep(0.01)\n"
    )
    with run_code(code, start_new_session=True) as process:
        place = tmp_path / "pid"
        assert wait_until(lambda: place.exists() and place.read_text().endswith("."), within_s=120)
        process.send_signal(signal.SIGINT)  # means nothing to it
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == -signal.SIGKILL
        pid = int(place.read_text().rstrip("."))
        assert wait_until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_an_abort_that_hangs_ends_at_its_deadline_with_all_stacks(tmp_path: Path) -> None:
    """As where the parent is gone and nobody else would end it."""
    code = (
        "import os, signal, time\nfrom pipeline.jobs.worker import Requests\nrequests = Requests()\n"
        "with requests.hearing(), requests.about_a_film(deadline_s=0.5):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(100)\n"
    )
    with run_code(code, stderr=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and b"most recent call first" in err


def test_requests_are_about_the_film_in_work_or_the_next_one() -> None:
    code = """
import os, signal
from pipeline.jobs.worker import Requests
requests = Requests()
with requests.hearing():
    os.kill(os.getpid(), signal.SIGUSR1)
    with requests.about_a_film(deadline_s=60) as early:
        assert early.is_stopping and not early.is_aborted
    with requests.about_a_film(deadline_s=60) as stop:
        assert not stop.is_stopping
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_aborted
        requests.film_over()
        os.kill(os.getpid(), signal.SIGUSR1)  # too late for this one, and for whoever sends it there is no next one
    with requests.about_a_film(deadline_s=60) as last:
        assert not last.is_stopping
    print("waiting", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
"""
    with run_code(code, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, b"waiting\n")


def test_what_a_film_starts_cannot_read_the_orders() -> None:
    code = """
import subprocess
from pipeline.jobs.worker import take_orders
with take_orders() as orders:
    first = orders.readline()
    assert subprocess.run(["cat"], capture_output=True).stdout == b""
    print(first + orders.readline())
"""
    with run_code(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(b"one\ntwo\n", timeout=120)
    assert out == b"b'one\\ntwo\\n'\n"


def test_every_film_has_a_log_of_its_own_for_crashes_and_programs_too(tmp_path: Path) -> None:
    (tmp_path / "b.log").write_text("earlier\n")
    code = f"""
import os, subprocess, sys
from pathlib import Path
from pipeline.jobs.worker import log_to
for name in "ab":
    log_to(Path({str(tmp_path)!r}) / f"{{name}}.log")
    print(name, "of python")
    print(name, "of python, as an error", file=sys.stderr)
    subprocess.run(["echo", name, "of a program"])
"""
    with run_code(code) as process:
        assert process.wait(timeout=120) == 0
    lines = {name: sorted((tmp_path / f"{name}.log").read_text().splitlines()) for name in "ab"}
    assert lines["a"] == ["a of a program", "a of python", "a of python, as an error"]
    assert lines["b"] == ["b of a program", "b of python", "b of python, as an error", "earlier"]

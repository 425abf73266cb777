"""How a build's nested phases become one share, and how a build is stopped."""

from __future__ import annotations

import signal
import threading

import pytest
from helpers.children import run_python
from hypothesis import given
from hypothesis import strategies as st

from engines.progress_bar import BarListener, LineListener, make_listener
from engines.trt.progress import BuildWatch, PhaseShare


class Terminal:
    """Standard error as it is on a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.is_terminal = is_terminal
        self.text = ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


class Listener:
    """Keeps what it hears and answers as told."""

    def __init__(self, *, answer: bool = True) -> None:
        self.answer = answer
        self.shares: list[float] = []

    def begin(self, text: str) -> None:
        pass

    def progress(self, *, phase: str, share: float) -> bool:
        self.shares.append(share)
        return self.answer

    def end(self) -> None:
        pass


def test_a_phase_counts_as_one_step_of_its_parent() -> None:
    share = PhaseShare()
    share.start("build", parent=None, steps=4)
    share.step("build")
    assert share.share == 0.25
    share.start("tune", parent="build", steps=2)
    share.step("tune")
    assert share.share == pytest.approx(0.25 + 0.25 / 2)
    share.finish("tune")
    share.step("build")
    assert share.share == 0.5
    share.finish("build")
    assert share.share == 1.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "step", "finish"]), st.integers(0, 4), st.integers(-1, 4), st.integers(0, 9)
        ),
        max_size=60,
    )
)
def test_the_share_never_falls_and_stays_a_share(events: list[tuple[str, int, int, int]]) -> None:
    """Whatever the compiler reports: unknown phases, too many steps, missing ends. A parent begins before its child."""
    share, before = PhaseShare(), 0.0
    for kind, phase, parent, steps in events:
        if kind == "start":
            share.start(str(phase), parent=str(parent) if 0 <= parent < phase else None, steps=steps)
        elif kind == "step":
            share.step(str(phase))
        else:
            share.finish(str(phase))
        assert before <= share.share <= 1.0
        before = share.share


def test_a_listener_that_says_no_stops_the_build_and_is_left_alone_from_then_on() -> None:
    listener = Listener(answer=False)
    watch = BuildWatch(listener)
    watch.start("build", None, 4)
    assert watch.stopped
    assert watch.step("build") is False
    assert listener.shares == [0.0]


def test_what_a_listener_raises_stops_the_build_and_is_kept() -> None:
    class Broken(Listener):
        def progress(self, *, phase: str, share: float) -> bool:
            raise ZeroDivisionError

    watch = BuildWatch(Broken())
    with pytest.raises(ZeroDivisionError):
        watch.step("build")
    assert watch.stopped
    assert isinstance(watch.failure, ZeroDivisionError)


def test_ctrl_c_during_a_build_stops_it_instead_of_raising_anywhere() -> None:
    ended = run_python(
        """
        import os, signal
        from engines.trt.progress import BuildWatch
        watch = BuildWatch(None)
        with watch.catch_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            assert watch.step("build") is False
        assert watch.stopped
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        """
    )
    assert ended.returncode == 0, ended.stderr


def test_a_programs_own_interrupt_handler_stays_in_charge() -> None:
    ended = run_python(
        """
        import os, signal
        from engines.trt.progress import BuildWatch
        seen = []
        signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
        watch = BuildWatch(None)
        with watch.catch_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            assert watch.step("build") is True
        assert seen == [signal.SIGINT]
        """
    )
    assert ended.returncode == 0, ended.stderr


def test_a_build_in_another_thread_leaves_signals_alone() -> None:
    seen: list[object] = []

    def build() -> None:
        with BuildWatch(None).catch_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=build)
    thread.start()
    thread.join(timeout=120)
    assert seen == [signal.default_int_handler]


def test_without_a_terminal_a_long_build_gives_a_line_now_and_then() -> None:
    now_s, lines = [0.0], []
    listener = LineListener(lines.append, clock=lambda: now_s[0])
    listener.begin("an engine")
    for second in range(26):
        now_s[0] = float(second)
        assert listener.progress(phase="timing tactics", share=second / 100)
    listener.end()
    assert lines == [
        "building an engine",
        "   10% after 10 s: timing tactics",
        "   20% after 20 s: timing tactics",
        "  the compiler ended after 25.0 s",
    ]


def test_on_a_terminal_a_bar_is_drawn_and_erased() -> None:
    terminal = Terminal(is_terminal=True)
    listener = make_listener(lambda text: None, stream=terminal)  # type: ignore[arg-type]
    assert isinstance(listener, BarListener)
    listener.begin("an [engine]")
    assert listener.progress(phase="tuning", share=0.5)
    listener.end()
    assert "building an [engine]" in terminal.text
    assert "50%" in terminal.text
    assert isinstance(make_listener(lambda text: None, stream=Terminal(is_terminal=False)), LineListener)  # type: ignore[arg-type]

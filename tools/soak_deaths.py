"""Processes that die, signals, requests, clocks and two runs at once: what may happen to a run. For ``soak.py``."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from pathlib import Path

from soak_processes import send_signal
from soak_runs import Program, expect, sleep_random, wait_for
from soak_scene import DONE, SOME_FAILED, STOPPED, Soak


def _worker_dies(soak: Soak, number: signal.Signals) -> None:
    program = soak.place.start()
    soak.some_time(program)
    for pid in program.workers():
        send_signal(pid, number)
    soak.expect_done(program)


def worker_killed(soak: Soak) -> None:
    """The film's process is killed: the run goes on with it by itself."""
    _worker_dies(soak, signal.SIGKILL)


def worker_crashed(soak: Soak) -> None:
    """A library crashes in it."""
    _worker_dies(soak, signal.SIGSEGV)


def worker_told_to_end(soak: Soak) -> None:
    """Somebody else ends it."""
    _worker_dies(soak, signal.SIGTERM)


def parent_killed(soak: Soak) -> None:
    """The run's own process is killed: the film's goes too, and the next run goes on."""
    program = soak.place.start()
    soak.some_time(program)
    program.send(signal.SIGKILL)
    soak.run_to_end()


def all_killed(soak: Soak) -> None:
    """Everything is killed at once, up to five times."""
    for _ in range(soak.random.randint(1, 5)):
        program = soak.place.start()
        soak.some_time(program)
        program.kill_all()
        soak.place.expect_alone()
    soak.run_to_end()
    soak.expect_skipped()


def killed_while_assembling(soak: Soak) -> None:
    """One of the processes, or all, are killed while the result is made from its segments, or gets its name."""
    program = soak.place.start()
    work = soak.place.work_of(soak.film)
    result = soak.place.result_of(soak.film)
    if soak.random.random() < 0.5:
        wait_for(lambda: program.is_over() or any(work.glob("result.*")), what="assembling")
        sleep_random(soak.random, 0.0, 0.3, or_over=program)
    else:
        wait_for(lambda: program.is_over() or result.exists(), what="the result's name")
        sleep_random(soak.random, 0.0, 0.05, or_over=program)
    soak.has_struck = not program.is_over()
    victim = soak.random.choice(["worker", "parent", "all"])
    if victim == "worker":
        for pid in program.workers():
            send_signal(pid, signal.SIGKILL)
        soak.expect_done(program)
        return
    if victim == "parent":
        program.send(signal.SIGKILL)
    else:
        program.kill_all()
    soak.run_to_end()


def interrupted(soak: Soak) -> None:
    """Ctrl-C or SIGTERM, once to three times."""
    program = soak.place.start()
    soak.some_time(program)
    for _ in range(soak.random.randint(1, 3)):
        program.send(soak.random.choice([signal.SIGINT, signal.SIGTERM]))
        sleep_random(soak.random, 0.0, 0.5, or_over=program)
    ending = program.wait(within_s=60)
    # before Python has set its handlers up, a signal ends the program as it ends any
    expect(ending.code in (DONE, STOPPED, -signal.SIGINT, -signal.SIGTERM), f"exit code {ending.code}: {ending.err}")
    soak.run_to_end()


def _wait_for_state(soak: Soak, program: Program, state: str) -> None:
    """Wait until a run says that it is in a state, or is over."""
    wait_for(lambda: program.is_over() or soak.place.state(program) == state, what=f"state {state}")


def stopped_and_gone_on_with(soak: Soak) -> None:
    """``stop`` from another terminal, several times."""
    for _ in range(soak.random.randint(1, 3)):
        program = soak.place.start()
        _wait_for_state(soak, program, "working")
        soak.some_time(program)
        if not program.is_over():
            soak.place.ask("stop")
        soak.expect_stopped(program)
    soak.run_to_end()


def paused(soak: Soak) -> None:
    """``pause`` and ``resume`` from another terminal: while it is paused, no process of a film is there."""
    program = soak.place.start()
    for _ in range(soak.random.randint(1, 3)):
        _wait_for_state(soak, program, "working")
        soak.some_time(program, longest=0.5)
        if program.is_over() or soak.place.ask("pause").code != DONE:
            break  # it was over before it could be asked
        _wait_for_state(soak, program, "paused")
        if not program.is_over():
            expect(not program.workers(), "a film's process lives while the run is paused")
            expect(soak.place.ask("resume").code == DONE, "resume failed")
    soak.expect_done(program)


def _set_clock(clock: Path, offset_s: float) -> None:
    clock.with_suffix(".new").write_text(f"{offset_s!r}\n", encoding="ascii")
    clock.with_suffix(".new").replace(clock)


def hours_close(soak: Soak) -> None:
    """``run.hours`` close while it works: it waits without a film's process, and goes on the next day."""
    clock = soak.place.folder / "clock"
    now = datetime.now().astimezone()
    closing = now.replace(hour=23, minute=0, second=0, microsecond=0)
    before_s = soak.random.uniform(1.5, 1.5 + soak.run_s)
    offset_s = (closing - timedelta(seconds=before_s) - now).total_seconds()
    _set_clock(clock, offset_s)
    program = soak.place.start(clock=clock, run={"hours": "20:00-23:00"})
    _wait_for_state(soak, program, "hours")
    if not program.is_over():
        soak.has_struck = True
        expect(not program.workers(), "a film's process lives outside of run.hours")
        _set_clock(clock, offset_s + timedelta(hours=22).total_seconds())
    soak.expect_done(program)


def clock_jumps(soak: Soak) -> None:
    """The clock on the wall is set again and again, up to a day in both directions."""
    clock = soak.place.folder / "clock"
    _set_clock(clock, 0.0)
    program = soak.place.start(clock=clock)
    while not program.is_over():
        sleep_random(soak.random, 0.1, 1.0, or_over=program)
        soak.has_struck |= not program.is_over()
        _set_clock(clock, soak.random.uniform(-86_400, 86_400))
    soak.expect_done(program)


def two_runs(soak: Soak) -> None:
    """Two runs of the same config: every film is done once, and who comes second says who holds it."""
    programs = [soak.place.start() for _ in range(2)]
    statuses: dict[str, list[str]] = {}
    for program in programs:
        ending = program.wait()
        expect(ending.code in (DONE, SOME_FAILED), f"exit code {ending.code}: {ending.err[-1500:]}")
        for job in soak.place.summary(program)["jobs"]:
            statuses.setdefault(job["name"], []).append(job["status"])
            if job["status"] == "held":
                soak.has_struck = True
                expect(ending.code == SOME_FAILED, "a film was held and the exit code says nothing of it")
                expect("another run is working on" in job["reason"], f"who holds it? {job['reason']!r}")
    for name, found in statuses.items():
        expect(sorted(found) in (["done", "held"], ["done", "skipped"]), f"{name}: {found}")
    soak.check_results()
    soak.expect_skipped()


def two_runs_killed(soak: Soak) -> None:
    """Two runs of the same config, of which one is killed."""
    programs = [soak.place.start() for _ in range(2)]
    soak.some_time(programs[0])
    victim = soak.random.choice(programs)
    soak.random.choice([victim.kill_all, lambda: victim.send(signal.SIGKILL)])()
    for program in programs:
        if program is not victim:
            ending = program.wait()
            expect(ending.code in (DONE, SOME_FAILED), f"exit code {ending.code}: {ending.err[-1500:]}")
    soak.run_to_end()

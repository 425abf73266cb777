"""Hours, room on the disk, requests, hooks, and the folder of a run."""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from helpers.night_runs import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import OutputError
from pipeline.night import allowed as allowed_module
from pipeline.night import folder as folder_module
from pipeline.night.allowed import DISK_EVERY_S, Allowance
from pipeline.night.disk import DiskGuard, Room, estimate_need, folder_bytes, measure_room
from pipeline.night.folder import bound_log, film_log, find_run_folder, logging_to, make_run_folder
from pipeline.night.hooks import run_hook
from pipeline.night.hours import parse_hours
from pipeline.night.requests import list_requests, make_request, request_path, withdraw_request
from pipeline.night.status import RunState, RunStatus, write_status

DAY = datetime(2031, 3, 4)


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return DAY.replace(hour=hour, minute=minute, second=second)


# Hours


@pytest.mark.parametrize(
    ("text", "moment", "is_open", "change"),
    [
        ("23:00-07:00", at(22, 59, 59), False, at(23)),
        ("23:00-07:00", at(23), True, at(7) + timedelta(days=1)),
        ("23:00-07:00", at(6, 59, 59), True, at(7)),
        ("23:00-07:00", at(7), False, at(23)),
        ("12:00-13:30, 22:00-24:00", at(12), True, at(13, 30)),
        ("12:00-13:30, 22:00-24:00", at(13, 30), False, at(22)),
        ("12:00-13:30, 22:00-24:00", at(23, 59), True, at(0) + timedelta(days=1)),
        ("22:00-24:00,00:00-06:00", at(23), True, at(6) + timedelta(days=1)),
        ("0:00-24:00", at(3), True, None),
        ("01:00-02:00, 01:30-03:00", at(1), True, at(3)),
    ],
)
def test_hours_open_and_close(text: str, moment: datetime, is_open: bool, change: datetime | None) -> None:
    hours = parse_hours(text)
    assert hours.is_open(moment) == is_open and hours.next_change(moment) == change


@pytest.mark.parametrize(
    "text", ["", "7-9", "07:00", "07:00-07:00", "24:00-07:00", "07:60-08:00", "07:00-25:00", "a,b"]
)
def test_what_is_no_span_of_the_day_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        parse_hours(text)
    assert repr(text.split(",")[0])[1:-1] in str(caught.value)


@given(
    start=st.integers(0, 1439),
    stop=st.integers(0, 1440),
    moment=st.datetimes(datetime(2031, 1, 1), datetime(2032, 1, 1)),
)
def test_the_next_change_is_the_first_minute_that_differs(start: int, stop: int, moment: datetime) -> None:
    if start == stop:
        return
    hours = parse_hours(f"{start // 60}:{start % 60:02}-{stop // 60}:{stop % 60:02}")
    now = hours.is_open(moment)
    walk = moment.replace(second=0, microsecond=0)
    first = next(
        (walk + timedelta(minutes=n) for n in range(1, 1442) if hours.is_open(walk + timedelta(minutes=n)) != now), None
    )
    assert hours.next_change(moment) == first


@pytest.mark.parametrize(("month", "day"), [(3, 30), (10, 26)])
def test_on_the_days_when_clocks_are_changed_the_clock_on_the_wall_counts(month: int, day: int) -> None:
    """2025-03-30 and 2025-10-26 have 23 and 25 hours in Berlin."""
    berlin, hours = ZoneInfo("Europe/Berlin"), parse_hours("02:30-04:00")
    midnight = datetime(2025, month, day, tzinfo=berlin).astimezone(UTC)
    for quarter in range(4 * 25):
        moment = (midnight + timedelta(minutes=15 * quarter)).astimezone(berlin)
        assert hours.is_open(moment) == ((2, 30) <= (moment.hour, moment.minute) < (4, 0))
        change = hours.next_change(moment)
        assert change is not None and change.strftime("%H:%M") in ("02:30", "04:00")


# Room


def test_a_run_that_waits_for_room_waits_for_more_than_it_leaves() -> None:
    guard = DiskGuard(reserve_bytes=1000)

    def must_wait(free_bytes: int, *, is_waiting: bool) -> bool:
        return guard.must_wait(Room(folder=Path("/"), free_bytes=free_bytes), is_waiting=is_waiting)

    assert not must_wait(1000, is_waiting=False) and must_wait(999, is_waiting=False)
    assert must_wait(1499, is_waiting=True) and not must_wait(1500, is_waiting=True)
    assert not DiskGuard(reserve_bytes=0).must_wait(Room(folder=Path("/"), free_bytes=0), is_waiting=True)


def test_room_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    room = measure_room(tmp_path / "not" / "yet")
    assert room.folder == tmp_path and room.free_bytes > 0
    assert measure_room(Path("nowhere/at/all")).folder == Path()


def test_a_film_needs_its_missing_segments_and_its_result(tmp_path: Path) -> None:
    assert estimate_need(segment_bytes=100, frames_done=10, frame_count=40) == 700
    assert estimate_need(segment_bytes=100, frames_done=10, frame_count=None) is None
    assert estimate_need(segment_bytes=0, frames_done=0, frame_count=40) is None
    (tmp_path / "a").write_bytes(b"12345")
    assert folder_bytes(tmp_path) >= 5 and folder_bytes(tmp_path / "none") == 0 and folder_bytes(tmp_path / "a") == 0


class Place:
    """An allowance over a folder, with room as wanted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, hours: str | None = None) -> None:
        self.clock = FakeClock()
        self.free_bytes: int | OSError = 10_000
        self.asked = 0
        self.folder = folder
        monkeypatch.setattr(allowed_module, "measure_room", self.measure)
        self.allowance = Allowance(
            folder=folder,
            output_dir=folder,
            hours=None if hours is None else parse_hours(hours),
            guard=DiskGuard(reserve_bytes=1000),
            clock=self.clock,
        )

    def measure(self, folder: Path) -> Room:
        self.asked += 1
        if isinstance(self.free_bytes, OSError):
            raise self.free_bytes
        return Room(folder=folder, free_bytes=self.free_bytes)

    def kind(self, after_s: float = DISK_EVERY_S) -> str | None:
        self.clock.slept_s += after_s
        obstacle = self.allowance.find_obstacle()
        return None if obstacle is None else obstacle.kind


def test_the_file_system_is_asked_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, monkeypatch)
    for _ in range(100):
        assert place.kind(0.25) is None
    assert place.asked == 25 / DISK_EVERY_S


def test_a_full_disk_is_in_the_way_until_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, monkeypatch)
    kinds = []
    for free_bytes in (1000, 999, 1400, 1500, 1000):
        place.free_bytes = free_bytes
        kinds.append(place.kind())
    assert kinds == [None, "disk", "disk", None, None]


def test_a_file_system_that_does_not_answer_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, monkeypatch)
    place.free_bytes = OSError()
    assert place.kind() is None
    place.free_bytes = 1
    assert place.kind() == "disk"
    place.free_bytes = OSError()
    assert place.kind() == "disk"


def test_what_is_in_the_way_is_said_with_what_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, monkeypatch, hours="00:00-00:01")
    obstacle = place.allowance.find_obstacle()
    assert obstacle is not None and obstacle.reason == "outside of run.hours: waiting until 00:00"
    make_request(tmp_path, "pause")
    obstacle = place.allowance.find_obstacle()
    assert obstacle is not None and obstacle.reason.startswith("asked to pause; go on with: python -m pipeline resume ")


# Requests


def test_a_pause_lasts_until_it_is_withdrawn_and_a_stop_is_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, monkeypatch)
    make_request(tmp_path, "pause")
    make_request(tmp_path, "pause")
    assert place.kind() == "asked" and place.kind() == "asked"
    assert withdraw_request(tmp_path, "pause") and not withdraw_request(tmp_path, "pause")
    assert place.kind() is None
    make_request(tmp_path, "stop")
    assert place.allowance.take_stop() and not place.allowance.take_stop()


def test_a_folder_that_cannot_be_read_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> os.stat_result:
        raise OSError(116, "Stale file handle", str(path))

    make_request(tmp_path, "stop")
    monkeypatch.setattr(Path, "lstat", broken)
    assert list_requests(tmp_path) == frozenset()


def test_a_request_that_cannot_be_made_says_whom_to_ask(tmp_path: Path) -> None:
    (tmp_path / "requests").write_text("a file")
    with pytest.raises(OutputError, match="cannot ask") as caught:
        make_request(tmp_path, "stop")
    assert caught.value.hint
    with pytest.raises(OutputError, match="cannot ask"):
        withdraw_request(tmp_path, "stop")


# Hooks


def test_a_hook_reads_the_facts_as_json(tmp_path: Path) -> None:
    facts = {"name": "Ünïcode \udcff\n", "many": ["x" * 1000] * 1000}
    assert run_hook(f"cat > '{tmp_path}/seen'", facts) is None
    assert json.loads((tmp_path / "seen").read_text()) == facts


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("exit 3", "ended with code 3"),
        ("echo said; echo why >&2; exit 1", "ended with code 1: why"),
        ("no-such-command-anywhere", "ended with code 127"),
        ("kill -9 $$", "was killed by signal 9"),
        ("a\0b", "cannot be started"),
    ],
)
def test_a_hook_that_fails_is_a_sentence_and_no_error(command: str, problem: str) -> None:
    said = run_hook(command, {})
    assert said is not None and problem in said and "\n" not in said


def test_a_hook_that_reads_nothing_holds_nobody_up() -> None:
    started_s = time.monotonic()
    assert run_hook("exit 0", {"big": "x" * 5_000_000}) is None
    assert time.monotonic() - started_s < 5


def test_a_hook_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    ticks: list[None] = []
    command = f"sleep 100 & echo $! > '{tmp_path}/pid'; echo sleeping; sleep 100"
    said = run_hook(command, {}, timeout_s=2.5, tick=lambda: ticks.append(None))
    assert said is not None and said.endswith("was ended after 2.5 s: sleeping") and len(ticks) >= 3
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    deadline_s = time.monotonic() + 5
    while stat.exists() and " Z " not in stat.read_text() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not stat.exists() or " Z " in stat.read_text()


def test_what_a_hook_leaves_in_the_background_is_not_waited_for() -> None:
    started_s = time.monotonic()
    assert run_hook("sleep 3 &", {}) is None
    assert time.monotonic() - started_s < 2


def test_the_output_of_a_hook_is_bounded_and_safe(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pipeline.night.hooks"):
        assert run_hook(r"yes | head -c 30000000; printf '\033[31mred\n'", {}) is None
    text = "".join(record.getMessage() for record in caplog.records)
    assert len(text) < 20_000 and "\x1b" not in text and r"\x1b[31mred" in text


# The folder


def status_of(state: RunState = "working", *, written_at: float | None = None, **values: object) -> RunStatus:
    return RunStatus(
        state=state,
        host="elsewhere",
        pid=os.getpid(),
        started_at=time.time() - 100,
        written_at=time.time() if written_at is None else written_at,
        film_count=3,
        **values,  # type: ignore[arg-type]
    )


def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {make_run_folder(tmp_path) for _ in range(3)}  # as from containers: same second, same process id
    assert len(folders) == 3
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["jobs", "requests"]
        assert film_log(folder, 7).parent.is_dir()


def test_a_chosen_folder_is_taken_unless_a_run_goes_on_in_it(tmp_path: Path) -> None:
    chosen = tmp_path / "a" / "b"
    assert make_run_folder(tmp_path, chosen=chosen) == chosen
    make_request(chosen, "stop")
    write_status(chosen, status_of("over"))
    assert make_run_folder(tmp_path, chosen=chosen) == chosen
    assert list_requests(chosen) == frozenset()  # that was meant for the run that is over
    write_status(chosen, status_of())
    with pytest.raises(OutputError, match="another run") as caught:
        make_run_folder(tmp_path, chosen=chosen)
    assert "--run-dir" in caught.value.hint


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make") as caught:
        make_run_folder(tmp_path / "file")
    assert "output.dir" in caught.value.hint


def test_the_run_of_a_place_is_the_one_that_goes_on_else_the_latest(tmp_path: Path) -> None:
    assert find_run_folder(tmp_path) is None and find_run_folder(tmp_path / "none") is None
    runs = tmp_path / ".nightscale" / "runs"
    for name, state, written_s in (("1", "over", 30), ("2", "working", 20), ("3", "working", 10), ("4", "over", 0)):
        (runs / name).mkdir(parents=True)
        status = status_of(state, mark="of another machine 1")  # type: ignore[arg-type]
        write_status(runs / name, status)
        os.utime(runs / name / "status.json", (time.time() - written_s,) * 2)
    (runs / "empty").mkdir()
    assert find_run_folder(tmp_path) == runs / "2"
    assert find_run_folder(runs / "1") == runs / "1"
    for name in "23":
        write_status(runs / name, status_of("over"))
        os.utime(runs / name / "status.json", (1, 1))
    assert find_run_folder(tmp_path) == runs / "4"


def test_a_log_is_bounded_and_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "FILM_LOG_BYTES", 1000)
    log = tmp_path / "00000.log"
    bound_log(log)  # not there yet
    with log.open("ab", buffering=0) as writer:
        for number in range(100):
            writer.write(b"%04d%s\n" % (number, b"x" * 95))
            bound_log(log)
            assert log.stat().st_size <= 1100
    kept = (tmp_path / "00000.log.1").read_bytes() + log.read_bytes()
    assert b"0099" in kept and len(kept) <= 2200 and b"\0" not in kept


def test_the_log_of_a_run_is_bounded_and_silent_when_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folder_module, "LOG_BYTES", 10_000)
    logger = logging.getLogger("pipeline.some.module")
    with logging_to(tmp_path):
        for _ in range(1000):
            logger.warning("%s", "y" * 100 + "\udcff")
        handler = logging.getLogger("pipeline").handlers[-1]
        monkeypatch.setattr(handler, "emit", handler.handleError)
        logger.warning("lost")
    logger.warning("not in the log")
    logs = sorted(tmp_path.glob("run.log*"))
    assert len(logs) == folder_module.LOG_COUNT and all(log.stat().st_size <= 10_000 for log in logs)
    assert r"\udcff" in logs[0].read_text() and "not in the log" not in logs[0].read_text()
    assert "Logging error" not in capsys.readouterr().err


def test_a_request_is_a_file_of_that_name(tmp_path: Path) -> None:
    make_request(tmp_path, "pause")
    assert request_path(tmp_path, "pause").read_text().count("process") == 1
    assert [path.name for path in (tmp_path / "requests").iterdir()] == ["pause"]

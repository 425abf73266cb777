"""What a film's process and its parent say to each other arrives as it was sent."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.child_scripts import film_order, progress_of, result_of
from hypothesis import given
from hypothesis import strategies as st

from pipeline.jobs.messages import (
    BrokenMessage,
    Building,
    Ended,
    Message,
    Noted,
    Progressed,
    Ready,
    Started,
    decode_message,
    encode_message,
    is_progress,
)
from pipeline.jobs.order import decode_order, encode_order
from pipeline.jobs.reading import MessageReader
from pipeline.show.progress import BuildProgress, JobStart

STRANGE = os.fsdecode(b"/films/a 'b' \"c\"\n\x1b\xff\xfe/\xe6\x98\xa0.mkv")
"""A path with all that a path may hold, bytes that are no UTF-8 among it."""

START = JobStart(name=STRANGE, index=3, count=500, frame_count_estimated=None, lines=("a", STRANGE), details=("b",))
BUILD = BuildProgress(text="x2", phase="tactics", share=0.25, elapsed_s=3.5)
MESSAGES: list[Message] = [
    Ready(),
    Started(job=START),
    Building(build=BUILD, is_over=False),
    Building(build=BUILD, is_over=True),
    Progressed(progress=progress_of(7)),
    Noted(text=STRANGE, is_warning=True),
    Ended(result=result_of("a", source=Path(STRANGE), planned_output=Path(STRANGE), errors=(STRANGE,), failure="io")),
    Ended(result=result_of("a", output_size=(2160, 3840), reason="x" * 300_000)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    line = encode_message(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert decode_message(line) == message
    assert is_progress(line) == isinstance(message, Progressed)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 1e-300, 1e300])
def test_numbers_arrive_whatever_was_measured(number: float) -> None:
    back = decode_message(encode_message(Progressed(progress=progress_of(1, number=number))))
    assert isinstance(back, Progressed)
    fps, lane_s = back.progress.fps, back.progress.graph.lanes[1].stages[0].elapsed_s
    assert (fps == lane_s == number) or (math.isnan(number) and math.isnan(fps) and math.isnan(lane_s))


@given(text=st.text() | st.binary().map(os.fsdecode))
def test_any_text_arrives(text: str) -> None:
    assert decode_message(encode_message(Noted(text=text, is_warning=False))) == Noted(text=text, is_warning=False)


@given(cut=st.integers(0, 400))
def test_a_torn_message_is_no_message(cut: int) -> None:
    line = encode_message(MESSAGES[-2])
    with pytest.raises(BrokenMessage):
        decode_message(line[: min(cut, len(line) - 2)])


@given(line=st.binary())
def test_a_foreign_line_is_no_message(line: bytes) -> None:
    with pytest.raises(BrokenMessage):
        decode_message(line)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"1", b'{"Ready": 1, "a": 2}', b'{"Ready": 1}', b'{"Other": {}}', b"[" * 100_000]
)
def test_what_looks_like_one_is_none(line: bytes) -> None:
    with pytest.raises(BrokenMessage):
        decode_message(line)


def test_an_order_arrives_as_it_was_given() -> None:
    order = film_order(Path(STRANGE).parent, Path(STRANGE).name)
    order = replace(order, taken=((Path(STRANGE), STRANGE),) * 1000, run_folder=Path(STRANGE))
    assert decode_order(encode_order(order)) == order
    with pytest.raises(ValueError, match="Expecting value"):
        decode_order(b"")


class Pipe:
    """Both ends; the writing one does not block, so that a test that fills it fails and does not hang."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.reader = MessageReader(self.reading)
        os.set_blocking(self.writing, False)

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            os.close(descriptor)


@pytest.fixture
def pipe():  # type: ignore[no-untyped-def]
    ends = Pipe()
    yield ends
    ends.close()


def test_of_many_reports_only_the_latest_is_read(pipe: Pipe) -> None:
    lines = [encode_message(Progressed(progress=progress_of(count))) for count in range(20)]
    note, ready = encode_message(Noted(text="a", is_warning=False)), encode_message(Ready())
    os.write(pipe.writing, ready + b"".join(lines[:10]) + note + b"".join(lines[10:]) + ready)
    kinds = list(pipe.reader.read())
    assert kinds == [Ready(), Noted(text="a", is_warning=False), Progressed(progress=progress_of(19)), Ready()]
    assert list(pipe.reader.read()) == [] and not pipe.reader.is_over


@given(cuts=st.lists(st.integers(1, 3000), max_size=20))
def test_messages_arrive_in_whatever_pieces(cuts: list[int]) -> None:
    sent = [message for message in MESSAGES if len(encode_message(message)) < 50_000]
    stream = b"".join(encode_message(message) for message in sent)
    pipe = Pipe()
    try:
        got: list[Message] = []
        for size in [*cuts, len(stream)]:
            os.write(pipe.writing, stream[:size])
            stream = stream[size:]
            got += pipe.reader.read()
        assert got == sent
    finally:
        pipe.close()


def test_what_is_no_message_is_a_warning_and_the_rest_arrives(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    os.write(pipe.writing, b"Segmentation fault\n" + encode_message(Ready()) + b'{"Ended":{"resu')
    assert list(pipe.reader.read()) == [Ready()]
    os.close(pipe.writing)
    assert list(pipe.reader.read()) == [] and pipe.reader.is_over
    pipe.writing = os.dup(pipe.reading)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_reading_a_flood_costs_no_more_than_its_bytes(pipe: Pipe) -> None:
    """A pipe full of reports, 50 times: a report that is not shown is not looked into."""
    line = encode_message(Progressed(progress=progress_of(1)))
    count = 60_000 // len(line)
    started_s = time.process_time()
    for _ in range(50):
        os.write(pipe.writing, line * count)
        assert len(list(pipe.reader.read())) == 1
    flood_s = time.process_time() - started_s
    started_s = time.process_time()
    for _ in range(50 * count):
        decode_message(line)
    assert flood_s < 0.5 * (time.process_time() - started_s)

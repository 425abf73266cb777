"""Promises of pipeline.decode.transport: lost and damaged packets are found, and whole streams have none."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import media

from pipeline.decode.structure import missing_bytes
from pipeline.decode.transport import PACKET_BYTES, broken_transport_offset


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    return media.write_counter_video(tmp_path / "film.ts", frames=60, keyframe_interval=10, b_frames=2, audio_tracks=1)


@pytest.fixture
def disc_stream(stream: Path) -> Path:
    """The same with four bytes before each packet, as on Blu-ray discs."""
    content = stream.read_bytes()
    packets = [content[place : place + PACKET_BYTES] for place in range(0, len(content), PACKET_BYTES)]
    path = stream.with_suffix(".m2ts")
    path.write_bytes(b"".join(bytes(4) + packet for packet in packets))
    return path


def test_a_whole_stream_is_whole(stream: Path, disc_stream: Path) -> None:
    assert broken_transport_offset(stream) is None
    assert broken_transport_offset(disc_stream) is None
    assert missing_bytes(stream) == missing_bytes(disc_stream) == 0


def test_a_stream_cut_within_a_packet_misses_its_rest(stream: Path) -> None:
    stream.write_bytes(stream.read_bytes()[: 20 * PACKET_BYTES + 100])
    assert missing_bytes(stream) == 88


@pytest.mark.parametrize("first", [1, 30])
def test_zeros_are_found_where_they_begin(stream: Path, first: int) -> None:
    content = bytearray(stream.read_bytes())
    content[first * PACKET_BYTES : (first + 3) * PACKET_BYTES] = bytes(3 * PACKET_BYTES)
    stream.write_bytes(content)
    assert broken_transport_offset(stream) == first * PACKET_BYTES


def test_packets_taken_out_are_missed(stream: Path) -> None:
    content = stream.read_bytes()
    numbers = range(0, len(content), PACKET_BYTES)
    kinds = [int.from_bytes(content[place + 1 : place + 3], "big") & 0x1FFF for place in numbers]
    video = max(set(kinds), key=kinds.count)
    gone = [number for number, kind in enumerate(kinds) if kind == video][10]
    stream.write_bytes(content[: gone * PACKET_BYTES] + content[(gone + 1) * PACKET_BYTES :])
    found = broken_transport_offset(stream)
    assert found is not None and found >= gone * PACKET_BYTES


def test_a_packet_marked_as_faulty_is_found(stream: Path) -> None:
    content = bytearray(stream.read_bytes())
    content[40 * PACKET_BYTES + 1] |= 0x80
    stream.write_bytes(content)
    assert broken_transport_offset(stream) == 40 * PACKET_BYTES


def test_a_packet_sent_twice_is_no_break(stream: Path) -> None:
    content = stream.read_bytes()
    place = 40 * PACKET_BYTES
    stream.write_bytes(content[: place + PACKET_BYTES] + content[place:])
    assert broken_transport_offset(stream) is None


def test_other_files_are_none(tmp_path: Path) -> None:
    other = media.write_counter_video(tmp_path / "film.mkv", frames=3)
    empty = tmp_path / "empty.ts"
    empty.touch()
    assert broken_transport_offset(other) is None
    assert broken_transport_offset(empty) is None

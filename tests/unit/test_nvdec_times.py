"""Which packet an image of NVDEC came from, with a parser that repairs times until it trusts them."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.bitstream import BitStreamFilterContext
from helpers import media
from helpers.nvdec_double import ParserTimes

from pipeline.decode.nvdec_times import (
    CHECKED_IMAGES,
    Beginning,
    SentPacket,
    SentPackets,
    TimesOutOfOrder,
)


def packet(pts: int | None, *, is_wanted: bool = True) -> SentPacket:
    return SentPacket(pts=pts, duration=40, is_wanted=is_wanted)


def reordered(groups: int, *, step: int = 40, first: int = 0) -> list[int]:
    """Times in decoding order of groups of four: the last is decoded first, then the middle one, as with a pyramid."""
    return [first + step * (4 * group + place) for group in range(groups) for place in (3, 1, 0, 2)]


def play(sent: SentPackets, times: list[int | None], *, shown_behind: int = 3) -> list[int | None]:
    """Send packets whose pictures are shown by their times (None: right behind the one before), through the parser.

    Returns:
        The time that each image was taken for, in display order.
    """
    parser, order, waiting, found = ParserTimes(), {}, [], []

    def show() -> None:
        number = min(waiting, key=order.__getitem__)
        waiting.remove(number)
        taken = sent.take(parser.show(number))
        found.append(taken.pts if taken is not None else -1)

    for place, pts in enumerate(times):
        number = parser.send(sent.add(packet(pts)))
        order[number] = pts if pts is not None else (times[place - 1] or 0) + 1
        waiting.append(number)
        if len(waiting) > shown_behind:
            show()
    while waiting:
        show()
    return found


def test_images_get_their_own_times_whatever_the_order_of_decoding():
    times = reordered(12)
    assert play(SentPackets(has_times=True), list(times)) == sorted(times)


def test_numbers_in_decoding_order_come_back_with_other_images():
    """Why times are sent: what was seen on hardware, and what the double has to do."""
    parser = ParserTimes()
    first, second, third = (parser.send(number) for number in range(3))  # shown in the order first, third, second
    assert [parser.show(number) for number in (first, third, second)] == [0, 1, 2]


def test_a_packet_without_a_time_is_told_from_others_once_times_are_trusted():
    times: list[int | None] = [40 * i for i in range(30)]
    times[25] = None
    assert play(SentPackets(has_times=True), times) == times


@pytest.mark.parametrize("place", [1, 8, CHECKED_IMAGES])
def test_a_packet_without_a_time_before_that_is_refused(place):
    times: list[int | None] = [40 * i for i in range(30)]
    times[place] = None
    with pytest.raises(TimesOutOfOrder, match="no presentation time"):
        play(SentPackets(has_times=True), times)


def test_a_clock_set_back_once_times_are_trusted_is_passed_on_as_it_is():
    times = [40_000 + 40 * i for i in range(24)] + [40 * i for i in range(8)]
    assert play(SentPackets(has_times=True), list(times), shown_behind=0) == times


def test_a_clock_set_back_before_that_is_refused():
    with pytest.raises(TimesOutOfOrder, match="set back"):
        play(SentPackets(has_times=True), [40_000, 40_040, 40_080, 40_120, 0, 40])


def test_two_packets_of_one_time_are_two_images():
    assert play(SentPackets(has_times=True), [0, 40, 40, 80]) == [0, 40, 40, 80]


def test_an_image_that_no_packet_was_sent_for_has_none():
    sent = SentPackets(has_times=True)
    sent.add(packet(0))
    assert sent.take(13) is None
    assert sent.take(0) == packet(0)
    assert sent.take(0) is None


def test_without_times_the_nth_image_is_the_nth_packets():
    sent = SentPackets(has_times=False)
    packets = [SentPacket(pts=None, duration=duration, is_wanted=True) for duration in (1, 2, 3)]
    tags = [sent.add(each) for each in packets]
    assert tags == sorted(tags)
    assert [sent.take(tag) for tag in (tags[1], 99, tags[0])] == packets
    assert sent.take(tags[2]) is None


def test_times_that_begin_within_a_film_are_refused():
    sent = SentPackets(has_times=False)
    sent.add(packet(None))
    with pytest.raises(TimesOutOfOrder, match="begin within"):
        sent.add(packet(40))


def test_what_did_not_come_is_known_but_for_what_precedes_the_first_image():
    sent = SentPackets(has_times=True)
    for pts in (120, 40, 80, 160, 200):
        sent.add(packet(pts, is_wanted=pts != 200))
    assert sent.take(120) == packet(120)
    assert sent.missing() == [packet(160)]


def test_a_film_without_times_misses_as_many_as_were_not_shown():
    sent = SentPackets(has_times=False)
    for _ in range(4):
        sent.add(packet(None))
    sent.take(0)
    assert len(sent.missing()) == 3


def read_packets(path: Path, filter_name: str) -> list[tuple[int, bool, bytes]]:
    packets = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        with_start_codes = BitStreamFilterContext(filter_name, stream)
        for packet in container.demux(stream):
            pts, is_key = packet.pts, packet.is_keyframe  # the filter takes them out of the packet
            if packet.size:
                packets += [(pts, is_key, bytes(unit)) for unit in with_start_codes.filter(packet)]
    return packets


def test_hevc_pictures_that_look_past_the_first_key_frame_are_left_out_and_no_others(tmp_path):
    options = {"x265-params": "keyint=8:min-keyint=8:scenecut=0:open-gop=1"}
    path = media.write_counter_video(tmp_path / "film.mkv", frames=40, codec="libx265", b_frames=3, options=options)
    packets = read_packets(path, "hevc_mp4toannexb")
    keys = [place for place, (_, is_key, _) in enumerate(packets) if is_key]
    assert len(keys) > 2
    for key in keys[1:]:
        entry_pts = packets[key][0]
        beginning = Beginning("hevc")
        left_out = [pts for pts, _, payload in packets[key:] if beginning.leaves_out(payload)]
        assert left_out == [pts for pts, _, _ in packets[key:] if pts < entry_pts]
        assert beginning.is_over
        assert left_out, "the film has no such pictures"
    beginning = Beginning("hevc")
    assert not any(beginning.leaves_out(payload) for _, _, payload in packets)


def test_hevc_pictures_before_the_first_key_frame_are_left_out(tmp_path):
    options = {"x265-params": "keyint=8:min-keyint=8:scenecut=0:open-gop=1"}
    path = media.write_counter_video(tmp_path / "film.mkv", frames=40, codec="libx265", b_frames=2, options=options)
    packets = read_packets(path, "hevc_mp4toannexb")[3:]
    key_pts = next(pts for pts, is_key, _ in packets if is_key)
    beginning = Beginning("hevc")
    left_out = [pts for pts, _, payload in packets if beginning.leaves_out(payload)]
    assert left_out == [pts for pts, _, _ in packets if pts < key_pts]
    assert left_out


def test_other_codecs_and_bytes_that_are_no_packets_are_never_left_out():
    rasl = b"\0\0\1" + bytes([8 << 1, 1, 0xAF])
    assert not Beginning("h264").leaves_out(rasl)
    beginning = Beginning("hevc")
    for payload in (b"", b"\0\0\1", b"\0\0\0\0", b"\1\2\3", b"\0\0\1" + bytes([35 << 1, 1])):
        assert not beginning.leaves_out(payload)

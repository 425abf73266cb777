"""What a packet's bytes say, on packets made by hand; whole films are in test_frame_index."""

from __future__ import annotations

import pytest

from pipeline.decode.access_points import PacketFacts, packet_inspector

START = b"\0\0\0\1"
AVCC = bytes([1, 100, 0, 31, 0xFF, 0xE1, 0])  # four-byte lengths
HVCC = bytes([1, *bytes(20), 0xFF, 0])
RECOVERY_EXACT = bytes([6, 6, 1, 0b1100_0000, 0x80])
"""An H.264 SEI: type 6, 1 byte: recovery_frame_cnt 0, exact_match_flag 1, broken_link_flag 0."""


def inspect(codec: str, payload: bytes, *, is_key: bool = True, extradata: bytes = b"") -> PacketFacts:
    inspector = packet_inspector(codec, extradata=extradata, is_intra_only=False)
    assert inspector is not None
    return inspector(payload, is_key)


def with_lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def with_start_codes(*units: bytes) -> bytes:
    return b"".join(START + unit for unit in units)


H264_SLICE, H264_IDR = bytes([0x41, 0x9A, 0x24, 0x6C]), bytes([0x65, 0x88, 0x84, 0])
H264_PACKETS = {
    "IDR": ([H264_IDR], True),
    "parameters and IDR": ([bytes([0x67, 1, 2]), bytes([0x68, 1]), H264_IDR], True),
    "exact recovery point": ([RECOVERY_EXACT, H264_SLICE], True),
    "recovery point behind another message": ([bytes([6, 5, 2, 9, 9, 6, 1, 0b1100_0000, 0x80]), H264_SLICE], True),
    "recovery in one frame": ([bytes([6, 6, 1, 0b0101_0000, 0x80]), H264_SLICE], False),
    "inexact recovery point": ([bytes([6, 6, 1, 0b1000_0000, 0x80]), H264_SLICE], False),
    "broken link": ([bytes([6, 6, 1, 0b1110_0000, 0x80]), H264_SLICE], False),
    "a flagged picture without any promise": ([H264_SLICE], False),
}


@pytest.mark.parametrize("name", H264_PACKETS)
def test_h264_is_entered_at_idr_pictures_and_exact_recovery_points(name):
    units, is_entry = H264_PACKETS[name]
    for facts in (
        inspect("h264", with_lengths(*units), extradata=AVCC),
        inspect("h264", with_start_codes(*units)),
    ):
        assert facts == PacketFacts(is_entry=is_entry)
    assert not inspect("h264", with_lengths(*units), is_key=False, extradata=AVCC).is_entry


def hevc(kind: int, *rest: int) -> bytes:
    return bytes([kind << 1, 1, *(rest or (0x80, 0))])


@pytest.mark.parametrize("wrap", [with_lengths, with_start_codes])
@pytest.mark.parametrize(("kind", "is_entry"), [(1, False), (9, False), (19, True), (20, True), (21, True)])
def test_hevc_is_entered_at_idr_and_cra_pictures(wrap, kind, is_entry):
    extradata = HVCC if wrap is with_lengths else b""
    assert inspect("hevc", wrap(hevc(32), hevc(kind)), extradata=extradata) == PacketFacts(is_entry=is_entry)


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ([hevc(16)], "broken link"),
        ([hevc(19, 0xC0, 0)], "discards the pictures before it"),
        ([hevc(1), bytes([36 << 1, 1])], "sequence ends"),
        ([bytes([0x80 | 2, 1, 0])], "malformed"),
    ],
)
def test_hevc_places_where_pictures_are_not_output_are_breaks(units, words):
    assert words in inspect("hevc", with_lengths(*units), extradata=HVCC).break_reason


@pytest.mark.parametrize("payload", [with_lengths(H264_IDR)[:-1], with_lengths(H264_IDR) + b"\0", b"\0\0"])
def test_lengths_that_do_not_add_up_are_damage(payload):
    assert "do not fit" in inspect("h264", payload, extradata=AVCC).break_reason
    assert "do not fit" in inspect("hevc", payload, extradata=HVCC).break_reason


@pytest.mark.parametrize(
    ("payload", "is_entry"),
    [
        (b"\0\0\1\xb3headers.\0\0\1\0" + bytes([0, 1 << 3]) + bytes(8), True),
        (b"\0\0\1\xb3headers.\0\0\1\0" + bytes([0, 2 << 3]) + bytes(8), False),
        (b"\0\0\1\0" + bytes([0, 1 << 3]) + bytes(8), False),
        (b"\0\0\1\xb3", False),
    ],
)
def test_mpeg2_is_entered_at_a_sequence_header_with_an_intra_picture(payload, is_entry):
    assert inspect("mpeg2video", payload) == PacketFacts(is_entry=is_entry)


def superframe(*frames: bytes) -> bytes:
    marker = bytes([0xC0 | len(frames) - 1])
    return b"".join(frames) + marker + bytes(map(len, frames)) + marker


VP9_KEY, VP9_HIDDEN_KEY, VP9_SHOWN, VP9_HIDDEN, VP9_EXISTING = (
    bytes([0b1000_0000 | bits, 1, 2]) for bits in (0b0010, 0b0000, 0b0110, 0b0100, 0b1000)
)


@pytest.mark.parametrize(
    ("payload", "facts"),
    [
        (VP9_KEY, PacketFacts(is_entry=True)),
        (VP9_SHOWN, PacketFacts()),
        (VP9_EXISTING, PacketFacts()),
        (VP9_HIDDEN, PacketFacts(shown_count=0)),
        (superframe(VP9_HIDDEN, VP9_SHOWN), PacketFacts()),
        (superframe(VP9_HIDDEN_KEY, VP9_SHOWN), PacketFacts(is_entry=True)),
        (bytes([0b1011_0001, 1]), PacketFacts(is_entry=True)),  # profile 3
        (bytes([0b1011_0010, 1]), PacketFacts(shown_count=0)),
    ],
)
def test_vp9_shows_and_hides_pictures(payload, facts):
    assert inspect("vp9", payload) == facts


@pytest.mark.parametrize(
    "payload", [b"\x12\0", superframe(VP9_SHOWN, VP9_SHOWN), bytes([0b1011_1000, 0]), superframe(VP9_KEY, b"")]
)
def test_vp9_packets_that_are_not_one_picture_are_breaks(payload):
    assert inspect("vp9", payload).break_reason


@pytest.mark.parametrize(
    ("payload", "facts"),
    [
        (bytes([0x10, 0, 0, 0x9D, 1, 0x2A]), PacketFacts(is_entry=True)),
        (bytes([0x11, 0, 0]), PacketFacts()),
        (bytes([0x01, 0, 0]), PacketFacts(shown_count=0)),
        (bytes([0x10, 0, 0, 1, 2, 3]), PacketFacts(break_reason="a key frame has no start code")),
    ],
)
def test_vp8_shows_and_hides_pictures(payload, facts):
    assert inspect("vp8", payload) == facts


def obu(kind: int, body: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(body)]) + body


@pytest.mark.parametrize(
    ("payload", "is_entry"),
    [
        (obu(1, b"sequence") + obu(6, bytes([0b0001_0000, 0])), True),
        (obu(3, bytes([0b0001_0000])) + obu(4, b"tiles"), True),
        (obu(6, bytes([0b0000_0000, 0])) + obu(3, bytes([0b1000_0000])), False),  # shown later: pictures may lead it
        (obu(6, bytes([0b0011_0000, 0])), False),
        (obu(3, bytes([0b1000_0000])), False),
    ],
)
def test_av1_is_entered_at_shown_key_frames(payload, is_entry):
    assert inspect("av1", payload) == PacketFacts(is_entry=is_entry)


@pytest.mark.parametrize(
    "payload", [b"\x80\0", obu(6, b"\x10\0")[:-1], bytes([6 << 3 | 2]), bytes([0x32, *[0xFF] * 9])]
)
def test_av1_units_that_do_not_fit_are_breaks(payload):
    assert inspect("av1", payload).break_reason


def test_single_pictures_are_known_by_their_signatures():
    assert inspect("mjpeg", b"\xff\xd8\xff").is_entry
    assert inspect("mjpeg", b"noise").break_reason
    assert inspect("prores", b"\0\0\0\x0aicpf\0\0").is_entry
    assert inspect("prores", b"\0\0\0\x0bicpf\0\0").break_reason
    assert inspect("ffv1", b"any") == PacketFacts(is_entry=True)
    assert inspect("ffv1", b"any", is_key=False) == PacketFacts()


def test_a_codec_that_does_not_say_enough_has_no_inspector():
    assert packet_inspector("mpeg4", extradata=b"", is_intra_only=False) is None
    intra = packet_inspector("rawvideo", extradata=b"", is_intra_only=True)
    assert intra is not None
    assert intra(b"samples", False).is_entry


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2video", "vp8", "vp9", "av1", "mjpeg", "prores", "ffv1"])
def test_any_bytes_whatsoever_are_judged_without_an_error(codec):
    import random

    random_bytes = random.Random(0)
    for _ in range(2000):
        payload = random_bytes.randbytes(random_bytes.randint(1, 40))
        for extradata in (b"", AVCC if codec == "h264" else HVCC):
            assert inspect(codec, payload, extradata=extradata).shown_count in {0, 1}

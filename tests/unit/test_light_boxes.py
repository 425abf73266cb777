"""HDR10 metadata reaches the header of a fragmented MP4, and nothing else in it changes."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import pytest
from helpers import media
from helpers.pictures import make_spec

from pipeline.assembly.light_boxes import LightBoxPipe, light_boxes
from pipeline.encode import EncodeSpec

MASTERING = bytes.fromhex("0000 0020") + b"mdcv"
LIGHT = struct.pack(">I4s2H", 12, b"clli", 1000, 400)


def spec(encoder: str = "libx265") -> EncodeSpec:
    return replace(make_spec(encoder), mastering_display=media.MASTERING_DISPLAY, content_light=media.CONTENT_LIGHT)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def movie(entry: bytes) -> bytes:
    """A header whose second track, like the first box of each level, must stay as it is."""
    table = box(b"stsd", bytes(4) + struct.pack(">I", 1) + entry)
    track = box(b"tkhd", b"head") + box(b"mdia", box(b"mdhd", b"m") + box(b"minf", box(b"stbl", table)))
    return box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", b"v") + box(b"trak", track) + box(b"mvex", b"x"))


def test_boxes_hold_the_numbers_in_the_order_of_the_standard() -> None:
    boxes = light_boxes(spec())
    assert boxes.startswith(MASTERING)
    numbers = struct.unpack(">8H2I", boxes[8:32])
    assert numbers == (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10000000, 50)
    assert boxes[32:] == LIGHT


def test_what_the_encoder_leaves_out_of_the_stream_is_not_in_the_container_either() -> None:
    assert light_boxes(spec("ffv1")) == b""
    assert light_boxes(make_spec("libx265")) == b""


def test_levels_beyond_the_box_are_the_most_that_it_holds() -> None:
    assert light_boxes(replace(spec(), mastering_display="", content_light="70000,400")).endswith(
        struct.pack(">2H", 65535, 400)
    )


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_the_sample_entry_grows_and_every_size_with_it(piece: int) -> None:
    sent = movie(box(b"hvc1", b"entry")) + box(b"moof", b"fragment") + b"and so on"
    out = io.BytesIO()
    pipe = LightBoxPipe(out, LIGHT)
    for start in range(0, len(sent), piece):
        assert pipe.write(sent[start : start + piece]) == len(sent[start : start + piece])
    assert out.getvalue() == movie(box(b"hvc1", b"entry" + LIGHT)) + box(b"moof", b"fragment") + b"and so on"


def test_without_boxes_everything_passes_at_once() -> None:
    out = io.BytesIO()
    LightBoxPipe(out, b"").write(b"anything")
    assert out.getvalue() == b"anything"

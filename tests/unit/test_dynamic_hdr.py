"""HDR metadata of single frames is found when a film is probed, and reported before the run as dropped."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest
from helpers import media
from helpers.runs import write_config

from pipeline.assembly.light_boxes import LightBoxPipe
from pipeline.config.load import load_config
from pipeline.errors import UnsupportedMedia
from pipeline.plan import plan_film
from pipeline.probe import probe_media

HDR10_PLUS = (
    "10110101" f"{0x3C:016b}" f"{1:016b}" f"{4:08b}" f"{1:08b}"  # T.35: USA, provider, oriented code, application 4
    "01" f"{400:027b}" "0"  # one window, the display aimed at, no actual peak
    + f"{10_000:017b}" * 3 + f"{500:017b}" "0000" f"{0:010b}"  # maxSCL, average, no percentiles, bright share
    + "0" "0" "0"
)  # fmt: skip
"""ST 2094-40 as user data registered by T.35. Source: CTA-861-H, S.2."""


def write_dolby_vision(path: Path, *, profile: int, base_layer: int) -> Path:
    """HDR10 with a Dolby Vision configuration record in the sample entry."""
    flags = (profile << 9) | (6 << 3) | 0b101  # level 6, RPU and base layer present
    record = struct.pack(">BBHB", 1, 0, flags, base_layer << 4) + bytes(19)
    box = struct.pack(">I4s", 8 + len(record), b"dvvC" if profile > 7 else b"dvcC") + record
    source = media.write_hdr10(path.with_suffix(".mkv"))
    options = {"movflags": "empty_moov+default_base_moof+delay_moov"}
    with (
        path.open("wb") as file,
        av.open(str(source)) as reader,
        av.open(LightBoxPipe(file, box), "w", format="mp4", options=options) as writer,  # type: ignore[call-overload]
    ):
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(reader.streams.video[0]):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)
    return path


def write_hdr10_plus(path: Path) -> Path:
    """A raw HEVC stream with HDR10+ before each picture."""
    plain = media.write_counter_video(
        path,
        frames=3,
        codec="libx265",
        pixel_format="yuv420p10le",
        matrix=9,
        primaries=9,
        transfer=16,
        container_format="hevc",
    ).read_bytes()
    payload = HDR10_PLUS + "0" * (-len(HDR10_PLUS) % 8)
    content = bytes(int(payload[at : at + 8], 2) for at in range(0, len(payload), 8))
    content = bytes([4, len(content)]) + content + b"\x80"
    while (zeros := content.find(b"\0\0\0")) >= 0:  # a start code must not appear
        content = content[: zeros + 2] + b"\3" + content[zeros + 2 :]
    message = b"\0\0\0\1\x4e\x01" + content
    units = plain.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    whole = b""
    for unit in units:
        is_picture = (unit[0] >> 1 & 63) < 32
        whole += (message if is_picture else b"") + b"\0\0\0\1" + unit
    path.write_bytes(whole)
    return path


def test_dolby_vision_over_hdr10_is_named(tmp_path: Path) -> None:
    video = probe_media(write_dolby_vision(tmp_path / "film.mp4", profile=8, base_layer=1)).video
    assert video.dynamic_hdr == ("Dolby Vision profile 8",)
    assert video.mastering_display == media.MASTERING_DISPLAY


def test_dolby_vision_without_a_base_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="profile 5 without a base layer") as caught:
        probe_media(write_dolby_vision(tmp_path / "film.mp4", profile=5, base_layer=0))
    assert "IPT" in str(caught.value)
    assert caught.value.hint


def test_hdr10_plus_is_found_in_the_first_frames(tmp_path: Path) -> None:
    assert probe_media(write_hdr10_plus(tmp_path / "film.hevc")).video.dynamic_hdr == ("HDR10+",)


def test_a_film_without_any_has_none(tmp_path: Path) -> None:
    assert probe_media(media.write_hdr10(tmp_path / "film.mkv")).video.dynamic_hdr == ()


def test_the_plan_says_that_it_will_be_lost(tmp_path: Path) -> None:
    film = write_dolby_vision(tmp_path / "film.mp4", profile=8, base_layer=1)
    config = load_config(write_config(tmp_path, film, encode={"codec": "hevc"}))
    warnings = plan_film(config, probe_media(film)).warnings
    assert any("Dolby Vision profile 8 metadata will be lost" in warning for warning in warnings)


def test_hdr_in_8_bits_is_warned_of(tmp_path: Path) -> None:
    film = media.write_hdr10(tmp_path / "film.mkv")
    config = load_config(write_config(tmp_path, film, encode={"codec": "hevc", "bit_depth": 8}))
    assert any("PQ in 8 bits will show bands" in text for text in plan_film(config, probe_media(film)).warnings)

"""What the films of the media table are made from, and the ways of making one: ffmpeg's, and packet by packet."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from helpers import media

FRAMES = 12
HEIGHT_PX, WIDTH_PX = 48, 64

_ASS = """[Script Info]
ScriptType: v4.00+
PlayResX: 64
PlayResY: 48

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Test,8,&H00FFFFFF,0,0,2,1,1,1,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.04,0:00:00.20,Default,,0,0,0,,{\\i1}slanted{\\i0}
Dialogue: 0,0:00:00.24,0:00:00.40,Default,,0,0,0,,plain
"""

_CHAPTERS = """;FFMETADATA1
title=A film
artist=Nobody
comment=seen twice
[CHAPTER]
TIMEBASE=1/1000
START=0
END=200
title=First
[CHAPTER]
TIMEBASE=1/1000
START=200
END=480
title=Zweites Kapitel \u2013 \u00fc
"""


@dataclass(frozen=True)
class Material:
    """A folder with what films are made from; each part is made when it is first asked for."""

    folder: Path

    def part(self, name: str, make: Callable[[Path], object]) -> Path:
        """The file ``name``, made by ``make`` if it is not there."""
        path = self.folder / name
        if not path.exists():
            make(path)
        return path

    def pictures(self, pixel_format: str = "yuv420p", *, height: int = HEIGHT_PX, width: int = WIDTH_PX) -> Path:
        """Twelve numbered pictures at 25 a second, lossless, without sound or tags."""
        return self.part(
            f"pictures-{pixel_format}-{height}x{width}.mkv",
            lambda path: media.write_counter_video(
                path, frames=FRAMES, height=height, width=width, codec="ffv1", pixel_format=pixel_format
            ),
        )

    @property
    def sound(self) -> Path:
        """Half a second of a sine, 48 kHz stereo."""
        return self.part(
            "sound.wav",
            lambda path: media.run_ffmpeg(
                *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=0.5", "-ac", "2", str(path))
            ),
        )

    @property
    def srt(self) -> Path:
        """Two lines of text."""
        text = "1\n00:00:00,040 --> 00:00:00,200\none\n\n2\n00:00:00,240 --> 00:00:00,400\n<i>two</i> – ü\n\n"
        return self.part("lines.srt", lambda path: path.write_text(text, encoding="utf-8"))

    @property
    def ass(self) -> Path:
        """Two styled lines in a font of the film's own."""
        return self.part("lines.ass", lambda path: path.write_text(_ASS, encoding="utf-8"))

    @property
    def font(self) -> Path:
        """What passes for a font."""
        return self.part("Test.ttf", lambda path: path.write_bytes(b"\0\1\0\0" + bytes(range(200))))

    @property
    def cover(self) -> Path:
        """A JPEG picture that is larger than the film."""
        return self.part("cover.jpg", lambda path: path.write_bytes(media.make_jpeg()))

    @property
    def chapters(self) -> Path:
        """Two chapters and tags of a film, in ffmpeg's notation."""
        return self.part("chapters.txt", lambda path: path.write_text(_CHAPTERS, encoding="utf-8"))


def ffmpeg(path: Path, *arguments: str | Path) -> Path:
    """Let ffmpeg write ``path``, one thread, its own marks left out."""
    media.run_ffmpeg(*map(str, arguments), "-threads", "1", str(path))
    return path


def transcode(
    material: Material, path: Path, *options: str, pixel_format: str = "yuv420p", with_sound: str = ""
) -> Path:
    """The numbered pictures in another codec, with one sound track if a codec for it is named."""
    sound = ("-i", material.sound, "-map", "0:v", "-map", "1:a", "-c:a", with_sound, "-strict", "-2")
    return ffmpeg(path, "-i", material.pictures(pixel_format), *(sound if with_sound else ()), *options)


def x264(*options: str) -> tuple[str, ...]:
    """libx264, fast and of fixed quality."""
    return ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "16", *options)


def rewrite(source: Path, path: Path, change: Callable[[int, Any], bool | None], *, container: str = "") -> Path:
    """Copy a film packet by packet.

    Args:
        source: The film.
        path: The copy.
        change: Called with the number (per stream) and each packet, which it may change; False leaves it out.
        container: libav's name of the muxer, where the extension does not say.
    """
    with av.open(str(source)) as old, av.open(str(path), "w", format=container or None) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        counts = dict.fromkeys(streams, 0)
        for packet in old.demux():
            if not packet.size:
                continue
            index = packet.stream.index
            number, counts[index] = counts[index], counts[index] + 1
            if change(number, packet) is False:
                continue
            packet.stream = streams[index]
            new.mux(packet)
    return path


def move_clock(source: Path, path: Path, ticks: int) -> Path:
    """A transport stream whose whole clock (33 bits, 90 kHz) was set on by ``ticks``, past its end if that is so.

    Source: ISO/IEC 13818-1 2.4.3.4 (PCR in the adaptation field), 2.4.3.6 (PTS and DTS in PES headers).
    """
    content = bytearray(source.read_bytes())
    for start in range(0, len(content), 188):
        has_field, has_payload = content[start + 3] & 0x20, content[start + 3] & 0x10
        length = content[start + 4] + 1 if has_field else 0
        if has_field and length > 6 and content[start + 5] & 0x10:
            base = int.from_bytes(content[start + 6 : start + 11], "big") >> 7
            low = int.from_bytes(content[start + 6 : start + 12], "big") & 0x7FFF
            moved = ((base + ticks) % (1 << 33)) << 15 | low
            content[start + 6 : start + 12] = moved.to_bytes(6, "big")
        pes = start + 4 + length
        begins = content[start + 1] & 0x40
        if begins and has_payload and content[pes : pes + 3] == b"\0\0\1" and content[pes + 3] & 0xE0 in {0xC0, 0xE0}:
            flags = content[pes + 7] >> 6
            for number in range({2: 1, 3: 2}.get(flags, 0)):
                _move_stamp(content, pes + 9 + 5 * number, ticks)
    path.write_bytes(content)
    return path


def _move_stamp(content: bytearray, place: int, ticks: int) -> None:
    raw = content[place : place + 5]
    time = (raw[0] >> 1 & 7) << 30 | raw[1] << 22 | (raw[2] >> 1) << 15 | raw[3] << 7 | raw[4] >> 1
    time = (time + ticks) % (1 << 33)
    content[place : place + 5] = bytes(
        (
            raw[0] & 0xF1 | time >> 30 << 1,
            time >> 22 & 0xFF,
            (time >> 15 & 0x7F) << 1 | 1,
            time >> 7 & 0xFF,
            (time & 0x7F) << 1 | 1,
        )
    )


def pgs_packets() -> list[tuple[int, bytes]]:
    """(milliseconds, content) of the display sets of a PGS subtitle: a white box that is shown and then taken away.

    Source: US patent 2009/0185789 A1, figures 9 to 15 (segments 0x16 PCS, 0x17 WDS, 0x14 PDS, 0x15 ODS, 0x80 END).
    """

    def segment(kind: int, body: bytes) -> bytes:
        return struct.pack(">BH", kind, len(body)) + body

    window = segment(0x17, struct.pack(">BBHHHH", 1, 0, 8, 8, 8, 4))
    palette = segment(0x14, struct.pack(">BBBBBBB", 0, 0, 1, 235, 128, 128, 255))
    lines = b"\x01" * 8 + b"\0\0"
    picture = struct.pack(">HH", 8, 4) + lines * 4
    content = segment(0x15, struct.pack(">HBB", 0, 0, 0xC0) + len(picture).to_bytes(3, "big") + picture)
    shown = segment(
        0x16, struct.pack(">HHBHBBBB", 64, 48, 0x10, 0, 0x80, 0, 0, 1) + struct.pack(">HBBHH", 0, 0, 0, 8, 8)
    )
    taken = segment(0x16, struct.pack(">HHBHBBBB", 64, 48, 0x10, 1, 0x00, 0, 0, 0))
    end = segment(0x80, b"")
    return [(80, shown + window + palette + content + end), (320, taken + window + end)]


def write_sup(path: Path) -> Path:
    """A PGS subtitle file (``.sup``): each segment after ``PG``, its time in 90 kHz and a zero decoding time."""
    content = b""
    for time_ms, display_set in pgs_packets():
        place = 0
        while place < len(display_set):
            length = 3 + int.from_bytes(display_set[place + 1 : place + 3], "big")
            content += b"PG" + struct.pack(">II", time_ms * 90, 0) + display_set[place : place + length]
            place += length
    path.write_bytes(content)
    return path


def retimed(path: Path, pts: tuple[int, ...], unit: Fraction, *, b_frames: int = 0) -> Path:
    """Numbered pictures at these times."""
    return media.write_counter_video(
        path,
        frames=len(pts),
        height=HEIGHT_PX,
        width=WIDTH_PX,
        pts=pts,
        time_base=unit,
        b_frames=b_frames,
        rate=Fraction(25),
    )

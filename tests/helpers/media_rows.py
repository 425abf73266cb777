"""The media table: one film a row, how it is made, how it is upscaled, and in what its result may differ from it.

Every row states its own exceptions with their reason; in everything else the result must say what the source says.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from helpers import boxes, media
from helpers.media_row import (
    ADTS,
    GUESSED_FULL,
    NO_DEFAULT,
    Change,
    Make,
    Row,
    every,
    in_container,
    made,
    ms,
    with_codec,
)
from helpers.media_stream_rows import REFUSED, STREAMS
from helpers.table_material import (
    FRAMES,
    HEIGHT_PX,
    WIDTH_PX,
    Material,
    ffmpeg,
    move_clock,
    retimed,
    rewrite,
    transcode,
    x264,
)

__all__ = ["REFUSED", "Row", "ROWS"]

# --- time -------------------------------------------------------------------------------------------------------------

NTSC_FILM, NTSC, NTSC_DOUBLE = Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)
VFR_MS = (0, 33, 100, 101, 250, 251, 500, 640, 641, 1000)
GAP_MS = (0, 40, 80, 3_600_080, 3_600_120)
PTS_90K = (0, 3003, 6006, 9010, 12012, 15016, 18018)


def _duplicate(material: Material, path: Path) -> Path:
    """Pictures 3 and 4 bear one time."""

    def change(number: int, packet: Any) -> None:
        if number == 4:
            packet.pts = packet.dts = packet.pts - packet.duration

    whole = material.part("all-key.mkv", lambda part: transcode(material, part, "-c:v", "mjpeg", "-q:v", "2"))
    return rewrite(whole, path, change)


def _negative(material: Material, path: Path) -> Path:
    """The first picture is shown 80 ms before zero."""
    return ffmpeg(
        path, "-itsoffset", "-0.08", "-i", material.pictures(), *x264(), "-avoid_negative_ts", "disabled", "-copyts"
    )


def _wrapping(material: Material, path: Path) -> Path:
    """The clock of 33 bits runs over in the middle."""
    plain = path.with_name(f"plain-{path.name}")
    transcode(material, plain, *x264("-bf", "2"), "-muxdelay", "0", with_sound="aac")
    # the pictures begin 1.4 s into the file's clock
    move_clock(plain, path, (1 << 33) - round(1.4 * 90_000) - 6 * 3600)
    plain.unlink()
    return path


def _shifted(material: Material, path: Path, *, sound_s: float, picture_s: float) -> Path:
    """Sound and picture that begin at these times."""
    return ffmpeg(
        path,
        *("-itsoffset", str(picture_s), "-i", material.pictures(), "-itsoffset", str(sound_s), "-i", material.sound),
        *x264("-bf", "2", "-c:a", "aac"),
    )


def _cut(material: Material, path: Path) -> Path:
    """The first five pictures are cut off by an edit list: they are in the file and are not shown."""
    whole = material.part(
        "whole.mp4", lambda part: transcode(material, part, *x264("-bf", "2", "-g", "12"), with_sound="aac")
    )
    return ffmpeg(path, "-ss", "0.2", "-i", whole, "-c", "copy")


TIME = (
    Row("25 a second, mp4", "f.mp4", with_codec(*x264()), "mp4", times=every(25)),
    Row("23.976, mkv", "f.mkv", made(rate=NTSC_FILM), times=every(NTSC_FILM)),
    Row("29.97, mp4", "f.mp4", made(rate=NTSC), "mp4", times=every(NTSC)),
    Row("59.94, mov", "f.mov", made(rate=NTSC_DOUBLE, b_frames=2), "mov", times=every(NTSC_DOUBLE)),
    Row("23.976, ts", "f.ts", made(rate=NTSC_FILM), times=every(NTSC_FILM)),
    Row(
        "29.97, webm to mp4",
        "f.webm",
        made(rate=NTSC, codec="libvpx-vp9"),
        "mp4",
        in_container("mp4"),
        changes=NO_DEFAULT,
    ),
    Row("vfr, mkv", "f.mkv", lambda _, path: retimed(path, VFR_MS, Fraction(1, 1000)), times=ms(*VFR_MS)),
    Row("vfr with B, mp4", "f.mp4", lambda _, path: retimed(path, VFR_MS, Fraction(1, 1000), b_frames=2), "mp4"),
    Row("uneven 90 kHz, mp4", "f.mp4", lambda _, path: retimed(path, PTS_90K, Fraction(1, 90_000)), "mp4"),
    Row("B pyramid, mkv", "f.mkv", made(b_frames=5, options={"x264-params": "b-pyramid=normal"}), times=every(25)),
    Row("open gop hevc, mkv", "f.mkv", made(codec="libx265", b_frames=3, keyframe_interval=6), times=every(25)),
    Row("B without pts, avi", "f.avi", made(b_frames=2), times=every(25)),
    Row(
        "mpeg4 with B, avi",
        "f.avi",
        with_codec("-c:v", "mpeg4", "-q:v", "2", "-bf", "2", sound="libmp3lame"),
        times=every(25),
    ),
    Row("raw h264", "f.h264", made(b_frames=2), times=every(25)),
    Row("raw hevc", "f.hevc", made(codec="libx265", container_format="hevc"), times=every(25)),
    Row("duplicate pts", "f.mkv", _duplicate),
    Row("negative pts, mkv", "f.mkv", _negative),
    Row("first pts 1.5 s", "f.mkv", lambda _, path: retimed(path, ms_pts(1500), Fraction(1, 1000)), times=every(25)),
    Row("first pts 10 h, ts", "f.ts", with_codec(*x264("-output_ts_offset", "36000"), sound="aac"), changes=(ADTS,)),
    Row("clock wraps, ts", "f.ts", _wrapping, times=every(25), changes=(ADTS,)),
    Row("sound late, mp4", "f.mp4", lambda m, path: _shifted(m, path, sound_s=0.123, picture_s=0), "mp4"),
    Row("picture late (empty edit), mp4", "f.mp4", lambda m, path: _shifted(m, path, sound_s=0, picture_s=0.2), "mp4"),
    Row("picture late, mkv", "f.mkv", lambda m, path: _shifted(m, path, sound_s=0, picture_s=0.2)),
    Row("sound late, ts", "f.ts", lambda m, path: _shifted(m, path, sound_s=0.1, picture_s=0), changes=(ADTS,)),
    Row(
        "picture late, mov to mkv",
        "f.mov",
        lambda m, path: _shifted(m, path, sound_s=0, picture_s=0.2),
        "mkv",
        in_container("mkv"),
    ),
    Row("edit list cuts the beginning, mp4", "f.mp4", _cut, "mp4"),
    Row("edit list cuts the beginning, mp4 to mkv", "f.mp4", _cut, "mkv", in_container("mkv")),
    Row("one picture, mp4", "f.mp4", made(frames=1), "mp4", times=every(25, 1)),
    Row("one picture, mkv", "f.mkv", made(frames=1), times=every(25, 1)),
    Row(
        "an hour without a picture, mkv",
        "f.mkv",
        lambda _, path: retimed(path, GAP_MS, Fraction(1, 1000)),
        times=ms(*GAP_MS),
    ),
    Row("an hour without a picture, mp4", "f.mp4", lambda _, path: retimed(path, GAP_MS, Fraction(1, 1000)), "mp4"),
    Row(
        "odd timescale, mov",
        "f.mov",
        with_codec(*x264("-bf", "2", "-video_track_timescale", "12801"), sound="aac"),
        "mov",
    ),
    Row(
        "fragmented mp4",
        "f.mp4",
        with_codec(*x264("-bf", "2", "-g", "4", "-movflags", "frag_keyframe+empty_moov"), sound="aac"),
        "mp4",
    ),
)


def ms_pts(first: int) -> tuple[int, ...]:
    """Twelve times at 25 a second from ``first`` on, milliseconds."""
    return tuple(first + 40 * index for index in range(FRAMES))


# --- codecs and containers --------------------------------------------------------------------------------------------

CODECS = (
    Row("mpeg2, mpg", "f.mpg", with_codec("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", sound="mp2"), times=every(25)),
    Row("mpeg2, ts", "f.ts", with_codec("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", sound="ac3"), times=every(25)),
    Row("mpeg1, mpg", "f.mpg", with_codec("-c:v", "mpeg1video", "-q:v", "2", sound="mp2"), times=every(25)),
    Row("flv", "f.flv", with_codec(*x264("-bf", "2"), sound="aac"), times=every(25)),
    Row("flv1, flv", "f.flv", with_codec("-c:v", "flv", "-q:v", "2", sound="libmp3lame"), times=every(25)),
    Row(
        "vp8 vorbis, webm",
        "f.webm",
        with_codec("-c:v", "libvpx", "-b:v", "2M", "-auto-alt-ref", "1", sound="libvorbis"),
        times=every(25),
    ),
    Row("vp9 opus, webm", "f.webm", with_codec("-c:v", "libvpx-vp9", "-b:v", "2M", sound="libopus"), times=every(25)),
    Row("av1, mp4", "f.mp4", made(codec="libsvtav1", height=64), "mp4", times=every(25)),
    Row("av1, mkv", "f.mkv", made(codec="libsvtav1", height=64), times=every(25)),
    Row(
        "prores pcm, mov",
        "f.mov",
        with_codec("-c:v", "prores_ks", sound="pcm_s24le", pixel_format="yuv422p10le"),
        "mov",
    ),
    Row(
        "mjpeg, avi",
        "f.avi",
        with_codec("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p", sound="pcm_s16le"),
        times=every(25),
    ),
    Row(
        "dnxhr, mov",
        "f.mov",
        with_codec("-s", "256x144", "-c:v", "dnxhd", "-profile:v", "dnxhr_sq", pixel_format="yuv422p"),
        "mov",
    ),
    Row("theora, ogv", "f.ogv", with_codec("-c:v", "libtheora", "-q:v", "10", sound="libvorbis"), times=every(25)),
    Row("ffv1 flac, mkv", "f.mkv", with_codec("-c:v", "ffv1", sound="flac"), sections={"encode": {"kind": "ffv1"}}),
    Row(
        "hevc eac3, mp4",
        "f.mp4",
        with_codec(
            "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1", sound="eac3"
        ),
        "mp4",
    ),
    Row(
        "h264 in ts to mp4",
        "f.ts",
        with_codec(*x264("-bf", "2"), sound="aac"),
        "mp4",
        in_container("mp4"),
        changes=(*NO_DEFAULT, ADTS),
    ),
    Row("mp4 to mkv", "f.mp4", with_codec(*x264("-bf", "2"), sound="aac"), "mkv", in_container("mkv")),
    Row(
        "mkv to mov",
        "f.mkv",
        with_codec(*x264("-bf", "2"), sound="aac"),
        "mov",
        in_container("mov"),
        changes=NO_DEFAULT,
    ),
    Row("wmv asf", "f.wmv", with_codec("-c:v", "wmv2", "-q:v", "2", sound="wmav2"), times=every(25)),
)

# --- colour and samples -----------------------------------------------------------------------------------------------


def _tagged(matrix: int, primaries: int, transfer: int, *, full_range: bool, **more: Any) -> Make:
    return made(matrix=matrix, primaries=primaries, transfer=transfer, full_range=full_range, **more)


LOSSLESS: dict[str, Any] = {"encode": {"kind": "ffv1"}}

COLOUR = (
    Row("bt709 limited", "f.mp4", _tagged(1, 1, 1, full_range=False), "mp4"),
    Row("bt709 full", "f.mkv", _tagged(1, 1, 1, full_range=True)),
    Row("bt601 525", "f.mp4", _tagged(6, 6, 6, full_range=False), "mp4"),
    Row("bt601 625 full", "f.mkv", _tagged(5, 5, 6, full_range=True)),
    Row("bt2020 10 bits", "f.mkv", _tagged(9, 9, 14, full_range=False, codec="libx265", pixel_format="yuv420p10le")),
    Row(
        "hlg",
        "f.mp4",
        _tagged(9, 9, 18, full_range=False, codec="libx265", pixel_format="yuv420p10le"),
        "mp4",
        {"encode": {"kind": "libx265"}},
    ),
    Row("hdr10, mkv", "f.mkv", lambda _, path: media.write_hdr10(path), sections={"encode": {"kind": "libx265"}}),
    Row("hdr10, mp4", "f.mp4", lambda _, path: media.write_hdr10(path), "mp4", {"encode": {"kind": "libx265"}}),
    Row("gbr", "f.mkv", made(codec="ffv1", pixel_format="gbrp10le", matrix=0, full_range=True), sections=LOSSLESS),
    Row("422 10 bits", "f.mkv", made(pixel_format="yuv422p10le"), sections=LOSSLESS),
    Row("444 8 bits", "f.mkv", made(pixel_format="yuv444p"), sections=LOSSLESS),
    Row("444 10 bits", "f.mp4", made(pixel_format="yuv444p10le"), "mp4"),
    Row("422 8 bits", "f.mkv", made(pixel_format="yuv422p"), sections=LOSSLESS),
    Row(
        "grey",
        "f.mkv",
        made(codec="ffv1", pixel_format="gray"),
        sections=LOSSLESS,
        changes=(Change("chroma", "420", "FFV1 is given grey with neutral chroma"), GUESSED_FULL),
    ),
)

# --- geometry ---------------------------------------------------------------------------------------------------------


def _two_pictures(material: Material, path: Path) -> Path:
    """A second film, smaller, behind the first."""
    small = material.pictures(height=24, width=32)
    return ffmpeg(path, "-i", material.pictures(), "-i", small, "-map", "0", "-map", "1", *x264())


def _cropped(crop: boxes.Crop) -> Make:
    """Pictures of which the container shows a part."""

    def make(material: Material, path: Path) -> Path:
        whole = path.with_name(f"whole{path.suffix}")
        if path.suffix == ".mkv":
            transcode(material, whole, *x264("-live", "1"))
            boxes.crop_matroska(whole, path, crop)
        else:
            transcode(material, whole, *x264("-bf", "2"))
            boxes.crop_iso(whole, path, crop, height=HEIGHT_PX, width=WIDTH_PX)
        whole.unlink()
        return path

    return make


def _is_cropped(crop: boxes.Crop) -> tuple[Change, ...]:
    because = "what the container does not show is not upscaled"
    left, right, top, bottom = crop
    return (
        Change("height", 2 * (HEIGHT_PX - top - bottom), because),
        Change("width", 2 * (WIDTH_PX - left - right), because),
    )


def _mirrored(matrix: tuple[float, float, float, float]) -> Make:
    def make(material: Material, path: Path) -> Path:
        upright = path.with_name("upright.mp4")
        transcode(material, upright, *x264())
        boxes.turn_iso(upright, path, matrix)
        upright.unlink()
        return path

    return make


CROPPED = (2, 4, 4, 2)

GEOMETRY = (
    Row("cropped, mkv", "f.mkv", _cropped(CROPPED), changes=_is_cropped(CROPPED)),
    Row("cropped, mp4", "f.mp4", _cropped(CROPPED), "mp4", changes=_is_cropped(CROPPED)),
    *(Row(f"mirrored ({name}), mp4", "f.mp4", _mirrored(matrix), "mp4") for name, matrix in boxes.MIRRORED.items()),
    *(
        Row(f"mirrored ({name}), mp4 to mkv", "f.mp4", _mirrored(matrix), "mkv", in_container("mkv"))
        for name, matrix in boxes.MIRRORED.items()
    ),
    Row("sar 16:11, mkv", "f.mkv", made(sample_aspect=Fraction(16, 11))),
    Row("sar 32:27, mp4", "f.mp4", made(sample_aspect=Fraction(32, 27)), "mp4"),
    Row("rotated by 90, mp4", "f.mp4", made(rotation_deg=90), "mp4"),
    Row("rotated by 180, mov", "f.mov", made(rotation_deg=180), "mov"),
    Row("rotated by 270, mp4 to mkv", "f.mp4", made(rotation_deg=-90), "mkv", in_container("mkv")),
    Row("odd size 4:2:0, mkv", "f.mkv", made(height=47, width=63, codec="ffv1"), sections=LOSSLESS),
    Row("odd size 4:4:4, mp4", "f.mp4", made(height=47, width=63, pixel_format="yuv444p"), "mp4"),
    Row("cover, mp4", "f.mp4", made(cover=True, audio_tracks=1), "mp4"),
    Row("cover, mkv", "f.mkv", made(cover=True, audio_tracks=1)),
    Row("cover, mp4 to mkv", "f.mp4", made(cover=True, audio_tracks=1), "mkv", in_container("mkv")),
    Row("two films, mkv", "f.mkv", _two_pictures),
    Row("two films, mp4", "f.mp4", _two_pictures, "mp4"),
)

ROWS = (*TIME, *CODECS, *COLOUR, *GEOMETRY, *STREAMS)

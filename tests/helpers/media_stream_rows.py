"""The rows of the media table about streams beside the picture: sound, text, bitmaps, chapters, attachments, tags."""

from __future__ import annotations

from pathlib import Path

from helpers import media
from helpers.media_row import ADTS, NO_DEFAULT, Change, Make, Row, converted, in_container, made, with_codec
from helpers.table_material import Material, ffmpeg, transcode, write_sup, x264


def _many_sounds(*codecs: str, tags: tuple[str, ...] = ()) -> Make:
    """The pictures with a sound track for each codec, in languages and with titles of their own."""

    def make(material: Material, path: Path) -> Path:
        languages = ("eng", "fra", "jpn", "deu", "", "spa")
        arguments: list[str | Path] = ["-i", material.pictures(), "-i", material.sound, "-map", "0:v"]
        for number, codec in enumerate(codecs):
            arguments += ["-map", "1:a", f"-c:a:{number}", codec]
            arguments += [f"-metadata:s:a:{number}", f"title=Track {number} – é"]
            if languages[number]:
                arguments += [f"-metadata:s:a:{number}", f"language={languages[number]}"]
        return ffmpeg(path, *arguments, *x264("-strict", "-2"), *tags)

    return make


def _with_texts(*texts: str, codec: str, options: tuple[str, ...] = (), fonts: bool = False) -> Make:
    """The pictures, a sound track, and subtitles (``srt`` or ``ass``) in a codec."""

    def make(material: Material, path: Path) -> Path:
        arguments: list[str | Path] = ["-i", material.pictures(), "-i", material.sound]
        for text in texts:
            arguments += ["-i", getattr(material, text)]
        arguments += ["-map", "0:v", "-map", "1:a"]
        for number, _ in enumerate(texts):
            arguments += ["-map", str(2 + number), f"-metadata:s:s:{number}", f"language={('eng', 'fra')[number]}"]
        if fonts:
            arguments += ["-attach", material.font, "-metadata:s:t:0", "mimetype=application/x-truetype-font"]
        return ffmpeg(path, *arguments, *x264("-c:a", "aac", "-c:s", codec), *options)

    return make


def _pgs(material: Material, path: Path) -> Path:
    texts = material.part("box.sup", write_sup)
    return ffmpeg(path, "-i", material.pictures(), "-i", texts, "-map", "0", "-map", "1", *x264("-c:s", "copy"))


def _bitmaps(codec: str) -> Make:
    """Bitmap subtitles that ffmpeg makes from those of PGS."""

    def make(material: Material, path: Path) -> Path:
        texts = material.part("box.sup", write_sup)
        return ffmpeg(path, "-i", material.pictures(), "-i", texts, "-map", "0", "-map", "1", *x264("-c:s", codec))

    return make


def _with_chapters(*options: str, also: tuple[str, ...] = ()) -> Make:
    def make(material: Material, path: Path) -> Path:
        inputs = ("-i", material.pictures(), "-i", material.sound, "-i", material.chapters)
        mapping = ("-map", "0:v", "-map", "1:a", "-map_metadata", "2", "-map_chapters", "2")
        return ffmpeg(path, *inputs, *mapping, *x264("-c:a", "aac", "-bf", "2"), *options, *also)

    return make


def _timecode(material: Material, path: Path) -> Path:
    return transcode(material, path, *x264("-timecode", "01:02:03:04"), with_sound="aac")


def _fonts(material: Material, path: Path) -> Path:
    """Two attachments, one of them no font."""
    return ffmpeg(
        path,
        *("-i", material.pictures(), "-attach", material.font, "-metadata:s:t:0", "mimetype=font/ttf"),
        *("-attach", material.srt, "-metadata:s:t:1", "mimetype=text/plain", "-metadata:s:t:1", "title=Notes"),
        *x264(),
    )


FLAGS = (
    *("-disposition:v:0", "default+original", "-disposition:a:0", "0", "-disposition:a:1", "default+comment"),
    *("-metadata:s:v:0", "language=jpn", "-metadata:s:v:0", "title=The picture"),
    *("-metadata:s:a:1", "comment=by the director"),
)

STREAMS = (
    Row("six sounds, mkv", "f.mkv", _many_sounds("aac", "ac3", "libopus", "flac", "libmp3lame", "pcm_s16le")),
    Row("three sounds, mp4", "f.mp4", _many_sounds("aac", "ac3", "alac"), "mp4"),
    Row("opus and flac, mp4", "f.mp4", _many_sounds("libopus", "flac", "libmp3lame"), "mp4"),
    Row("sounds, mov", "f.mov", _many_sounds("aac", "pcm_s16le", "alac"), "mov"),
    Row("dispositions, mkv", "f.mkv", _many_sounds("aac", "ac3", tags=FLAGS)),
    Row("dispositions, mp4", "f.mp4", _many_sounds("aac", "ac3", tags=FLAGS), "mp4"),
    Row(
        "dispositions, mkv to mp4",
        "f.mkv",
        _many_sounds("aac", "ac3", tags=FLAGS),
        "mp4",
        in_container("mp4"),
        changes=(
            Change("picture dispositions", ("default",), "mp4 knows no such mark as original"),
            Change("audio 1 tags", {}, "mp4 keeps a title for a track and no other tags"),
        ),
    ),
    Row("sounds, ts", "f.ts", _many_sounds("aac", "ac3", "libmp3lame"), changes=(ADTS,)),
    Row(
        "sound of a disc, m2ts",
        "f.m2ts",
        with_codec(*x264("-bf", "2"), sound="pcm_bluray"),
        changes=(
            Change("audio * codec", "pcm_s24le", "Matroska does not hold the form of discs; the samples are the same"),
            Change("audio * packets", None, "the form is another"),
            Change("audio * times", None, "the new form is cut into other packets"),
        ),
    ),
    Row("srt, mkv", "f.mkv", _with_texts("srt", codec="srt")),
    Row(
        "two srt, one forced",
        "f.mkv",
        _with_texts(
            "srt",
            "srt",
            codec="srt",
            options=("-disposition:s:0", "forced", "-disposition:s:1", "default+hearing_impaired"),
        ),
    ),
    Row("ass with fonts, mkv", "f.mkv", _with_texts("ass", codec="ass", fonts=True)),
    Row("mov_text, mp4", "f.mp4", _with_texts("srt", codec="mov_text"), "mp4"),
    Row(
        "mov_text, mp4 to mkv",
        "f.mp4",
        _with_texts("srt", codec="mov_text"),
        "mkv",
        in_container("mkv"),
        changes=converted("subrip"),
    ),
    Row("webvtt, mkv", "f.mkv", _with_texts("srt", codec="webvtt")),
    Row(
        "ass, mkv to mp4",
        "f.mkv",
        _with_texts("ass", codec="ass"),
        "mp4",
        in_container("mp4"),
        changes=(*converted("mov_text"), *NO_DEFAULT),
    ),
    Row(
        "srt, mkv to mov",
        "f.mkv",
        _with_texts("srt", codec="srt"),
        "mov",
        in_container("mov"),
        changes=(*converted("mov_text"), *NO_DEFAULT),
    ),
    Row("pgs, mkv", "f.mkv", _pgs),
    Row("dvd subtitle, mkv", "f.mkv", _bitmaps("dvdsub")),
    Row("dvb subtitle, ts", "f.ts", _bitmaps("dvbsub")),
    Row("chapters and tags, mkv", "f.mkv", _with_chapters()),
    Row("chapters and tags, mp4", "f.mp4", _with_chapters(), "mp4"),
    Row("chapters and tags, mp4 to mkv", "f.mp4", _with_chapters(), "mkv", in_container("mkv")),
    Row("chapters and tags, mkv to mp4", "f.mkv", _with_chapters(), "mp4", in_container("mp4"), changes=NO_DEFAULT),
    Row("timecode track, mov", "f.mov", _timecode, "mov"),
    Row("attachments, mkv", "f.mkv", _fonts),
    Row("everything, mkv", "f.mkv", lambda _, path: media.write_rich_mkv(path)),
)

REFUSED = (
    Row("pgs in mp4", "f.mkv", _pgs, "hdmv_pgs_subtitle", in_container("mp4")),
    Row("dvd subtitle in mp4", "f.mkv", _bitmaps("dvdsub"), "dvd_subtitle", in_container("mp4")),
    Row("fonts in mp4", "f.mkv", _fonts, "attachment", in_container("mp4")),
    Row("cover in mov", "f.mkv", made(cover=True), "cover art", in_container("mov")),
)
"""What the container named cannot hold; ``becomes`` is a word of the refusal."""

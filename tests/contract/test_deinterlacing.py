"""Frames made of fields: ffmpeg's own, at the film's own times, wherever decoding begins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import field_films
from helpers.film_runs import Listener, film_plan, upscale
from numpy.typing import NDArray

from pipeline.config.models import DecodeSection
from pipeline.decode import open_decoder
from pipeline.decode.base import Decoder
from pipeline.decode.deinterlace_plan import FieldPlan, plan_fields
from pipeline.decode.deinterlacing import index_fields
from pipeline.decode.field_scan import scan_fields
from pipeline.decode.frame_index import FrameIndex, build_frame_index
from pipeline.decode.libav import LibavDecoder
from pipeline.errors import UnsupportedMedia
from pipeline.frames import Frame
from pipeline.probe import probe_media

EDGE_LINES = 6
"""Lines at the upper and lower edge in which releases of libavfilter differ, and so do the ffmpeg program and PyAV.
Between 11.14 and that of ffmpeg 9.0: line 1 in frames of more than 8 bits, and up to line 5 in the film's first and
last, which are made of one field."""


def decide(film: Path, **settings: Any) -> FieldPlan:
    info = probe_media(film)
    return plan_fields(DecodeSection(**settings), info, findings=scan_fields(info))


def open_fields(plan: FieldPlan, index: FrameIndex | None = None) -> Decoder:
    assert plan.deinterlacing is not None
    return open_decoder("libav", plan.info, deinterlacing=plan.deinterlacing, index=index, threads=1)


def indexed(plan: FieldPlan) -> FrameIndex:
    assert plan.deinterlacing is not None
    return index_fields(build_frame_index(plan.deinterlacing.source), deinterlacing=plan.deinterlacing)


def samples(frame: Frame) -> NDArray[np.uint8]:
    return np.concatenate([np.ascontiguousarray(plane).view(np.uint8).ravel() for plane in frame.planes])


def has_same_samples(frames: Sequence[Frame], others: Sequence[Frame]) -> bool:
    return len(frames) == len(others) and all(
        np.array_equal(samples(one), samples(other)) for one, other in zip(frames, others, strict=True)
    )


def without_edges(frame_bytes: NDArray[np.uint8], plan: FieldPlan) -> list[NDArray[np.uint8]]:
    """Planes without the lines at their edges."""
    video = plan.info.video
    planes, offset = [], 0
    for rows, columns in video.format.plane_shapes(height=video.height, width=video.width):
        row_bytes = columns * np.dtype(video.format.dtype).itemsize
        end = offset + rows * row_bytes
        planes.append(frame_bytes[offset:end].reshape(rows, row_bytes)[EDGE_LINES:-EDGE_LINES])
        offset = end
    return planes


KINDS: dict[str, dict[str, Any]] = {
    "h264-top": {},
    "h264-bottom": {"order": "bottom", "codec": field_films.H264_BOTTOM},
    "mpeg2-ts": {"codec": field_films.MPEG2_FIELDS},
    "mpeg2-mpg-bottom": {"order": "bottom", "codec": field_films.MPEG2_FIELDS},
    "dv-sd": {"codec": ("-c:v", "dvvideo"), "size": "720x576", "order": "bottom", "frames": 16},
    "hd": {"size": "1920x1080", "frames": 12},
    "odd-height": {"size": "160x117", "codec": ("-c:v", "ffv1", "-field_order", "tt")},
    "422-10": {"pixel_format": "yuv422p10le", "codec": ("-c:v", "ffv1", "-field_order", "tt")},
    "packed-422": {"pixel_format": "yuyv422", "codec": ("-c:v", "rawvideo", "-field_order", "tt")},
    "unflagged": {"codec": field_films.H264},
}
SUFFIXES = {"mpeg2-ts": "ts", "mpeg2-mpg-bottom": "mpg", "dv-sd": "avi", "packed-422": "nut"}


@pytest.mark.parametrize("rate", ["frame", "field"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_ffmpeg(tmp_path, kind, rate):
    film = field_films.write_interlaced(tmp_path / f"film.{SUFFIXES.get(kind, 'mkv')}", **KINDS[kind])
    plan = decide(film, deinterlace="bwdif", deinterlace_rate=rate)
    assert plan.deinterlacing is not None
    video = plan.info.video
    expected = field_films.bwdif_of(
        film,
        rate=rate,
        parity={None: "auto", "top": "tff", "bottom": "bff"}[plan.deinterlacing.order],
        pixel_format="yuv422p" if kind == "packed-422" else video.pixel_format,
        frame_bytes=video.format.frame_bytes(height=video.height, width=video.width),
    )
    with open_fields(plan) as decoder:
        frames = list(decoder.frames())
        assert decoder.damage is None
    assert len(frames) == len(expected) > 0
    last = len(frames) - 1
    for frame, other in zip(frames, expected, strict=True):
        if frame.stamp.index in (0, last) or video.format.bit_depth > 8:
            for ours, theirs in zip(without_edges(samples(frame), plan), without_edges(other, plan), strict=True):
                assert np.array_equal(ours, theirs), f"frame {frame.stamp.index}"
        else:
            assert np.array_equal(samples(frame), other), f"frame {frame.stamp.index}"


def test_by_frame_every_frame_keeps_its_stamp(tmp_path):
    film = field_films.write_interlaced(tmp_path / "film.ts", codec=field_films.MPEG2_FIELDS)
    plan = decide(film, deinterlace="auto")
    assert plan.deinterlacing is not None
    with open_fields(plan) as decoder, LibavDecoder(plan.deinterlacing.source) as source:
        assert [frame.stamp for frame in decoder.frames()] == [frame.stamp for frame in source.frames()]


def test_by_field_the_second_is_in_the_middle_to_the_next_frame(tmp_path):
    film = field_films.write_interlaced(tmp_path / "film.ts", codec=field_films.MPEG2_FIELDS, rate="60000/1001")
    plan = decide(film, deinterlace="auto", deinterlace_rate="field")
    video = plan.info.video
    with open_fields(plan) as decoder:
        stamps = [frame.stamp for frame in decoder.frames()]
    assert [stamp.index for stamp in stamps] == list(range(len(stamps)))
    steps = {(after.pts - before.pts) * video.time_base for before, after in itertools.pairwise(stamps)}
    assert steps == {Fraction(1001, 60000)}
    assert {stamp.duration * video.time_base for stamp in stamps} == {Fraction(1001, 60000)}
    assert video.average_rate == Fraction(60000, 1001)


@pytest.mark.parametrize("rate", ["frame", "field"])
@pytest.mark.parametrize("with_index", [True, False])
def test_any_part_is_that_of_the_whole(tmp_path, rate, with_index):
    film = field_films.write_interlaced(tmp_path / "film.ts", codec=field_films.MPEG2_FIELDS, frames=80)
    plan = decide(film, deinterlace="auto", deinterlace_rate=rate)
    index = indexed(plan) if with_index else None
    assert index is None or len(index.entries) > 2
    with open_fields(plan) as whole, open_fields(plan, index) as parts:
        frames = list(whole.frames())
        for start, stop in [(0, 1), (0, 3), (1, 2), (9, 12), (10, 11), (23, 31), (len(frames) - 1, None), (30, 30)]:
            part = list(parts.frames(start, stop))
            assert [frame.stamp for frame in part] == [frame.stamp for frame in frames[start:stop]]
            assert has_same_samples(part, frames[start:stop])
        assert list(parts.frames(len(frames))) == []


@pytest.mark.parametrize("rate", ["frame", "field"])
def test_the_index_has_the_times_of_the_frames_made(tmp_path, rate):
    film = field_films.write_interlaced(tmp_path / "film.mkv")
    plan = decide(film, deinterlace="auto", deinterlace_rate=rate)
    index = indexed(plan)
    with open_fields(plan) as decoder:
        assert [frame.stamp.pts for frame in decoder.frames()] == index.pts.tolist()
    assert index.frame_count == len(index.pts)


def mixed_film(folder: Path) -> Path:
    plain = field_films.write_film(folder / "a.ts", codec=field_films.MPEG2, rate="25", frames=20)
    fields = field_films.write_interlaced(folder / "b.ts", codec=field_films.MPEG2_FIELDS, frames=40)
    return field_films.join_films(folder / "film.ts", plain, fields, plain)


@pytest.mark.parametrize("rate", ["frame", "field"])
def test_where_flags_change_only_flagged_frames_are_deinterlaced(tmp_path, rate):
    plan = decide(mixed_film(tmp_path), deinterlace="auto", deinterlace_rate=rate)
    assert plan.deinterlacing is not None
    assert plan.deinterlacing.frames == "flagged"
    each = plan.deinterlacing.per_frame
    with (
        open_fields(plan) as decoder,
        LibavDecoder(plan.deinterlacing.source) as source,
        open_fields(plan, indexed(plan)) as parts,
    ):
        frames, coded = list(decoder.frames()), list(source.frames())
        assert len(frames) == each * len(coded)
        for frame in frames:
            original = coded[frame.stamp.index // each]
            is_kept = np.array_equal(samples(frame), samples(original))
            assert is_kept != original.owner.interlaced_frame
        for start in (18, 20, 21, 39, 40, 41):  # around the seams
            assert has_same_samples(list(parts.frames(start, start + 3)), frames[start : start + 3])


def test_flags_that_are_wrong_leave_frames_as_they_are(tmp_path):
    film = field_films.write_interlaced(tmp_path / "film.mkv")
    plan = decide(film, field_order="progressive")
    assert plan.deinterlacing is not None
    with open_fields(plan) as decoder, LibavDecoder(plan.deinterlacing.source, takes_fields=True) as source:
        assert has_same_samples(list(decoder.frames()), list(source.frames()))
        assert decoder.notes == ()  # which would keep the film from being done in several lanes


def test_one_frame_alone_is_made_of_itself(tmp_path):
    film = field_films.write_interlaced(tmp_path / "film.mkv", frames=2)
    plan = decide(film, deinterlace="bwdif", deinterlace_rate="field")
    index = indexed(plan)
    with open_fields(plan) as decoder:
        pts = [frame.stamp.pts for frame in decoder.frames()]
    assert len(pts) == 2
    assert (pts[1] - pts[0]) * plan.info.video.time_base == Fraction(1, 50)
    assert index.pts.tolist() == pts


def test_damage_is_told_and_does_not_end_the_film(tmp_path):
    film = field_films.write_interlaced(tmp_path / "film.ts", codec=field_films.MPEG2_FIELDS)
    content = film.read_bytes()
    film.write_bytes(content[: len(content) * 2 // 3 // 188 * 188 + 60])
    plan = decide(film, deinterlace="auto")
    with open_fields(plan) as decoder:
        assert len(list(decoder.frames())) > 10


def test_pictures_too_small_for_bwdif_are_refused_by_name(tmp_path):
    film = field_films.write_film(tmp_path / "film.mkv", codec=("-c:v", "ffv1"), size="16x2", frames=3)
    plan = decide(film, deinterlace="bwdif")
    with open_fields(plan) as decoder, pytest.raises(UnsupportedMedia, match="cannot be deinterlaced"):
        list(decoder.frames())


def test_a_closed_decoder_gives_nothing(tmp_path):
    plan = decide(field_films.write_interlaced(tmp_path / "film.mkv"), deinterlace="auto")
    decoder = open_fields(plan)
    running = decoder.frames()
    next(running)
    decoder.close()
    decoder.close()
    assert list(running) == []
    with pytest.raises(ValueError, match="closed"):
        decoder.frames()
    with open_fields(plan) as another, pytest.raises(ValueError, match="negative"):
        another.frames(-1)


@pytest.mark.parametrize("rate", ["frame", "field"])
def test_one_lane_and_several_make_the_same_film(tmp_path, rate):
    film = field_films.write_interlaced(tmp_path / "film.ts", codec=field_films.MPEG2_FIELDS, size="64x48", frames=80)
    decode = {"deinterlace": "auto", "deinterlace_rate": rate}
    made = {}
    for lanes in (1, 3):
        plan = film_plan(tmp_path, film, lanes=lanes, decode=decode)
        result, parts = upscale(plan, Listener().terms(tmp_path / f"work{lanes}"))
        assert result.notes == ()
        made[lanes] = parts
    assert made[1] == made[3]
    assert len(made[1]) > 3


@pytest.mark.parametrize("rate", ["frame", "field"])
def test_a_run_goes_on_where_another_ended(tmp_path, rate):
    film = field_films.write_interlaced(tmp_path / "film.ts", codec=field_films.MPEG2_FIELDS, size="64x48", frames=80)
    plan = film_plan(tmp_path, film, decode={"deinterlace": "auto", "deinterlace_rate": rate})
    first, parts = upscale(plan, Listener().terms(tmp_path / "work"))
    kept = tuple(segment for segment in first.segments if segment.index % 2 == 0)
    again = Listener()
    second, others = upscale(plan, again.terms(tmp_path / "work"), done=kept)
    assert others == parts
    assert again.discarded == []
    assert [segment.pts for segment in second.segments] == [segment.pts for segment in first.segments]


def test_a_whole_job_writes_every_field_as_a_frame(tmp_path):
    """From the config to the verified result, with the sound of the film where it was."""
    from pipeline.cli import main

    film = tmp_path / "film.mkv"
    pictures = field_films.write_interlaced(tmp_path / "pictures.ts", codec=field_films.MPEG2_FIELDS, size="64x48")
    field_films.run_ffmpeg(
        *("-i", str(pictures), "-f", "lavfi", "-i", "sine=duration=1.2", "-c:v", "copy", "-c:a", "aac", str(film))
    )
    config = tmp_path / "run.yaml"
    config.write_text(
        "version: 1\n"
        "input: {paths: [film.mkv]}\n"
        "decode: {deinterlace: auto, deinterlace_rate: field}\n"
        "infer: {model: nearest-x2, backend: resize}\n"
        "encode: {kind: libx264, preset: ultrafast}\n"
        "output: {dir: out, segment_s: 0.4, comparison_s: 1.0}\n"
    )
    assert main(["run", str(config)]) == 0
    with av.open(film) as source, av.open(tmp_path / "out/film.mkv") as result:
        before = [float(frame.time) for frame in source.decode(video=0)]
        made = list(result.decode(video=0))
        after = [float(frame.time) for frame in made]
        assert not any(frame.interlaced_frame for frame in made)
        assert [stream.type for stream in result.streams] == ["video", "audio"]
    assert after[::2] == pytest.approx(before, abs=0.0011)  # Matroska counts milliseconds
    assert np.diff(after) == pytest.approx(1 / 50, abs=0.0021)
    assert list((tmp_path / "out").glob("*comparison.png"))

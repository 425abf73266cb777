"""What a container does not show is not upscaled, what it turns is turned alike, and a film of two sizes is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import boxes, media

from pipeline.decode import open_decoder
from pipeline.decode.deinterlace_plan import Deinterlacing
from pipeline.decode.display_area import fit_crop
from pipeline.decode.nvdec_choice import check_film
from pipeline.errors import UnsupportedMedia
from pipeline.media import Crop
from pipeline.probe import probe_media
from pipeline.show.picture import read_before_and_after
from pipeline.tags import layout_of

HEIGHT, WIDTH = 48, 64
CROP = (4, 8, 2, 6)


def whole_film(folder: Path, pixel_format: str = "yuv420p", *, codec: str = "ffv1") -> Path:
    path = folder / "whole.mkv"
    media.run_ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=s={WIDTH}x{HEIGHT}:r=25:d=0.2,format={pixel_format}"),
        *("-c:v", codec, "-live", "1", str(path)),
    )
    return path


def planes_of(path: Path, **options: Any) -> list[list[Any]]:
    info = probe_media(path)
    with open_decoder("libav", info, **options) as decoder:
        return [[np.array(plane) for plane in frame.planes] for frame in decoder.frames()]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "gbrp", "gray", "gray16le"])
def test_a_cropped_film_is_the_part_that_is_shown_sample_by_sample(tmp_path: Path, pixel_format: str) -> None:
    whole = whole_film(tmp_path, pixel_format)
    cropped = boxes.crop_matroska(whole, tmp_path / "cropped.mkv", CROP)
    video = probe_media(cropped).video
    assert (video.height, video.width) == (40, 52)
    assert (video.decoded_height, video.decoded_width) == (HEIGHT, WIDTH)
    left, right, top, bottom = CROP
    for ours, theirs in zip(planes_of(cropped), planes_of(whole), strict=True):
        for plane, full in zip(ours, theirs, strict=True):
            # neutral chroma of grey is as large as that of 4:2:0
            across, down = WIDTH // full.shape[1], HEIGHT // full.shape[0]
            part = full[top // down : (HEIGHT - bottom) // down, left // across : (WIDTH - right) // across]
            assert np.array_equal(plane, part)


def test_an_mp4_and_an_mkv_that_are_cropped_alike_have_the_same_samples(tmp_path: Path) -> None:
    whole = media.write_counter_video(tmp_path / "whole.mp4", frames=3, height=HEIGHT, width=WIDTH)
    cropped = boxes.crop_iso(whole, tmp_path / "cropped.mp4", CROP, height=HEIGHT, width=WIDTH)
    for ours, theirs in zip(planes_of(cropped), planes_of(whole), strict=True):
        assert np.array_equal(ours[0], theirs[0][2:42, 4:56])
        assert np.array_equal(ours[1], theirs[1][1:21, 2:28])


def test_chroma_never_moves_against_luma_so_an_odd_edge_keeps_one_more_line(tmp_path: Path) -> None:
    whole = whole_film(tmp_path)
    cropped = boxes.crop_matroska(whole, tmp_path / "cropped.mkv", (3, 5, 5, 1))
    info = probe_media(cropped)
    assert info.video.crop == Crop(left=2, right=5, top=4, bottom=1)
    assert any("3 columns at the left and 5 rows at the top" in guess for guess in info.guesses)
    ours, theirs = planes_of(cropped)[0], planes_of(whole)[0]
    assert np.array_equal(ours[0], theirs[0][4:47, 2:59])
    assert np.array_equal(ours[1], theirs[1][2:24, 1:30])


def test_cropping_that_leaves_nothing_is_ignored_and_said() -> None:
    layout = layout_of("yuv420p")
    assert layout is not None
    crop, guesses = fit_crop(Crop(left=40, right=24), layout, height=HEIGHT, width=WIDTH)
    assert crop == Crop()
    assert any("to nothing" in guess for guess in guesses)


def test_a_deinterlaced_film_is_cropped_after_its_fields_were_joined(tmp_path: Path) -> None:
    whole = whole_film(tmp_path)
    cropped = boxes.crop_matroska(whole, tmp_path / "cropped.mkv", CROP)
    found = []
    for path in (whole, cropped):
        info = probe_media(path)
        terms = Deinterlacing(source=info, frames="all", per_frame=1, order="top")
        with open_decoder("libav", info, deinterlacing=terms) as decoder:
            found.append([np.array(frame.planes[0]) for frame in decoder.frames()])
    for full, part in zip(*found, strict=True):
        assert np.array_equal(part, full[2:42, 4:56])


def test_nvdec_is_not_asked_for_a_film_that_its_container_crops(tmp_path: Path) -> None:
    whole = media.write_counter_video(tmp_path / "whole.mp4", frames=3, height=HEIGHT, width=WIDTH)
    cropped = boxes.crop_iso(whole, tmp_path / "cropped.mp4", CROP, height=HEIGHT, width=WIDTH)
    with pytest.raises(UnsupportedMedia, match="container crops"):
        check_film(probe_media(cropped))


def test_before_and_after_show_the_same_part_of_a_cropped_film(tmp_path: Path) -> None:
    whole = whole_film(tmp_path, "gbrp")
    cropped = boxes.crop_matroska(whole, tmp_path / "cropped.mkv", CROP)
    shown = tmp_path / "shown.mkv"
    media.run_ffmpeg("-i", str(cropped), "-c:v", "ffv1", str(shown))  # ffmpeg crops by itself
    before, after = read_before_and_after(cropped, shown, frame_index=1, crop=probe_media(cropped).video.crop)
    assert before.shape == (40, 52, 3)
    assert np.array_equal(before, after)


@pytest.mark.parametrize(("name", "rotation_deg"), [("hflip", 0), ("vflip", -180), ("transpose", -90)])
def test_a_mirrored_film_is_a_turn_and_then_left_for_right(tmp_path: Path, name: str, rotation_deg: int) -> None:
    upright = media.write_counter_video(tmp_path / "upright.mp4", frames=2, height=HEIGHT, width=WIDTH)
    turned = boxes.turn_iso(upright, tmp_path / "turned.mp4", boxes.MIRRORED[name])
    video = probe_media(turned).video
    assert (video.rotation_deg, video.is_mirrored) == (rotation_deg, True)


def test_a_matrix_that_stretches_is_said_to_be_kept_as_a_rotation_only(tmp_path: Path) -> None:
    upright = media.write_counter_video(tmp_path / "upright.mp4", frames=2, height=HEIGHT, width=WIDTH)
    stretched = boxes.turn_iso(upright, tmp_path / "stretched.mp4", (0, 2, -1, 0))
    info = probe_media(stretched)
    assert info.video.rotation_deg == -90
    assert any("stretches" in guess for guess in info.guesses)
    assert not any("stretches" in guess for guess in probe_media(upright).guesses)


CODECS = {
    "libx264": ("ts", ("-preset", "ultrafast")),
    "libx265": ("ts", ("-preset", "ultrafast", "-x265-params", "log-level=none:bframes=0")),
    "mpeg2video": ("ts", ()),
    "libvpx": ("mkv", ("-deadline", "realtime")),
    "libvpx-vp9": ("mkv", ("-deadline", "realtime")),
    "libsvtav1": ("mkv", ("-preset", "10")),
    "mjpeg": ("mkv", ("-pix_fmt", "yuvj420p")),
}


def film_of_two_sizes(folder: Path, codec: str) -> Path:
    """Ten pictures of 128x96, then ten of 96x64, in one stream."""
    suffix, options = CODECS[codec]
    parts = []
    for number, size in enumerate(("128x96", "96x64")):
        part = folder / f"part{number}.{suffix}"
        media.run_ffmpeg(
            *("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d=0.4", "-c:v", codec, *options),
            *("-threads", "1", "-output_ts_offset", str(0.4 * number), str(part)),
        )
        parts.append(part)
    path = folder / f"f.{suffix}"
    if suffix == "ts":
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        return path
    with av.open(str(path), "w") as container, av.open(str(parts[0])) as first, av.open(str(parts[1])) as second:
        stream: Any = container.add_stream_from_template(first.streams.video[0], opaque=True)
        for source in (first, second):
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    return path


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("threads", [1, 0])
def test_a_film_that_changes_its_size_is_refused_with_the_time_and_both_sizes(
    tmp_path: Path, codec: str, threads: int
) -> None:
    info = probe_media(film_of_two_sizes(tmp_path, codec))
    assert (info.video.height, info.video.width) == (96, 128)
    with open_decoder("libav", info, threads=threads) as decoder:
        frames = decoder.frames()
        with pytest.raises(UnsupportedMedia, match=r"changes from 128x96 to 96x64 at ") as caught:
            for frame in frames:
                assert frame.stamp.index < 10
    clock = re.search(r"at ([\d.]+) s", str(caught.value))
    assert clock is not None
    assert float(clock[1]) == pytest.approx(0.4, abs=0.041)  # to within a frame: of MPEG-2 the one before is named


def test_a_film_that_changes_its_size_between_key_frames_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "f.mkv"
    media.run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=192x128:r=25:d=0.4", "-c:v", "libsvtav1", "-preset", "10"),
        *("-svtav1-params", "resize-mode=1:resize-denom=12", str(path)),  # references are scaled
    )
    with (
        open_decoder("libav", probe_media(path)) as decoder,
        pytest.raises(UnsupportedMedia, match=r"changes from \d+x\d+ to \d+x\d+ at 0\.\d+ s"),
    ):
        list(decoder.frames())

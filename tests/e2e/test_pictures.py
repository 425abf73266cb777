"""Pictures through the whole program: single ones and sequences, with what belongs to them.

The engine repeats pixels, so every second pixel of a result is its source's. Sources and results are read by Pillow and
ffmpeg.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import picture_files
from helpers.picture_files import HEIGHT, TURNS, UNTURNS, WIDTH
from helpers.runs import leftovers, run_films
from numpy.typing import NDArray
from PIL import Image, ImageOps

NAMED: dict[str, Any] = {"output": {"name": "{stem}_x{factor}"}}


def read_deep(path: Path) -> tuple[NDArray[Any], str]:
    """Pixels as libav has them, (H, W, C), and its name of their format."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    plane = frame.planes[0]
    is_deep = frame.format.components[0].bits > 8
    rows = np.frombuffer(plane, dtype=">u2" if is_deep else "u1").reshape(plane.height, -1)
    channels = len(frame.format.components)
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels), frame.format.name


def write_sources(folder: Path) -> dict[str, tuple[str, NDArray[Any]]]:
    """One picture of each kind; by name: the format of its result, and what its result shows."""
    rgb, alpha = picture_files.colours(), picture_files.coverage()
    grey = rgb[..., 0]
    rgba = np.dstack([rgb, alpha])
    wanted: dict[str, tuple[str, NDArray[Any]]] = {}

    def add(name: str, becomes: str, pixels: NDArray[Any], stored: NDArray[Any] | None = None, **options: Any) -> None:
        picture_files.write(folder / name, pixels if stored is None else stored, **options)
        wanted[name] = (becomes, pixels)

    for suffix in ("png", "tif", "bmp"):
        add(f"rgb-{suffix}.{suffix}", "rgb24", rgb)
    add("rgb-webp.webp", "rgb24", rgb, lossless=True)
    add("grey.png", "gray", grey[..., None], grey)
    add("grey-tif.tif", "gray", grey[..., None], grey)
    add("alpha.png", "rgba", rgba)
    add("alpha-tif.tif", "rgba", rgba)
    add("alpha-webp.webp", "rgba", rgba, lossless=True, exact=True)
    add("opaque.png", "rgb24", rgb, np.dstack([rgb, np.full_like(alpha, 255)]))
    add("grey-alpha.png", "ya8", np.dstack([grey, alpha]))
    for orientation in range(1, 9):
        stored = np.ascontiguousarray(UNTURNS[orientation](rgb))
        add(f"turned-{orientation}.png", "rgb24", rgb, stored, exif=picture_files.exif(orientation))
    add(
        "turned-alpha.tif",
        "rgba",
        rgba,
        np.ascontiguousarray(UNTURNS[6](rgba)),
        exif=picture_files.exif(6),
    )
    quantised = Image.fromarray(rgb).quantize(16)
    quantised.save(folder / "palette.png")
    wanted["palette.png"] = ("rgb24", np.asarray(quantised.convert("RGB")))
    quantised.save(folder / "palette-alpha.png", transparency=3)
    wanted["palette-alpha.png"] = ("rgba", np.asarray(Image.open(folder / "palette-alpha.png").convert("RGBA")))
    is_white = grey > 127
    Image.fromarray(is_white).save(folder / "bilevel.png")
    wanted["bilevel.png"] = ("gray", (is_white * 255).astype(np.uint8)[..., None])
    for name, pixel_format, becomes in (
        ("deep.png", "rgb48be", "rgb48be"),
        ("deep-tif.tif", "rgb48le", "rgb48be"),
        ("deep-grey.png", "gray16be", "gray16be"),
        ("deep-grey-tif.tif", "gray16le", "gray16be"),
        ("deep-alpha.png", "rgba64be", "rgba64be"),
        ("deep-grey-alpha.png", "ya16be", "ya16be"),
    ):
        wanted[name] = (becomes, picture_files.write_deep(folder / name, pixel_format))
    return wanted


def test_pictures_of_all_kinds_keep_depth_alpha_greyness_and_which_way_up_they_are(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    wanted = write_sources(folder)
    ran = run_films(capfd, tmp_path, folder, input={"images": "single"}, **NAMED)
    assert ran.code == 0, ran.err
    assert len(ran.outputs) == len(wanted)
    wrong = []
    for name, (becomes, pixels) in wanted.items():
        found, pixel_format = read_deep(tmp_path / "out" / f"{Path(name).stem}_x2.png")
        seen = pixels[..., -1:] > 0 if pixels.shape[2] in (2, 4) else np.ones_like(pixels[..., :1], dtype=bool)
        if pixel_format != becomes or found.shape[:2] != (2 * pixels.shape[0], 2 * pixels.shape[1]):
            wrong.append(f"{name}: {pixel_format} {found.shape}, not {becomes} of twice {pixels.shape}")
        elif not np.array_equal(found[::2, ::2] * seen, pixels * seen):
            wrong.append(f"{name}: other pixels")
        elif pixels.shape[2] in (2, 4) and not np.array_equal(found[::2, ::2, -1], pixels[..., -1]):
            wrong.append(f"{name}: another alpha")
    assert wrong == []


@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_jpeg_is_turned_without_moving_its_colours(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, subsampling: int
) -> None:
    y, x = np.mgrid[0:48, 0:64]
    smooth = np.dstack([x * 4, y * 5, 255 - x * 2 - y * 2]).astype(np.uint8)
    for orientation in TURNS:
        stored = np.ascontiguousarray(UNTURNS[orientation](smooth))
        picture_files.write(
            *(tmp_path / "in" / f"{orientation}.jpg", stored),
            exif=picture_files.exif(orientation, make="A camera"),
            quality=98,
            subsampling=subsampling,
        )
    ran = run_films(capfd, tmp_path, tmp_path / "in")
    assert ran.code == 0, ran.err
    for orientation in TURNS:
        found = np.asarray(Image.open(tmp_path / "out" / f"{orientation}.png")).astype(int)
        assert found.shape == (96, 128, 3)
        assert np.abs(found[::2, ::2] - smooth).max() <= 6, orientation
        assert abs((found[::2, ::2] - smooth).mean()) < 0.5, orientation


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_a_colour_profile_goes_along(capfd: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    profile = picture_files.profile()
    source = picture_files.write(tmp_path / f"p.{suffix}", picture_files.colours(), icc_profile=profile)
    ran = run_films(capfd, tmp_path, source)
    assert ran.code == 0, ran.err
    with Image.open(tmp_path / "out" / "p.png") as result:
        assert result.info["icc_profile"] == profile
        result.load()


def test_nothing_bleeds_from_what_is_transparent(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A red disc whose transparent surroundings hold green: shrunk with resampling, no green comes in at its rim."""
    y, x = np.mgrid[0:40, 0:40]
    inside = np.hypot(y - 20, x - 20) < 12
    pixels = np.where(inside[..., None], (200, 30, 30, 255), (0, 255, 0, 0)).astype(np.uint8)
    source = picture_files.write(tmp_path / "disc.png", pixels)
    ran = run_films(capfd, tmp_path, source, scale={"factor": 1.5})
    assert ran.code == 0, ran.err
    found = np.asarray(Image.open(tmp_path / "out" / "disc.png")).astype(int)
    assert found.shape == (60, 60, 4)
    seen = found[found[..., 3] > 0]
    assert len(seen) > 900
    assert np.abs(seen[:, :3] - (200, 30, 30)).max() <= 1


def test_a_picture_becomes_a_picture_whatever_is_said_of_films(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = picture_files.write(tmp_path / "p.bmp", picture_files.colours())
    encode = {"kind": "libx265", "quality": 20, "preset": "slow", "bit_depth": 10, "options": {"tune": "grain"}}
    ran = run_films(capfd, tmp_path, source, encode=encode, output={"container": "mkv"})
    assert ran.code == 0, ran.err
    assert ran.outputs == [tmp_path / "out" / "p.png"]


def write_animation(path: Path) -> Path:
    """Three pictures, a tenth of a second each."""
    first, *others = [Image.fromarray(picture_files.colours(phase=phase)) for phase in range(3)]
    first.save(path, save_all=True, append_images=others, duration=100)
    return path


def test_animations_are_films(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    films = [write_animation(tmp_path / "a.gif"), write_animation(tmp_path / "b.png").rename(tmp_path / "b.apng")]
    ran = run_films(capfd, tmp_path, *films)
    assert ran.code == 0, ran.err
    for name in ("a.mkv", "b.mkv"):
        with av.open(str(tmp_path / "out" / name)) as film:
            assert [float(frame.time) for frame in film.decode(video=0)] == pytest.approx([0, 0.1, 0.2], abs=0.001)


@pytest.mark.parametrize("is_single", [True, False])
def test_a_picture_that_does_not_show_its_source_fails(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_single: bool
) -> None:
    """Colours and alpha are compared, of one picture and of a sequence; here half of each is lost."""
    from engines.backends.resize import ResizeRunner

    infer = ResizeRunner.infer

    def lose_half(self: ResizeRunner, tiles: Any, *, out: Any, stream: Any = None) -> Any:
        done = infer(self, tiles, out=out, stream=stream)
        out[..., : out.shape[-1] // 2] = 0
        return done

    pixels = np.dstack([picture_files.colours(), picture_files.coverage()])
    sources = [picture_files.write(tmp_path / f"p_{number}.png", pixels) for number in range(1 if is_single else 3)]
    source = sources[0] if is_single else tmp_path / "p_%d.png"
    terms: dict[str, Any] = {} if is_single else {"encode": {"kind": "png"}}
    good = run_films(capfd, tmp_path, source, **terms)
    assert good.code == 0, good.err
    assert good.report()["verification"]["pictures"]["frames_compared"] == (2 if is_single else 5)
    monkeypatch.setattr(ResizeRunner, "infer", lose_half)
    ran = run_films(capfd, tmp_path, source, **terms, output={"overwrite": True, "dir": "bad"})
    assert ran.code == 1
    assert "does not show its film: frame 0" in ran.err and ".failed-verification" in ran.err


def test_pictures_that_cannot_be_read_fail_by_name_and_leave_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    good = picture_files.write(folder / "good.png", picture_files.colours())
    (folder / "cut.png").write_bytes(good.read_bytes()[:60])
    (folder / "text.jpg").write_text("not a picture")
    Image.fromarray(picture_files.colours()).convert("CMYK").save(folder / "ink.jpg")
    write_animation(folder / "moving.webp")
    ran = run_films(capfd, tmp_path, folder)
    assert ran.code == 1
    assert ran.outputs == [tmp_path / "out" / "good.png"]
    for name in ("cut.png", "text.jpg", "ink.jpg", "moving.webp is an animated WebP"):
        assert any(name in line for line in ran.err.splitlines()), name
    assert [path for path in leftovers(tmp_path / "out") if "good" not in str(path)] == []


def test_a_sequence_becomes_pictures_under_its_own_names_and_is_not_made_twice(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "shot"
    for number in range(95, 107):
        pixels = np.dstack([picture_files.colours(phase=number), picture_files.coverage()])
        picture_files.write(folder / f"frame_{number}.png", pixels, icc_profile=picture_files.profile())
    terms: dict[str, Any] = {"encode": {"kind": "png"}, "output": {"segment_s": 0.2}}
    ran = run_films(capfd, tmp_path, folder, **terms)
    assert ran.code == 0, ran.err
    out = tmp_path / "out" / "shot"
    assert sorted(path.name for path in out.iterdir()) == sorted(f"frame_{number}.png" for number in range(95, 107))
    for number in range(95, 107):
        with Image.open(out / f"frame_{number}.png") as picture:
            found = np.asarray(picture)
            assert picture.info["icc_profile"] == picture_files.profile()
        assert np.array_equal(found[::2, ::2, 3], picture_files.coverage())
        seen = picture_files.coverage() > 0
        assert np.array_equal(found[::2, ::2, :3][seen], picture_files.colours(phase=number)[seen])
    again = run_films(capfd, tmp_path, folder, **terms)
    assert again.code == 0
    assert "skipped" in again.err
    # what it made is no input of the next run
    assert "no film" in run_films(capfd, tmp_path, tmp_path / "out", **terms).err


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_sequence_becomes_a_film_at_its_rate(capfd: pytest.CaptureFixture[str], tmp_path: Path, lanes: int) -> None:
    picture_files.write_counters(tmp_path / "shot", count=12, height=48, width=64)
    ran = run_films(
        *(capfd, tmp_path, tmp_path / "shot" / "frame_%04d.png"),
        input={"image_rate": "24000/1001"},
        encode={"kind": "libx264", "preset": "ultrafast", "chroma": "420", "threads": 1},
        output={"segment_s": 0.1},
        run={"lanes": lanes},
    )
    assert ran.code == 0, ran.err
    (result,) = ran.outputs
    assert result == tmp_path / "out" / "frame.mkv"
    from helpers.media import read_counter

    with av.open(str(result)) as container:
        frames = list(container.decode(video=0))
    assert [read_counter(frame.to_ndarray(format="gray")) for frame in frames] == list(range(12))
    assert [round(float(frame.pts * frame.time_base) * 1000) for frame in frames] == [
        round(index * 1001 / 24) for index in range(12)
    ]
    media_words = ran.report()["input"]["media"]["pictures"]
    assert (media_words["count"], Path(media_words["last"]).name) == (12, "frame_0012.png")


def test_a_sequence_of_which_one_picture_has_another_size_ends_with_its_name(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    paths = picture_files.write_counters(tmp_path / "shot", count=12, height=48, width=64)
    picture_files.write(paths[7], picture_files.colours())
    ran = run_films(capfd, tmp_path, tmp_path / "shot" / "frame_%04d.png", encode={"kind": "png"})
    assert ran.code == 1
    assert any("frame_0008.png is 28x20" in line for line in ran.errors), ran.err


def test_pictures_of_several_kinds_in_a_sequence_become_those_of_the_first(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rgb = picture_files.colours()
    picture_files.write(tmp_path / "s" / "a1.png", rgb)
    picture_files.write(tmp_path / "s" / "a2.png", rgb[..., 0])
    Image.fromarray(rgb).quantize(256).save(tmp_path / "s" / "a3.png")
    ran = run_films(capfd, tmp_path, tmp_path / "s", input={"images": "sequence"}, encode={"kind": "png"})
    assert ran.code == 0, ran.err
    grey = np.asarray(Image.open(tmp_path / "out" / "s" / "a2.png"))
    assert np.array_equal(grey[::2, ::2], np.dstack([rgb[..., 0]] * 3))
    assert rgb.shape[:2] == (HEIGHT, WIDTH)


def test_exif_in_the_frames_of_a_film_does_no_harm(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "camera.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuvj420p"
        for index in range(3):
            coded = io.BytesIO()
            Image.fromarray(picture_files.colours()).save(coded, "JPEG", exif=picture_files.exif(1, make="A camera"))
            packet = av.Packet(coded.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 40 * index, 40 * index, True
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
    assert run_films(capfd, tmp_path, path).code == 0


def test_pillow_sees_a_turned_result_as_it_sees_its_source(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = picture_files.write(tmp_path / "p.png", picture_files.colours(), exif=picture_files.exif(5))
    assert run_films(capfd, tmp_path, source).code == 0
    with Image.open(source) as before, Image.open(tmp_path / "out" / "p.png") as after:
        upright = np.asarray(ImageOps.exif_transpose(before))
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(after))[::2, ::2], upright)

"""A result that does not show its film is found out, with the frame and what is wrong; one that does is let through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import media, spoilt_films
from helpers.field_films import write_interlaced
from helpers.runs import run_films
from helpers.spoilt_films import FRAMES, Planes, Spoil, at, each

from pipeline.cli import main
from pipeline.errors import VerificationFailed
from pipeline.probe import probe_media
from pipeline.verify.check import CheckTerms, check_pictures, require_pictures
from pipeline.verify.film import PictureCheck

KEPT = "film.failed-verification"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Planes]]:
    """A film, and the pictures of what must be made of it."""
    folder = tmp_path_factory.mktemp("pair")
    source = spoilt_films.write_source(folder / "film.mkv")
    enlarged = [[plane.repeat(2, 0).repeat(2, 1) for plane in planes] for planes in spoilt_films.read_pictures(source)]
    assert len(enlarged) == FRAMES
    return source, enlarged


def check_of(source: Path, result: Path, *, is_full: bool = True, model: str = "nearest-x2") -> PictureCheck:
    return check_pictures(
        result, CheckTerms(source=probe_media(source), model=model, frame_count=FRAMES, is_full=is_full)
    )


@pytest.mark.parametrize(
    ("model", "is_full"), [("nearest-x2", True), ("realesr-animevideov3", True), ("somebody's own", False)]
)
def test_a_good_result_passes(pair: tuple[Path, list[Planes]], tmp_path: Path, model: str, is_full: bool) -> None:
    source, pictures = pair
    good = spoilt_films.write_pictures(tmp_path / "good.mkv", pictures)
    check = check_of(source, good, is_full=is_full, model=model)
    assert check.findings == ()
    assert check.compared == (FRAMES if is_full else 6)
    assert require_pictures(check, path=good, is_damaged=False)["luma_psnr_db_min"] > 30


SPOILT: dict[str, tuple[Spoil, int, str]] = {
    "two swapped": (spoilt_films.swapped, 7, "it shows the frame after it"),
    "one dropped": (spoilt_films.dropped, 9, "it shows the frame after it"),
    "one repeated": (spoilt_films.repeated, 5, "it shows the frame before it"),
    "too short": (spoilt_films.cut_short, 21, "the result ends before it"),
    "a pixel to the right": (each(lambda p: spoilt_films.moved(p, luma_px=1, chroma_px=0)), 0, r"shifted by \+1"),
    "a tile black": (at(3, spoilt_films.without_tile), 3, r"the part at \(\d+, \d+\) of 160x96 is another"),
    "tiles exchanged": (at(4, spoilt_films.with_tile_elsewhere), 4, "is another"),
    "black": (at(10, spoilt_films.black), 10, "luma differs from the source: PSNR"),
    "not a number": (at(11, spoilt_films.zeroed), 11, "luma differs from the source: PSNR"),
    "tinted": (each(spoilt_films.tinted), 0, "its colours are shifted: their mean chroma is off by"),
    "Cb for Cr": (each(spoilt_films.exchanged), 0, "as if Cb and Cr exchanged"),
    "grey": (each(spoilt_films.grey), 0, "as if without colour"),
    "read as BT.601": (spoilt_films.read_as(spoilt_films.BT601), 0, "as if read as bt601 instead of bt709"),
    "read as BT.2020": (spoilt_films.read_as(spoilt_films.BT2020), 0, "as if read as bt2020nc instead of bt709"),
    "limited for full": (spoilt_films.taken_for_full, 0, "as if limited range taken for full"),
    "full for limited": (spoilt_films.taken_for_limited, 0, "as if full range taken for limited"),
}


@pytest.mark.parametrize(("spoil", "frame", "words"), SPOILT.values(), ids=SPOILT)
def test_each_corruption_is_found_and_named(
    pair: tuple[Path, list[Planes]], tmp_path: Path, spoil: Spoil, frame: int, words: str
) -> None:
    """Also of a network that nobody measured, for which the floors are lower than for any that was."""
    source, pictures = pair
    bad = spoilt_films.write_pictures(tmp_path / "bad.mkv", spoil(pictures))
    check = check_of(source, bad, model="somebody's own")
    with pytest.raises(VerificationFailed, match=rf"does not show its film: frame {frame} \(\d\.\d+ s\): .*{words}"):
        require_pictures(check, path=bad, is_damaged=False)


def test_strong_colours_show_displaced_chroma_and_a_close_matrix(tmp_path: Path) -> None:
    """Two pixels of the result to the right of its luma; BT.2020 is as close to BT.709 as matrices come."""
    source = tmp_path / "film.mkv"
    media.run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25,format=yuv420p", "-frames:v", "4"),
        *("-c:v", "ffv1", "-colorspace", "bt709", str(source)),
    )
    pictures = [[p.repeat(2, 0).repeat(2, 1) for p in planes] for planes in spoilt_films.read_pictures(source)]
    moved = [spoilt_films.moved(planes, chroma_px=1) for planes in pictures]
    info = probe_media(source)
    terms = CheckTerms(source=info, model="nearest-x2", frame_count=4, is_full=True)
    good = spoilt_films.write_pictures(tmp_path / "good.mkv", pictures)
    assert check_pictures(good, terms).findings == ()
    matrix = spoilt_films.write_pictures(tmp_path / "matrix.mkv", spoilt_films.read_as(spoilt_films.BT2020)(pictures))
    assert "as if read as bt2020nc instead of bt709" in str(check_pictures(matrix, terms).findings[0])
    bad = spoilt_films.write_pictures(tmp_path / "bad.mkv", moved)
    assert "its chroma is shifted by +" in str(check_pictures(bad, terms).findings[0])


def beyond_what_is_shown(*, in_range: bool) -> list[Planes]:
    """Three films side by side: codes darker than black, brighter than white, and colour on black; or what a screen
    shows of that, as networks do."""
    luma = np.full((96, 192), 16, np.uint8)
    luma[:, :64] = np.linspace(16 if in_range else 0, 120, 96, dtype=np.uint8)[:, None]
    luma[:, 64:128] = np.linspace(120, 235 if in_range else 255, 96, dtype=np.uint8)[:, None]
    chroma = np.full((48, 96), 128, np.uint8)
    chroma[:, 64:] = 128 - (16 if in_range else 42)
    return [(luma, chroma, chroma)] * 3


def test_codes_that_no_screen_shows_may_be_brought_into_range(tmp_path: Path) -> None:
    source = spoilt_films.write_pictures(tmp_path / "film.mkv", beyond_what_is_shown(in_range=False))
    pictures = [[p.repeat(2, 0).repeat(2, 1) for p in planes] for planes in beyond_what_is_shown(in_range=True)]
    terms = CheckTerms(source=probe_media(source), model="realesr-animevideov3", frame_count=3, is_full=True)
    good = spoilt_films.write_pictures(tmp_path / "good.mkv", pictures)
    assert check_pictures(good, terms).findings == ()
    bad = spoilt_films.write_pictures(tmp_path / "bad.mkv", [(luma // 2 + 60, cb, cr) for luma, cb, cr in pictures])
    assert len(check_pictures(bad, terms).findings) == 3


def test_of_a_damaged_film_a_few_frames_may_differ(pair: tuple[Path, list[Planes]], tmp_path: Path) -> None:
    """Every decoder conceals in its own way; if most frames differ, that is not the reason."""
    source, pictures = pair
    few = check_of(source, spoilt_films.write_pictures(tmp_path / "few.mkv", spoilt_films.swapped(pictures)))
    found = require_pictures(few, path=source, is_damaged=True)
    assert [text[:8] for text in found["differences"]] == ["frame 7 ", "frame 8 "]
    most = check_of(source, spoilt_films.write_pictures(tmp_path / "most.mkv", spoilt_films.dropped(pictures)))
    with pytest.raises(VerificationFailed, match="frame 9"):
        require_pictures(most, path=source, is_damaged=True)


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sample", "full", "off"])
def test_a_job_compares_what_the_config_says(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, list[Planes]], mode: str
) -> None:
    ran = run_films(capfd, tmp_path, pair[0], output={"segment_s": 0.32, "verify": mode})
    assert ran.code == 0, ran.err
    pictures = ran.report()["verification"].get("pictures")
    assert (pictures is None) == (mode == "off")
    assert pictures is None or (pictures["frames_compared"] == FRAMES) == (mode == "full")


@pytest.fixture
def _black_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What enlarges gives black pictures."""
    from engines.backends.resize import ResizeRunner

    infer = ResizeRunner.infer

    def give_black(self: ResizeRunner, tiles: Any, *, out: Any, stream: Any = None) -> Any:
        done = infer(self, tiles, out=out, stream=stream)
        out[...] = 0
        return done

    monkeypatch.setattr(ResizeRunner, "infer", give_black)


@pytest.mark.usefixtures("_black_pictures")
@pytest.mark.parametrize(
    ("kind", "kept"), [("libx264", "film.failed-verification.mkv"), ("png", "film.failed-verification")]
)
def test_a_failed_result_is_kept_under_another_name_and_not_tried_again(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, list[Planes]], kind: str, kept: str
) -> None:
    ran = run_films(capfd, tmp_path, pair[0], encode={"kind": kind}, run={"max_attempts": 3})
    assert ran.code == 1
    assert ran.outputs == []
    assert "does not show its film: frame 0 (0.000 s): " in ran.err and f"it is kept as {kept}" in ran.err
    assert ran.err.count("does not show its film") == 1
    assert (tmp_path / "out" / kept).exists()
    assert not (tmp_path / "out" / ("film.mkv" if kind == "libx264" else "film")).exists()
    assert ran.report()["status"] == "failed"
    (summary,) = (tmp_path / "out").rglob("summary.json")
    assert "does not show its film" in summary.read_text()


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_the_verb_says_ok_or_what_is_wrong(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, list[Planes]]
) -> None:
    source, _ = pair
    (result,) = run_films(capfd, tmp_path, source).outputs
    config = str(tmp_path / "config.yaml")
    for options in ([], ["--full"], ["--config", config]):
        assert main(["verify", str(source), str(result), *options]) == 0
        assert capfd.readouterr().out.startswith(f"ok: {result}: {FRAMES} frames, 2 streams")
    changed = {
        "silent": (["-map", "0:v"], "streams of audio with codec aac and language deu: 0, not 1"),
        "nameless": (["-map", "0", "-metadata:s:a:0", "language=fra"], "language deu: 0, not 1"),
        "late": (["-itsoffset", "0.02", "-i", str(result), "-map", "0:v", "-map", "1:a"], "sound track 0: start after"),
        "turned": (["-map", "0"], "rotation: "),
        "untitled": (["-map", "0", "-metadata:s:a:0", "title=Mono"], "title of sound track 0: 'Mono', not 'Stereo'"),
        "unmarked": (["-map", "0", "-disposition:a:0", "forced"], "disposition of sound track 0: forced, not none"),
        "untagged": (
            ["-map", "0", "-bsf:v", "h264_metadata=colour_primaries=5"],
            "primaries of the pictures: 5, not 2",
        ),
    }
    for name, (options, words) in changed.items():
        bad = tmp_path / f"{name}.mkv"
        turn = ["-display_rotation:v:0", "90"] if name == "turned" else []
        media.run_ffmpeg(*turn, "-i", str(result), *options, "-c", "copy", str(bad))
        assert main(["verify", str(source), str(bad)]) == 1, name
        assert words in capfd.readouterr().out, name


def test_the_verb_finds_a_cut_and_a_damaged_result(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, list[Planes]]
) -> None:
    source, _ = pair
    (result,) = run_films(capfd, tmp_path, source).outputs
    cut = media.truncate_copy(result, tmp_path / "cut.mkv", fraction=0.6)
    assert main(["verify", str(source), str(cut), "--json"]) == 1
    said = json.loads(capfd.readouterr().out)
    assert not said["ok"] and any("frames: " in failure for failure in said["failures"])
    spoilt = media.corrupt_copy(result, tmp_path / "spoilt.mkv", start=0.5, stop=0.52)
    assert main(["verify", str(source), str(spoilt)]) == 1
    assert "failed: " in capfd.readouterr().out


def test_a_time_that_is_one_tick_off_is_found(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = media.write_counter_video(tmp_path / "film.mp4", frames=8)
    (result,) = run_films(capfd, tmp_path, source).outputs
    bad = tmp_path / "bad.mp4"
    media.run_ffmpeg("-i", str(result), "-c", "copy", "-bsf:v", "setts=pts=PTS+eq(N\\,5):dts=DTS", str(bad))
    assert main(["verify", str(source), str(result)]) == 0
    capfd.readouterr()
    assert main(["verify", str(source), str(bad)]) == 1
    assert "time after the first" in capfd.readouterr().out


def test_fields_need_the_config_and_are_verified_with_it(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "film.mkv", frames=24)
    decode = {"deinterlace": "auto", "deinterlace_rate": "field"}
    ran = run_films(capfd, tmp_path, source, decode=decode)
    assert ran.code == 0, ran.err
    assert main(["verify", str(source), str(ran.outputs[0])]) == 1
    assert "--config" in capfd.readouterr().err
    assert main(["verify", str(source), str(ran.outputs[0]), "--config", str(tmp_path / "config.yaml")]) == 0

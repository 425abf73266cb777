"""What networks do to flat pictures and fades is no fault; mistakes are found where pictures can tell."""

import numpy as np
import pytest

from pipeline.frames import SampleFormat
from pipeline.verify.floors import MEASURED, UNKNOWN, floors_for
from pipeline.verify.judge import Judge
from pipeline.verify.measure import mistakes
from pipeline.verify.picture import Grid, Picture
from pipeline.verify.sample import sample_frames

GRID = Grid(height=96, width=128, format=SampleFormat(matrix="bt709", subsampling="444"))
DETAIL = np.random.default_rng(5).random((3, 6, 8)).repeat(16, 1).repeat(16, 2).astype(np.float32)
"""Blocks of many colours, [0, 1]."""


def picture(planes: np.ndarray) -> Picture:
    planes = planes.astype(np.float32)
    return Picture(luma=planes[0], chroma=planes[1:])


def scene(brightness: float) -> np.ndarray:
    """(3, 96, 128) of Y', Cb, Cr, as far as a fade has let it."""
    planes = DETAIL * brightness
    planes[1:] = (DETAIL[1:] - 0.5) * 0.4 * brightness
    return planes


def flat(level: float) -> np.ndarray:
    planes = np.zeros((3, 96, 128), dtype=np.float32)
    planes[0] = level
    return planes


def faults(source, result, *, before=None, after=None, model="somebody's own"):
    judge = Judge(floors=floors_for(model), grid=GRID, scale=2)
    neighbours = {"before": before, "after": after}
    verdict = judge.judge(
        picture(source),
        picture(result),
        **{name: None if planes is None else picture(planes) for name, planes in neighbours.items()},
    )
    return verdict.faults


@pytest.mark.parametrize("make", [flat, scene])
@pytest.mark.parametrize("bias", [-0.04, -0.01, 0.01, 0.04])
@pytest.mark.parametrize("step", [-0.03, 0.03])
def test_a_fade_through_a_network_that_changes_brightness_passes(make, bias, step):
    """Frames of a fade differ in brightness alone, and networks give dark and flat pictures another one."""
    for level in np.linspace(0.1, 0.9, 17):
        result = make(level)
        result[0] += bias
        result[2] += bias / 4
        assert faults(make(level), result, before=make(level - step), after=make(level + step)) == (), level


def test_an_exchanged_frame_of_a_scene_is_found_all_the_same():
    moved = np.roll(scene(0.8), 16, axis=2)
    result = moved.copy()
    result[0] -= 0.04
    assert any("it shows the frame after it" in fault for fault in faults(scene(0.8), result, after=moved))


@pytest.mark.parametrize("mistake", mistakes("bt709"), ids=lambda mistake: mistake.words)
@pytest.mark.parametrize("bias", [0.0, 0.02])
def test_every_mistake_in_colours_is_found_in_a_picture_of_many(mistake, bias):
    source = scene(0.8)
    result = np.tensordot(mistake.turn, source, axes=1) + mistake.offset[:, None, None]
    result[0] += bias
    assert any("its colours are shifted" in fault for fault in faults(source, result))


def test_unknown_networks_are_given_more_room_than_any_that_was_measured():
    for floors in MEASURED.values():
        assert UNKNOWN.luma_db <= floors.luma_db
        assert UNKNOWN.chroma_db <= floors.chroma_db
        assert UNKNOWN.block >= floors.block
        assert UNKNOWN.slip_source_px >= floors.slip_source_px
        assert UNKNOWN.chroma_slip_source_px >= floors.chroma_slip_source_px
        assert UNKNOWN.cast >= floors.cast


@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_a_flat_picture_that_loses_or_gains_contrast_is_no_mistake_in_range(gain):
    """Networks take grain away and sharpen; a mistaken range of a picture with contrast is found all the same."""
    faint, strong = flat(0.4), flat(0.4)
    faint[0] += 0.02 * (DETAIL[0] - 0.5)
    strong[0] += 0.8 * (DETAIL[0] - 0.5)
    for source, is_found in ((faint, False), (strong, True)):
        result = source.copy()
        result[0] = (source[0] - 0.4) * gain + 0.4
        assert any("range" in fault for fault in faults(source, result)) == is_found


def test_a_shift_by_a_pixel_shows_in_a_faint_picture_but_other_differences_there_do_not():
    y, x = np.mgrid[:96, :129]
    field = 0.5 + 0.02 * (np.sin(2 * np.pi * x / 16) + np.sin(2 * np.pi * y / 16))
    source, moved, noisy = flat(0), flat(0), flat(0)
    source[0], moved[0] = field[:, 1:], field[:, :-1]
    noisy[0] = source[0] + np.random.default_rng(8).normal(0, 0.01, (96, 128))
    assert any("it is shifted by +" in fault for fault in faults(source, moved))
    assert faults(source, noisy) == ()


def test_what_networks_make_of_noise_is_let_through_and_the_same_difference_elsewhere_is_not():
    noise = np.random.default_rng(2).random((3, 96, 128))
    noise[1:] = (noise[1:] - 0.5) * 0.5
    smeared = (noise + np.roll(noise, 3, axis=2)) / 2 + 0.1
    assert faults(noise, smeared) == ()
    assert faults(flat(0.5), flat(0.5) + smeared - noise) != ()


@pytest.mark.parametrize(("frame_count", "compared"), [(1, 1), (24, 6), (132, 8), (3000, 20), (172_800, 44)])
def test_a_sample_grows_much_slower_than_its_film(frame_count, compared):
    seams = range(1440, frame_count, 1440)
    chosen = sample_frames(frame_count, seams=seams)
    assert len(chosen) == compared
    assert {0, frame_count - 1} <= set(chosen) <= set(range(frame_count))
    seen = [seam for seam in seams if {seam - 1, seam} <= set(chosen)]
    assert len(seen) == min(len(seams), 12)

"""Which encoder, which sample format, which tags; and settings refused before the first frame."""

import pytest
from helpers.nvenc_double import NvencDouble
from helpers.pictures import make_spec

from pipeline.encode import ENCODERS, check_encoder, choose_encoder, tags_for
from pipeline.encode.table import FormatKey
from pipeline.errors import ConfigError, SetupError
from pipeline.frames import ColourTags, SampleFormat


def yuv(bit_depth=8, subsampling="420", **more):
    return SampleFormat(matrix="bt709", bit_depth=bit_depth, subsampling=subsampling, **more)


RGB = SampleFormat(matrix="rgb", subsampling="444", full_range=True)


@pytest.mark.parametrize(
    ("kind", "source", "result"),
    [
        ("libx264", yuv(8), "8-bit 4:2:0"),
        ("libx264", yuv(10, "422"), "10-bit 4:2:2"),
        ("libx264", yuv(9), "10-bit 4:2:0"),
        ("libx264", yuv(12), "10-bit 4:2:0"),
        ("libx265", yuv(12, "444"), "12-bit 4:4:4"),
        ("libsvtav1", yuv(8, "444"), "8-bit 4:2:0"),
        ("prores_ks", yuv(8), "10-bit 4:2:2"),
        ("ffv1", yuv(14), "16-bit 4:2:0"),
        ("png", yuv(8), "8-bit RGB"),
        ("png", yuv(10), "16-bit RGB"),
        ("libx264", RGB, "8-bit 4:4:4"),
        ("libx265", RGB, "8-bit RGB"),
    ],
)
def test_source_means_the_films_own_or_the_nearest(kind, source, result):
    """Nothing is lost where the encoder can hold it."""
    assert str(FormatKey.of(choose_encoder(kind, codec="h264", source=source).format)) == result


def test_a_change_is_said():
    assert "the film is 8-bit 4:4:4" in choose_encoder("libsvtav1", codec="", source=yuv(8, "444")).reason


@pytest.mark.parametrize("bit_depth, chroma", [(8, "444"), (12, "source"), ("source", "422")])
def test_what_is_asked_by_value_is_done_or_refused(bit_depth, chroma):
    with pytest.raises(ConfigError, match="libsvtav1 cannot do that; it takes 8-bit 4:2:0, 10-bit 4:2:0"):
        choose_encoder("libsvtav1", codec="av1", source=yuv(), bit_depth=bit_depth, chroma=chroma)


@pytest.fixture
def without_nvenc(monkeypatch):
    """The same answer on every machine."""
    NvencDouble(opens=False).install(monkeypatch)


@pytest.mark.parametrize(("codec", "name"), [("h264", "libx264"), ("hevc", "libx265"), ("av1", "libsvtav1")])
@pytest.mark.usefixtures("without_nvenc")
def test_auto_takes_the_first_encoder_of_the_codec(codec, name):
    assert choose_encoder("auto", codec=codec, source=yuv()).spec is ENCODERS[name]


@pytest.mark.parametrize("kind", ["auto", "libx264"])
@pytest.mark.usefixtures("without_nvenc")
def test_an_encoder_that_this_machine_lacks_is_an_error_not_a_replacement(kind):
    with pytest.raises(SetupError, match="libx264") as caught:
        choose_encoder(kind, codec="h264", source=yuv(), is_present=lambda spec: spec.name != "libx264")
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize(("kind", "codec"), [("x264", "h264"), ("auto", "vp9")])
def test_unknown_names_are_refused(kind, codec):
    with pytest.raises(ConfigError, match="must be"):
        choose_encoder(kind, codec=codec, source=yuv())


def test_matrix_and_range_are_always_stated():
    """An SD film without tags is BT.601; enlarged and untagged, players would take it for BT.709."""
    source = SampleFormat(matrix="bt601")
    tags = tags_for(source, source=source, tags=ColourTags())
    assert (tags.matrix, tags.full_range, tags.primaries, tags.transfer) == (6, False, 2, 2)


def test_the_films_own_bt601_code_is_kept():
    source = SampleFormat(matrix="bt601")
    assert tags_for(source, source=source, tags=ColourTags(matrix=5)).matrix == 5


@pytest.mark.parametrize(
    ("encoder", "option", "value", "named"),
    [
        ("libx264", "x264-params", "bogus=1", "bogus"),
        ("libx265", "x265-params", "bogus=1", "bogus"),
        ("libx265", "x265-params", "keyint=abc", "keyint"),
        ("libsvtav1", "svtav1-params", "bogus=1", "bogus"),
        ("libx264", "tune", "nonsense", "nonsense"),
    ],
)
def test_options_that_the_library_would_only_warn_of_are_errors(encoder, option, value, named):
    with pytest.raises(ConfigError, match=named):
        check_encoder(make_spec(encoder, options={option: value}))


@pytest.mark.parametrize(
    ("encoder", "height", "width", "named"),
    [("libx264", 49, 64, "even sides"), ("libx264", 48, 65, "even sides"), ("libx265", 8, 64, "from 16 px")],
)
def test_a_size_that_the_encoder_cannot_take_is_named(encoder, height, width, named):
    with pytest.raises(ConfigError, match=named):
        check_encoder(make_spec(encoder, height=height, width=width))


@pytest.mark.parametrize("encoder", ["ffv1", "png", "prores_ks", "null"])
def test_some_encoders_take_any_size(encoder):
    check_encoder(make_spec(encoder, height=1, width=1))

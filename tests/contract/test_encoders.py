"""What every encoder of the table promises. A subclass per encoder; a new one is one subclass."""

import errno
import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.nvenc_double import NvencDouble
from helpers.pictures import make_frame, make_frames, make_spec

from pipeline.encode import ENCODERS, EncodeSpec, check_encoder, open_encoder
from pipeline.errors import ConfigError, OutputError
from pipeline.frames import ColourTags, SampleFormat

UNEVEN_PTS = [0, 640, 1300, 1920, 2560, 3300, 3840, 4480, 5120, 6000]


def read_pts(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        unit = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        return sorted(packet.pts * unit for packet in container.demux(stream) if packet.size)


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


class EncoderContract:
    name: str
    bit_depth = 8
    lossless = False
    least_psnr_db = 36.0
    """Of every plane of every test picture, at the default quality and the tests' fast preset."""

    def spec(self, **changes: object) -> EncodeSpec:
        return make_spec(self.name, bit_depth=self.bit_depth, **changes)

    def encode(self, path: Path, spec: EncodeSpec, pts: list[int]):
        encoder = open_encoder(path, spec)
        try:
            for frame in make_frames(pts, spec):
                encoder.write(frame)
            return encoder.finish()
        finally:
            encoder.close()

    def test_reports_what_it_wrote(self, tmp_path):
        """finish() counts frames and bytes and gives the first and last time of the film, not of the file."""
        path = tmp_path / "a.part"
        result = self.encode(path, self.spec(), [time + 7 for time in UNEVEN_PTS])
        assert (result.frame_count, result.first_pts, result.last_pts) == (10, 7, 6007)
        assert result.bytes == (path.stat().st_size if path.exists() else 0)

    def test_refuses_a_frame_of_another_size(self, tmp_path):
        """libav would rescale it silently."""
        encoder = open_encoder(tmp_path / "a.part", self.spec())
        wrong = make_frame(0, pts=0, format=self.spec().format, height=46, width=64)
        with pytest.raises(ValueError, match=r"64x46.*64x48"):
            encoder.write(wrong)
        encoder.close()

    def test_refuses_a_frame_of_another_format(self, tmp_path):
        """libav would convert it silently."""
        spec = self.spec()
        other = SampleFormat(matrix="bt601", subsampling="420", bit_depth=9)
        encoder = open_encoder(tmp_path / "a.part", spec)
        with pytest.raises(ValueError, match="was opened for"):
            encoder.write(make_frame(0, pts=0, format=other))
        encoder.close()

    @pytest.mark.parametrize("second", [5, 4])
    def test_refuses_times_that_do_not_rise(self, tmp_path, second):
        spec = self.spec()
        encoder = open_encoder(tmp_path / "a.part", spec)
        encoder.write(make_frame(0, pts=5, format=spec.format))
        with pytest.raises(ValueError, match=f"pts {second} after 5"):
            encoder.write(make_frame(1, pts=second, format=spec.format))
        encoder.close()

    def test_close_without_finish_leaves_no_file(self, tmp_path):
        spec = self.spec()
        encoder = open_encoder(tmp_path / "a.part", spec)
        for frame in make_frames(UNEVEN_PTS, spec):
            encoder.write(frame)
        encoder.close()
        encoder.close()
        assert list(tmp_path.iterdir()) == []

    def test_its_defaults_are_accepted(self):
        check_encoder(self.spec(preset=None))

    def test_an_unknown_preset_is_named(self):
        with pytest.raises(ConfigError, match=r"encode.preset: .*'warp'"):
            check_encoder(self.spec(preset="warp"))

    def test_an_impossible_quality_is_named(self):
        with pytest.raises(ConfigError, match=r"encode.quality: .*99"):
            check_encoder(self.spec(quality=99.0))

    def test_an_unknown_option_is_named(self):
        with pytest.raises(ConfigError, match=r"encode.options: .*bogus"):
            check_encoder(self.spec(options={"bogus": "1"}))


class LibavContract(EncoderContract):
    @pytest.mark.parametrize(
        "time_base", [Fraction(1, 15360), Fraction(1, 1000), Fraction(1001, 24000), Fraction(1, 90000)], ids=str
    )
    @pytest.mark.parametrize("first", [0, 7, -9, 123_456_789])
    def test_every_time_is_kept_exactly(self, tmp_path, time_base, first):
        """Whatever the unit, also before time 0, with uneven distances and B-frames."""
        path = tmp_path / "a.part"
        pts = [first + time for time in (0, 41, 83, 130, 166, 209, 250, 251, 333)]
        self.encode(path, self.spec(time_base=time_base), pts)
        assert read_pts(path) == [(time - first) * time_base for time in pts]

    def test_the_pictures_come_back(self, tmp_path):
        """In order, at the right place, in every plane and up to the coding loss."""
        spec = self.spec()
        path = tmp_path / "a.part"
        self.encode(path, spec, UNEVEN_PTS)
        pictures = decode(path)
        assert len(pictures) == len(UNEVEN_PTS)
        name = spec.encoder.pixel_format(spec.format).name
        peak = 2**spec.format.bit_depth - 1
        for frame, picture in zip(make_frames(UNEVEN_PTS, spec), pictures, strict=True):
            assert picture.format.name == name
            for ours, theirs in zip(frame.planes, self.planes(picture, spec), strict=True):
                error = np.abs(ours.astype(float) - theirs)
                if self.lossless:
                    assert error.max() == 0
                else:
                    assert 20 * np.log10(peak / np.sqrt((error**2).mean() + 1e-9)) > self.least_psnr_db

    def planes(self, picture: av.VideoFrame, spec: EncodeSpec) -> list[np.ndarray]:
        pixel_format = spec.encoder.pixel_format(spec.format)
        planes = []
        for plane in picture.planes:
            samples = np.frombuffer(plane, dtype=pixel_format.dtype)
            planes.append(samples.reshape(plane.height, -1))
        if pixel_format.is_packed:
            step = pixel_format.packed_samples
            places = [pixel_format.plane_order.index(number) for number in range(3)]
            return [planes[0][:, place : step * spec.width : step].astype(float) for place in places]
        shapes = spec.format.plane_shapes(height=spec.height, width=spec.width)
        ordered = [planes[pixel_format.plane_order.index(number)] for number in range(3)]
        return [plane[:, :columns].astype(float) for plane, (_, columns) in zip(ordered, shapes, strict=True)]

    def test_same_frames_give_the_same_bytes(self, tmp_path):
        """Wherever they lie in the film."""
        self.encode(tmp_path / "a", self.spec(), UNEVEN_PTS)
        self.encode(tmp_path / "b", self.spec(), [time + 90_000 for time in UNEVEN_PTS])
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_colour_and_pixel_shape_are_stated(self, tmp_path):
        spec = self.spec(tags=ColourTags(matrix=9, primaries=9, transfer=16), sample_aspect=Fraction(4, 3))
        path = tmp_path / "a.part"
        self.encode(path, spec, UNEVEN_PTS)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            assert (context.colorspace, context.color_primaries, context.color_trc) == (spec.tags.matrix, 9, 16)
            assert context.color_range == (2 if spec.format.full_range else 1)
            assert Fraction(stream.sample_aspect_ratio or 1) == Fraction(4, 3)

    def test_begins_with_a_keyframe(self, tmp_path):
        path = tmp_path / "a.part"
        self.encode(path, self.spec(), UNEVEN_PTS)
        with av.open(str(path)) as container:
            assert next(iter(container.demux(video=0))).is_keyframe

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_a_few_frames_are_a_segment(self, tmp_path, count):
        path = tmp_path / "a.part"
        result = self.encode(path, self.spec(), [12 + 640 * number for number in range(count)])
        assert (result.frame_count, len(decode(path))) == (count, count)
        assert len(read_pts(path)) == count

    def test_decoding_times_rise_and_never_pass_the_display_times(self, tmp_path):
        path = tmp_path / "a.part"
        self.encode(path, self.spec(), UNEVEN_PTS)
        with av.open(str(path)) as container:
            times = [(packet.dts, packet.pts) for packet in container.demux(video=0) if packet.size]
        assert all(dts <= pts for dts, pts in times)
        assert all(earlier < later for (earlier, _), (later, _) in pairwise(times))

    def test_a_full_disk_is_one_error_and_leaves_no_file(self, tmp_path):
        """Found on the way or at the end; the path is named."""
        path = tmp_path / "a.part"
        path.symlink_to("/dev/full")
        spec = self.spec(height=240, width=320)
        encoder = open_encoder(path, spec)
        with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)) as caught:
            for frame in make_frames(UNEVEN_PTS, spec):
                encoder.write(frame)
            encoder.finish()
        assert caught.value.path == path
        assert "room" in caught.value.hint
        encoder.close()
        assert list(tmp_path.iterdir()) == []

    def test_an_unwritable_folder_is_one_error(self, tmp_path):
        with pytest.raises(OutputError, match="nowhere"):
            open_encoder(tmp_path / "nowhere" / "a.part", self.spec())

    def test_an_option_is_passed_through(self, tmp_path):
        """The keyframe distance is every encoder's option."""
        path = tmp_path / "a.part"
        self.encode(path, self.spec(options={"g": "3"}), UNEVEN_PTS)
        with av.open(str(path)) as container:
            keys = sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
        assert keys >= 4

    def test_every_format_in_the_table_is_taken(self):
        for key in ENCODERS[self.name].pixel_formats:
            rgb = key.colour == "rgb"
            format = SampleFormat(
                matrix="rgb" if rgb else "bt709", subsampling=key.subsampling, bit_depth=key.bit_depth, full_range=rgb
            )
            check_encoder(self.spec(format=format))


class TestX264(LibavContract):
    name = "libx264"


class TestX264TenBit(LibavContract):
    name = "libx264"
    bit_depth = 10


class TestX265(LibavContract):
    name = "libx265"


class TestX265TenBit(LibavContract):
    name = "libx265"
    bit_depth = 10


class TestSvtAv1(LibavContract):
    name = "libsvtav1"
    bit_depth = 10
    least_psnr_db = 33.0


class NvencContract(LibavContract):
    """libav's NVENC with a software encoder behind its door (helpers.nvenc_double): all but the session is run."""

    @pytest.fixture(autouse=True)
    def double(self, monkeypatch):
        NvencDouble().install(monkeypatch)

    def test_the_pictures_come_back(self, tmp_path):
        """In order, at the right place, in every plane and up to the coding loss, as the decoder lays them out."""
        spec = self.spec()
        path = tmp_path / "a.part"
        self.encode(path, spec, UNEVEN_PTS)
        pictures = decode(path)
        assert len(pictures) == len(UNEVEN_PTS)
        peak = 2**spec.format.bit_depth - 1
        name = "yuv420p" if spec.format.bit_depth == 8 else "yuv420p10le"
        for frame, picture in zip(make_frames(UNEVEN_PTS, spec), pictures, strict=True):
            assert picture.format.name == name
            for ours, plane in zip(frame.planes, picture.planes, strict=True):
                theirs = np.frombuffer(plane, dtype=spec.format.dtype).reshape(plane.height, -1)
                error = ours.astype(float) - theirs[:, : ours.shape[1]]
                assert 20 * np.log10(peak / np.sqrt((error**2).mean() + 1e-9)) > self.least_psnr_db


class TestH264Nvenc(NvencContract):
    name = "h264_nvenc"


class TestHevcNvenc(NvencContract):
    name = "hevc_nvenc"


class TestHevcNvencTenBit(NvencContract):
    name = "hevc_nvenc"
    bit_depth = 10


class TestAv1Nvenc(NvencContract):
    name = "av1_nvenc"
    bit_depth = 10
    least_psnr_db = 33.0


class TestFfv1(LibavContract):
    name = "ffv1"
    lossless = True


class TestFfv1SixteenBit(LibavContract):
    name = "ffv1"
    bit_depth = 16
    lossless = True


class TestProRes(LibavContract):
    name = "prores_ks"


class TestPng(LibavContract):
    name = "png"
    lossless = True


class TestPngSixteenBit(LibavContract):
    name = "png"
    bit_depth = 16
    lossless = True


class TestNull(EncoderContract):
    name = "null"


def test_every_encoder_of_the_table_has_a_contract_class():
    classes = [cls for cls in globals().values() if isinstance(cls, type) and issubclass(cls, EncoderContract)]
    assert {cls.name for cls in classes if "name" in vars(cls)} == set(ENCODERS)

"""NVIDIA's encoders: what they are asked for, when they are taken, and frames that come from a GPU's memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.gpu_double import FakeGpu, GpuMisuse
from helpers.nvenc_double import NO_SESSION, NvencDouble
from helpers.pictures import make_frame, make_spec

from pipeline.config import Config
from pipeline.cuda.picture import DevicePlane
from pipeline.decode import probe_synthetic
from pipeline.encode import ENCODERS, EncodeSpec, check_encoder, choose_encoder, describe_losses, open_encoder
from pipeline.encode.choose import EncoderChoice
from pipeline.encode.options import build_options
from pipeline.encoding import plan_encoding
from pipeline.engine import find_network
from pipeline.errors import ConfigError, SetupError
from pipeline.frames import Frame, SampleFormat

NAMES = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
SOFTWARE = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
FILM = SampleFormat(matrix="bt709")


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> NvencDouble:
    double = NvencDouble()
    double.install(monkeypatch)
    return double


# What the encoder is asked for


@pytest.mark.parametrize("name", NAMES)
def test_every_format_of_the_table_is_one_that_libav_hands_to_nvenc(name: str) -> None:
    known = {format.name for format in av.Codec(name, "w").video_formats or ()}
    assert {pixel_format.name for pixel_format in ENCODERS[name].pixel_formats.values()} <= known


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", ["p1", "p2", "p3", "p4", "p5", "p6", "p7"])
@pytest.mark.parametrize("tune", ["hq", "ll", "ull", "lossless"])
def test_every_preset_and_tuning_is_taken(double: NvencDouble, name: str, preset: str, tune: str) -> None:
    check_encoder(make_spec(name, preset=preset, options={"tune": tune}))
    asked = double.opened[-1]["options"]
    assert (asked["preset"], asked["tune"]) == (preset, tune)


@pytest.mark.parametrize(
    "options",
    [
        {"bf": "3", "b_ref_mode": "middle"},
        {"rc-lookahead": "32", "b_adapt": "0"},
        {"spatial-aq": "0", "temporal-aq": "1", "aq-strength": "12"},
        {"multipass": "fullres", "surfaces": "32"},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("name", NAMES)
def test_hardware_options_reach_it(double: NvencDouble, name: str, options: dict[str, str]) -> None:
    check_encoder(make_spec(name, options=options))
    assert options.items() <= double.opened[-1]["options"].items()


@pytest.mark.parametrize("name", NAMES)
def test_quality_is_constant_quality(name: str) -> None:
    options = build_options(make_spec(name, quality=23.5))
    assert (options["rc"], options["cq"]) == ("vbr", "23.5")
    assert build_options(make_spec(name))["cq"] == f"{ENCODERS[name].quality.default:g}"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options", [{"rc": "cbr", "b": "8M"}, {"rc": "vbr", "b": "8M", "maxrate": "12M"}, {"qp": "20"}], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_another_rate_control_replaces_the_default_quality(
    double: NvencDouble, name: str, options: dict[str, str]
) -> None:
    check_encoder(make_spec(name, options=options))
    asked = double.opened[-1]["options"]
    assert "cq" not in asked
    assert options.items() <= asked.items()


def test_a_quality_and_a_bit_rate_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"encode\.quality: hevc_nvenc takes either .* rc=cbr"):
        build_options(make_spec("hevc_nvenc", quality=20.0, options={"rc": "cbr", "b": "8M"}))


def test_a_bad_value_is_named_with_what_was_asked(double: NvencDouble) -> None:
    """The session opens bare, so the settings are to blame."""
    with pytest.raises(ConfigError, match=r"h264_nvenc cannot be opened .*rc-lookahead") as caught:
        check_encoder(make_spec("h264_nvenc", options={"rc-lookahead": "many"}))
    assert "rc-lookahead=many" in caught.value.hint


def test_a_format_that_the_gpu_lacks_is_named(double: NvencDouble) -> None:
    double.refused_formats = {"p210le"}
    spec = make_spec("hevc_nvenc", format=SampleFormat(matrix="bt709", subsampling="422", bit_depth=10))
    with pytest.raises(ConfigError, match=r"10 bit, 4:2:2.*p210le"):
        check_encoder(spec)


def test_more_b_frames_are_decoded_earlier(double: NvencDouble, tmp_path: Path) -> None:
    """No packet is decoded after it is shown, however far B-frames reorder."""
    path = tmp_path / "a.part"
    spec = make_spec("h264_nvenc", options={"bf": "7", "g": "40"})
    writer = open_encoder(path, spec)
    for index in range(20):
        writer.write(make_frame(index, pts=640 * index, format=spec.format))
    writer.finish()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert packets[0].pts - packets[0].dts == 7 * 640
    assert all(packet.dts <= packet.pts for packet in packets)


def test_hdr10_metadata_that_it_drops_is_said_before_the_run() -> None:
    spec = make_spec("hevc_nvenc", bit_depth=10, mastering_display="G(1,2)", content_light="1000,400")
    (warning,) = describe_losses(spec)
    assert "mastering display and content light level" in warning
    assert "encode.kind: libx265" in warning
    assert describe_losses(make_spec("libx265", bit_depth=10, mastering_display="G(1,2)")) == ()
    assert describe_losses(make_spec("hevc_nvenc", bit_depth=10)) == ()


# When it is taken


@pytest.mark.parametrize(("codec", "name"), [("h264", "h264_nvenc"), ("hevc", "hevc_nvenc"), ("av1", "av1_nvenc")])
def test_auto_takes_it_where_a_session_opens(double: NvencDouble, codec: str, name: str) -> None:
    choice = choose_encoder("auto", codec=codec, source=FILM)
    assert choice.spec.name == name
    assert "not " not in choice.reason


@pytest.mark.parametrize("codec", list(SOFTWARE))
def test_auto_takes_software_and_says_why_where_none_opens(double: NvencDouble, codec: str) -> None:
    double.opens = False
    choice = choose_encoder("auto", codec=codec, source=FILM)
    assert choice.spec.name == SOFTWARE[codec]
    assert f"not {codec}_nvenc" in choice.reason
    assert NO_SESSION in choice.reason


@pytest.mark.parametrize("name", NAMES)
def test_named_and_without_a_session_it_is_an_error_that_names_what_can_be_used(double: NvencDouble, name: str) -> None:
    double.opens = False
    with pytest.raises(SetupError, match=f"{name} opens no session here") as caught:
        check_encoder(make_spec(name))
    assert NO_SESSION in str(caught.value)
    assert f"encode.kind: {SOFTWARE[ENCODERS[name].codec]}" in caught.value.hint


@pytest.mark.parametrize(
    ("codec", "source", "taken"),
    [
        ("hevc", SampleFormat(matrix="bt709", bit_depth=12), "libx265"),
        ("hevc", SampleFormat(matrix="bt709", bit_depth=10), "hevc_nvenc"),
        ("hevc", SampleFormat(matrix="rgb", subsampling="444", full_range=True), "hevc_nvenc"),
        ("av1", SampleFormat(matrix="bt709", subsampling="444"), "av1_nvenc"),
    ],
    ids=str,
)
def test_auto_does_not_lose_for_speed_what_software_keeps(
    double: NvencDouble, codec: str, source: SampleFormat, taken: str
) -> None:
    assert choose_encoder("auto", codec=codec, source=source).spec.name == taken


def test_auto_passes_over_a_gpu_that_lacks_the_films_format(double: NvencDouble) -> None:
    double.refused_formats = {"p010le"}
    choice = choose_encoder("auto", codec="h264", source=SampleFormat(matrix="bt709", bit_depth=10))
    assert (choice.spec.name, choice.format.bit_depth) == ("libx264", 10)


def test_auto_tries_with_the_settings_of_the_run(double: NvencDouble) -> None:
    """Words of libx264 in the config, or a picture larger than the GPU takes, are no error where libx264 can do it."""

    def trial(choice: EncoderChoice) -> None:
        check_encoder(make_spec(choice.spec.name, preset="veryfast", format=choice.format))

    choice = choose_encoder("auto", codec="h264", source=FILM, trial=trial)
    assert choice.spec.name == "libx264"
    assert "encode.preset" in choice.reason


def test_auto_without_any_working_encoder_names_them_all(double: NvencDouble) -> None:
    double.opens = False
    with pytest.raises(SetupError, match="lacks libx264; not h264_nvenc"):
        choose_encoder("auto", codec="h264", source=FILM, is_present=lambda spec: spec.name == "h264_nvenc")


# Frames in a GPU's memory


class Film:
    """Frames of a spec in the memory of a fake GPU, as a kernel leaves them there: NV12 or P010, padded rows."""

    def __init__(self, gpu: FakeGpu, spec: Any, *, pad_bytes: int = 64) -> None:
        self.gpu, self.spec, self.pad_bytes = gpu, spec, pad_bytes
        self.stream = gpu.make_stream()
        self.staging: list[Any] = []
        self.buffer: Any = None

    def frame(self, index: int) -> Frame:
        """Into the same buffer every time, as a pool's slot; ready when the stream says so."""
        spec = self.spec
        host = make_frame(index, pts=640 * index, format=spec.format, height=spec.height, width=spec.width)
        shift = 6 if spec.format.bit_depth == 10 else 0
        chroma = np.stack(host.planes[1:], axis=-1).reshape(spec.height // 2, spec.width)
        pitch = spec.width * host.planes[0].itemsize + self.pad_bytes
        block = np.zeros((spec.height * 3 // 2, pitch), np.uint8)
        samples = np.concatenate([host.planes[0], chroma]) << shift
        packed = samples.astype(spec.format.dtype).view(np.uint8)
        block[:, : packed.shape[1]] = packed
        if self.buffer is None:
            self.buffer = self.gpu.allocate(block.nbytes)
        pinned = self.gpu.allocate_pinned(block.nbytes)
        self.staging.append(pinned)
        pinned.array[:] = block.reshape(-1)
        self.stream.upload(pinned.array, self.buffer.pointer)
        planes = (
            DevicePlane(pointer=self.buffer.pointer, pitch_bytes=pitch, height=spec.height, width=spec.width),
            DevicePlane(
                pointer=self.buffer.pointer + spec.height * pitch,
                pitch_bytes=pitch,
                height=spec.height // 2,
                width=spec.width,
            ),
        )
        return Frame(
            stamp=host.stamp,
            format=spec.format,
            height=spec.height,
            width=spec.width,
            planes=planes,
            ready=self.stream.record(),
            msb_aligned=bool(shift),
        )

    def close(self) -> None:
        self.stream.close()
        for part in (self.buffer, *self.staging):
            part.close()


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("pad_bytes", [0, 64])
def test_frames_on_the_gpu_give_the_file_of_frames_on_the_host(
    double: NvencDouble, tmp_path: Path, bit_depth: int, pad_bytes: int
) -> None:
    """Byte for byte, though the caller reuses the planes at once; all device memory is given back."""
    gpu = double.gpu = FakeGpu()
    spec = make_spec("hevc_nvenc", bit_depth=bit_depth)
    film = Film(gpu, spec, pad_bytes=pad_bytes)
    for path, device in ((tmp_path / "host", None), (tmp_path / "gpu", gpu)):
        writer = open_encoder(path, spec, device=device)
        for index in range(12):
            frame = make_frame(index, pts=640 * index, format=spec.format)
            writer.write(film.frame(index) if device else frame)
        writer.finish()
        writer.close()
    assert (tmp_path / "host").read_bytes() == (tmp_path / "gpu").read_bytes()
    assert double.opened[-1]["pix_fmt"] == "cuda"
    film.close()
    gpu.check_clean()


def test_giving_up_gives_the_memory_back(double: NvencDouble, tmp_path: Path) -> None:
    gpu = double.gpu = FakeGpu()
    film = Film(gpu, make_spec("h264_nvenc"))
    writer = open_encoder(tmp_path / "a.part", film.spec, device=gpu)
    for index in range(4):
        writer.write(film.frame(index))
    writer.close()
    writer.close()
    film.close()
    gpu.check_clean()
    assert list(tmp_path.iterdir()) == []


def test_a_frame_that_is_not_waited_for_would_be_a_race(double: NvencDouble, tmp_path: Path) -> None:
    """The proof that the test above sees a missing wait."""
    gpu = double.gpu = FakeGpu()
    film = Film(gpu, make_spec("h264_nvenc"))
    writer = open_encoder(tmp_path / "a.part", film.spec, device=gpu)
    frame = film.frame(0)
    unordered = Frame(
        stamp=frame.stamp, format=frame.format, height=frame.height, width=frame.width, planes=frame.planes
    )
    with pytest.raises(GpuMisuse, match="race"):
        writer.write(unordered)
    writer.close()


def test_frames_of_the_other_memory_are_refused(double: NvencDouble, tmp_path: Path) -> None:
    gpu = double.gpu = FakeGpu()
    film = Film(gpu, make_spec("h264_nvenc"))
    on_host = open_encoder(tmp_path / "a.part", film.spec)
    with pytest.raises(ValueError, match="GPU memory, this encoder was opened for host memory"):
        on_host.write(film.frame(0))
    on_gpu = open_encoder(tmp_path / "b.part", film.spec, device=gpu)
    with pytest.raises(ValueError, match="host memory, this encoder was opened for GPU memory"):
        on_gpu.write(make_frame(0, pts=0, format=film.spec.format))
    on_host.close()
    on_gpu.close()


@pytest.mark.parametrize(
    ("name", "format"), [("libx264", FILM), ("h264_nvenc", SampleFormat(matrix="bt709", subsampling="444"))]
)
def test_what_cannot_come_from_the_gpu_is_refused(
    double: NvencDouble, tmp_path: Path, name: str, format: SampleFormat
) -> None:
    with pytest.raises(ValueError, match="takes no GPU surface"):
        open_encoder(tmp_path / "a.part", make_spec(name, format=format), device=FakeGpu())
    assert list(tmp_path.iterdir()) == []


def test_surfaces_are_used_again(double: NvencDouble) -> None:
    """As many as libav holds at once, whatever the film's length."""
    from pipeline.encode.surfaces import DeviceSurfaces

    gpu = double.gpu = FakeGpu()
    film = Film(gpu, make_spec("h264_nvenc"))
    surfaces = DeviceSurfaces(film.spec, gpu)
    held = [surfaces.make(film.frame(index)) for index in range(3)]
    assert surfaces.surface_count == 3
    del held[0]
    for index in range(3, 40):
        del held[0]
        held.append(surfaces.make(film.frame(index)))
    assert surfaces.surface_count <= 4
    surfaces.close()
    surfaces.close()
    held.clear()
    film.close()
    gpu.check_clean()


# What a run of it is planned with


def plan(
    kind: str = "auto", *, encode: dict[str, Any] | None = None, scale: dict[str, Any] | None = None, **video: Any
) -> tuple[EncodeSpec, str]:
    """The made-up film, 320x180, with other properties."""
    document = {"decode": {"kind": "synthetic"}, "encode": {"kind": kind, "codec": "hevc", **(encode or {})}}
    config = Config.model_validate(document | {"scale": scale or {}})
    info = probe_synthetic(config.decode.synthetic)
    info = replace(info, video=replace(info.video, **video))
    return plan_encoding(config, info, model=find_network(config.infer))


def test_a_plan_takes_it_with_the_settings_of_the_config(double: NvencDouble) -> None:
    spec, reason = plan(encode={"preset": "p7", "quality": 21})
    assert (spec.encoder.name, spec.height, spec.width) == ("hevc_nvenc", 720, 1280)
    assert "hevc_nvenc" in reason
    assert double.opened[-1]["options"]["cq"] == "21"


def test_auto_keeps_a_films_hdr10_metadata(double: NvencDouble) -> None:
    hdr = {"mastering_display": "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,1)"}
    spec, reason = plan(**hdr)
    assert spec.encoder.name == "libx265"
    assert "not hevc_nvenc (the film's HDR10 mastering display will be lost" in reason
    assert plan("hevc_nvenc", **hdr)[0].encoder.name == "hevc_nvenc"


def test_auto_keeps_words_of_the_software_encoder_working(double: NvencDouble) -> None:
    spec, reason = plan(encode={"preset": "slow", "options": {"x265-params": "aq-mode=3"}})
    assert spec.encoder.name == "libx265"
    assert "not hevc_nvenc (encode.preset" in reason


def test_auto_takes_software_for_a_size_that_the_gpu_lacks(double: NvencDouble) -> None:
    double.largest_px = 1024
    spec, reason = plan()
    assert spec.encoder.name == "libx265"
    assert "1280x720" in reason
    with pytest.raises(ConfigError, match="hevc_nvenc cannot be opened for 1280x720"):
        plan("hevc_nvenc")
    assert plan(scale={"factor": 2})[0].encoder.name == "hevc_nvenc"

"""NVENC without a GPU: libav's door to it, with a software encoder of the same codec behind.

What is asked of the encoder is checked against libav's own descriptors of the real one: its pixel formats, the names,
ranges and words of its options. What only the hardware can say (whether a session opens, for what) is set here.
The pictures are encoded for real, so that times, tags, files and what comes back are those of the code under test.
Surfaces are read as late as NVENC may read them, on the stream that libav was given, and let go of after that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import av
import av.error
import pytest
from helpers.gpu_double import FakeEvent

from pipeline.encode.dlpack import PlaneTensor

STAND_INS = {
    "h264_nvenc": ("libx264", {"preset": "veryfast"}),
    "hevc_nvenc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error:pools=1"}),
    "av1_nvenc": ("libsvtav1", {"preset": "10", "svtav1-params": "lp=1"}),
}
SOFTWARE_FORMATS = {
    "nv12": "yuv420p",
    "p010le": "yuv420p10le",
    "nv16": "yuv422p",
    "p210le": "yuv422p10le",
    "yuv444p10msble": "yuv444p10le",
    "gbrp10msble": "gbrp10le",
}
PASSED_ON = {"g", "bf", "chroma_sample_location"}
"""Options that mean the same to the stand-in."""
COPIED = (
    *("width", "height", "time_base", "framerate", "sample_aspect_ratio", "bit_rate", "flags"),
    *("colorspace", "color_primaries", "color_trc", "color_range"),
)
NO_SESSION = "OpenEncodeSessionEx failed: unsupported device (2): (no details)"
"""What an H200 answers (driver 580.159)."""
EXTERNAL_ERROR = -542398533
"""libav's AVERROR_EXTERNAL, which is what PyAV raises with it for frames from the host."""
NO_SUCH_FUNCTION = 38
"""ENOSYS, which is what it raises for frames on the GPU."""
CPU_KIND = 1
"""DLPack's kDLCPU."""


@dataclass
class NvencDouble:
    """What the pretended GPU can do, and what was asked of it."""

    opens: bool = True
    """Whether any session opens."""
    refused_formats: set[str] = field(default_factory=set)
    """Pixel formats that this GPU cannot encode."""
    largest_px: int = 8192
    """Longest side of a picture."""
    opened: list[dict[str, Any]] = field(default_factory=list)
    """``name``, ``pix_fmt`` and ``options`` of every session that opened."""
    gpu: Any = None
    """The ``FakeGpu`` whose memory surfaces lie in."""
    holds: int = 0
    """Pictures that are kept before the first of them is encoded, as B-frames and lookahead make NVENC do."""
    addresses: list[int] = field(default_factory=list)
    """Where the surfaces lay that it was given, in order."""
    held_count: int = 0
    """Planes that it has taken and not let go of."""
    most_held: int = 0
    """The most planes that it ever held."""
    _reads: dict[int, FakeEvent] = field(default_factory=dict)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it between our encoders and libav."""
        real_open, real_contexts = av.open, av.CodecContext
        double = self

        def open_file(file: Any, mode: str = "r", **more: Any) -> Any:
            container = real_open(file, mode, **more)
            return ContainerDouble(double, container) if mode == "w" else container

        def create(name: Any, mode: str = "r", **more: Any) -> Any:
            if name in STAND_INS and mode == "w":
                stand_in = real_contexts.create(STAND_INS[name][0], "w")
                return ContextDouble(double, name, stand_in)
            return real_contexts.create(name, mode, **more)

        monkeypatch.setenv("SVT_LOG", "1")  # or the stand-in for AV1 talks to stderr
        monkeypatch.setattr(av, "open", open_file)
        monkeypatch.setattr(av, "CodecContext", SimpleNamespace(create=create))
        monkeypatch.setattr(
            "pipeline.encode.surfaces.av",
            SimpleNamespace(
                video=av.video, VideoFrame=SimpleNamespace(from_dlpack=self.take_surface), FFmpegError=av.FFmpegError
            ),
        )

    def take_surface(self, planes: Any, *, format: str, cuda_context: Any) -> av.VideoFrame:
        """``VideoFrame.from_dlpack`` for planes of the fake GPU: what PyAV would check, then PyAV itself."""
        assert (cuda_context.primary_ctx, cuda_context.current_ctx) == (False, True)
        assert cuda_context.device_id == self.gpu.index
        luma, chroma = (plane._managed.tensor for plane in planes)
        assert all(plane.__dlpack_device__() == (2, self.gpu.index) for plane in planes)
        assert chroma.data == luma.data + luma.shape[0] * luma.strides[0] * luma.type.bits // 8, "NVENC takes one block"
        assert chroma.strides[0] == luma.strides[0], "NVENC knows one pitch"
        assert luma.strides[0] * luma.type.bits // 8 % 4 == 0
        read = self._read((luma, chroma), handle=cuda_context.cuda_stream)
        self.addresses.append(luma.data)
        picture = av.VideoFrame.from_dlpack(tuple(self.on_host(plane, read=read) for plane in planes), format=format)
        self._reads[picture.planes[0].buffer_ptr] = read
        return picture

    def finish_reading(self, picture: av.VideoFrame) -> None:
        """Wait until what makes a picture is done, on the GPU, and the encoder has read it."""
        read = self._reads.pop(picture.planes[0].buffer_ptr, None)
        if read is not None:
            read.wait()

    def _read(self, tensors: Any, *, handle: int) -> FakeEvent:
        """Put the encoder's read into the stream that libav was given, or into one that waits for nothing."""
        stream = self.gpu.stream_of(handle) if handle else self.gpu.make_stream()
        for tensor in tensors:
            itemsize = tensor.type.bits // 8
            count = ((tensor.shape[0] - 1) * tensor.strides[0] + tensor.shape[1]) * itemsize
            self.gpu.enqueue(stream.handle, lambda: None, name="nvenc", reads=((tensor.data, count),))
        read = stream.record()
        if not handle:
            stream.close()
        return read

    def on_host(self, plane: PlaneTensor, *, read: FakeEvent) -> PlaneTensor:
        """The same plane as PyAV sees it when it is told that the memory is the host's."""
        tensor = plane._managed.tensor
        itemsize = tensor.type.bits // 8
        rows, columns, pitch_bytes = tensor.shape[0], tensor.shape[1], tensor.strides[0] * itemsize
        content = self.gpu.bytes_at(tensor.data, (rows - 1) * pitch_bytes + columns * itemsize)

        def take() -> None:
            self.held_count += 1
            self.most_held = max(self.most_held, self.held_count)
            plane._on_take()

        def let_go() -> None:
            read.wait()  # libav does so when the packet is out
            self.held_count -= 1
            plane.let_go()

        return PlaneTensor(
            content.ctypes.data,
            rows=rows,
            columns=columns,
            pitch_bytes=pitch_bytes,
            itemsize=itemsize,
            device_index=0,
            on_take=take,
            on_release=let_go,
            kind=CPU_KIND,
        )


class ContainerDouble:
    """A file being written; hardware streams get a stand-in."""

    def __init__(self, double: NvencDouble, container: Any) -> None:
        self._double = double
        self._container = container

    def add_stream(self, name: str, **more: Any) -> Any:
        if name not in STAND_INS:
            return self._container.add_stream(name, **more)
        stream = self._container.add_stream(STAND_INS[name][0], **more)
        return StreamDouble(self._double, name, stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)


class StreamDouble:
    """A stream of it."""

    def __init__(self, double: NvencDouble, name: str, stream: Any) -> None:
        self._stream = stream
        self.codec_context = ContextDouble(double, name, stream.codec_context)

    @property
    def time_base(self) -> Any:
        return self._stream.time_base

    @time_base.setter
    def time_base(self, value: Any) -> None:
        self._stream.time_base = value

    def encode(self, picture: Any = None) -> Any:
        try:
            return self.codec_context.encode(picture)
        finally:
            del picture  # a traceback through PyAV itself holds no picture


class ContextDouble:
    """An encoder's context: remembers what it is told and hands it to the stand-in when it opens."""

    def __init__(self, double: NvencDouble, name: str, stand_in: Any) -> None:
        self._double = double
        self._name = name
        self._stand_in = stand_in
        self._is_open = False
        self._held: deque[Any] = deque()
        self.flags = stand_in.flags
        self.pix_fmt = "yuv420p"
        self.options: dict[str, str] = {}

    @property
    def reorder_depth(self) -> int:
        return max(2, self._stand_in.reorder_depth)  # libavcodec/nvenc.c: has_b_frames, where there are B-frames

    def open(self, *, surface_format: str = "") -> None:
        pix_fmt = surface_format or self.pix_fmt
        known = av.Codec(self._name, "w")
        assert self.pix_fmt in {format.name for format in known.video_formats}, self.pix_fmt
        options = self._check_options()
        if not self._double.opens and self.pix_fmt == "cuda":
            raise av.error.NotImplementedError(NO_SUCH_FUNCTION, NO_SESSION)
        if not self._double.opens:
            raise av.error.ExternalError(EXTERNAL_ERROR, NO_SESSION)
        if pix_fmt in self._double.refused_formats or max(self.height, self.width) > self._double.largest_px:
            raise av.error.ExternalError(EXTERNAL_ERROR, f"{pix_fmt} {self.width}x{self.height} not supported")
        if int(options.get("g", 250)) <= int(options.get("bf", 0)) + 1 and "g" in options:
            raise av.error.ExternalError(EXTERNAL_ERROR, "GopLength > numBFrames + 1")
        stand_in = self._stand_in
        for name in COPIED:
            if hasattr(self, name):
                setattr(stand_in, name, getattr(self, name))
        stand_in.pix_fmt = SOFTWARE_FORMATS.get(pix_fmt, pix_fmt)
        stand_in.thread_count = 1
        passed = {key: value for key, value in options.items() if key in PASSED_ON}
        quality = {"crf": options["cq"]} if "cq" in options else {}
        stand_in.options = STAND_INS[self._name][1] | quality | passed
        stand_in.open()
        self._double.opened.append({"name": self._name, "pix_fmt": self.pix_fmt, "options": options})
        self._is_open = True

    def encode(self, picture: Any = None) -> Any:
        is_last = picture is None
        try:
            if not self._is_open:
                self.open(surface_format=picture.format.name if self.pix_fmt == "cuda" else "")
            elif picture is not None and self.pix_fmt != "cuda":
                assert picture.format.name == self.pix_fmt, "libav would convert it silently"
            if picture is not None:
                self._held.append(picture)
        finally:
            del picture  # as above
        packets = []
        while self._held and (is_last or len(self._held) > self._double.holds):
            oldest = self._held.popleft()
            self._double.finish_reading(oldest)
            packets += self._stand_in.encode(oldest)
        return packets + self._stand_in.encode(None) if is_last else packets

    def _check_options(self) -> dict[str, str]:
        """Take the options that the real encoder has and leave the others, as libav does; refuse bad values."""
        supported = av.codec.context.CodecContext.create(self._name, "w").supported_options
        known = {option.name: option for option in (*supported.generic, *supported.private)}
        taken = {name: value for name, value in self.options.items() if name in known}
        for name, value in taken.items():
            option = known[name]
            if value in {choice.name for choice in option.choices}:
                continue
            number = _number(value)
            if number is None or not option.min <= number <= option.max:
                raise av.error.ArgumentError(22, f"Unable to parse {name!r} option value {value!r}")
        self.options = {name: value for name, value in self.options.items() if name not in known}
        return taken


def _number(text: str) -> float | None:
    """As av_opt_set reads it, suffixes M and k included."""
    for suffix, factor in (("M", 1e6), ("k", 1e3), ("", 1.0)):
        if text.endswith(suffix):
            try:
                return float(text.removesuffix(suffix)) * factor
            except ValueError:
                continue
    return None

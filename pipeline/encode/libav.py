"""Encoding through libav (PyAV): one segment file per encoder instance.

A segment's own clock starts at 0 with its first frame, so that the same frames give the same bytes wherever they lie
and pictures before time 0 are no special case; `EncodeResult.first_pts` says where the segment belongs. Every frame
keeps its distance to the first exactly, in the source's time base.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
from av.video.stream import VideoStream

from engines.errors import EngineError
from engines.gpu import Device
from pipeline.encode.base import RANGE_CODES, EncodeResult, EncodeSpec
from pipeline.encode.options import build_options
from pipeline.encode.order import FrameOrder
from pipeline.encode.pictures import HostPictures, PictureMaker
from pipeline.errors import OutputError, SetupError
from pipeline.frames import Frame

_LOGGER = logging.getLogger(__name__)

# libavcodec/avcodec.h
_FLAG_FRAME_DURATION = 1 << 8
_FLAG_GLOBAL_HEADER = 1 << 22
_FLAG_CLOSED_GOP = -(1 << 31)  # the sign bit of a C int
_NOMINAL_RATE = Fraction(25)
"""Told to rate control where the film's rate is unknown: libav's own default."""


class LibavEncoder:
    """One segment, encoded by one of libav's encoders.

    Args:
        path: File to write; created, or emptied if it is there.
        spec: How to encode.
        device: The GPU that holds the frames; None: they are in host memory. Stays the caller's.

    Raises:
        ConfigError: The table or the encoder refuses a quality, preset or option.
        SetupError: This libav has no such encoder.
        OutputError: The file cannot be made, or the encoder cannot be opened.
        ValueError: The encoder does not take frames of this format, or not from a GPU.
    """

    def __init__(self, path: Path, spec: EncodeSpec, *, device: Device | None = None) -> None:
        self._path = path
        self._spec = spec
        self._order = FrameOrder(path, spec)
        self._pts: list[int] = []
        self._packet_count = 0
        self._is_closed = False
        options = build_options(spec)
        set_environment(spec)
        with ExitStack() as undo:
            self._pictures = make_pictures(spec, device=device)
            undo.callback(self._pictures.close)
            with self._mapped_errors():
                # through a file of ours: libav's own file layer reports a full disk late or not at all
                self._file = path.open("wb")
                undo.callback(path.unlink, missing_ok=True)
                undo.callback(self._file.close)
                self._container = av.open(
                    self._file,
                    "w",
                    format=spec.encoder.segment_container,
                    options={
                        "video_track_timescale": str(spec.time_base.denominator),
                        # edit lists count in this unit; by default it is a millisecond
                        "movie_timescale": str(spec.time_base.denominator),
                    },
                )
                self._stream = _add_stream(self._container, spec, options, context_format=self._pictures.context_format)
            undo.pop_all()

    def write(self, frame: Frame) -> None:
        """Encode one frame. See ``Encoder.write``; the interpreter lock is free while libav works."""
        self._order.admit(frame)
        with self._mapped_errors():
            self._encode(self._picture(frame))
        self._pictures.check_returned()

    def finish(self) -> EncodeResult:
        """Encode what is held back, write the file's end and close it."""
        with self._mapped_errors():
            if self._pts:
                self._encode(None)
            self._container.close()
            self._file.close()
            written_bytes = self._path.stat().st_size
        try:
            self._free()
        except EngineError:
            self._path.unlink(missing_ok=True)
            raise
        return self._order.result(written_bytes=written_bytes)

    def close(self) -> None:
        """Free the encoder; without ``finish()`` before it, remove the file."""
        if self._is_closed:
            return
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as exc:
            _LOGGER.debug("closing the unfinished segment %s: %s", self._path, exc)
        try:
            self._file.close()
        except OSError as exc:
            _LOGGER.debug("closing the unfinished segment %s: %s", self._path, exc)
        self._path.unlink(missing_ok=True)
        try:
            self._free()
        except EngineError as exc:
            _LOGGER.debug("closing the unfinished segment %s: %s", self._path, exc)

    def _free(self) -> None:
        """Let libav free the encoder, then the memory that it read pictures from. Raises what failed on a GPU."""
        self._is_closed = True
        del self._stream, self._container
        self._pictures.close()

    def _encode(self, picture: av.VideoFrame | None) -> None:
        """Encode one picture, or with None all that is held back, and write what comes out."""
        packet = None
        try:
            if picture is not None:
                self._pts.append(cast(int, picture.pts))
            for packet in self._stream.encode(picture):
                packet.dts = self._decoding_time(self._packet_count)
                self._packet_count += 1
                self._container.mux(packet)
        finally:
            # The traceback of an error holds this frame's names: with them a GPU's memory, and the encoder itself.
            del picture, packet

    def _decoding_time(self, position: int) -> int:
        """When the packet at ``position`` in decoding order is decoded.

        The times of the pictures in display order, later by the encoder's reorder depth: never after the packet's own
        pts, strictly rising, and a function of the pts alone. The encoders' own decoding times are not: libx265's
        follow the pts only in segments of more than a few frames.
        """
        encoder = self._spec.encoder
        asked = self._spec.options.get(encoder.reorder_option, "")
        bound = int(asked) if asked.isdigit() else 0
        depth = max(self._stream.codec_context.reorder_depth, encoder.reorder_frames, bound)
        if position >= depth:
            return self._pts[position - depth]
        frame_ticks = max(1, round(1 / ((self._spec.average_rate or _NOMINAL_RATE) * self._spec.time_base)))
        return (position - depth) * frame_ticks

    def _picture(self, frame: Frame) -> av.VideoFrame:
        """A libav picture that lives as long as the encoder reads it: it goes on after ``encode`` has returned."""
        spec = self._spec
        picture = self._pictures.make(frame)
        picture.pts = frame.stamp.pts - self._order.first_pts
        picture.duration = frame.stamp.duration
        picture.time_base = spec.time_base
        _set_colour(picture, spec)
        return picture

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as exc:
            raise OutputError(
                f"cannot write {self._path} with {self._spec.encoder.name}: {describe_libav_error(exc)}",
                path=self._path,
                hint=_hint(exc, self._path),
            ) from exc


def find_encoder(name: str) -> None:
    """Make sure that this libav has an encoder.

    Raises:
        SetupError: It has not.
    """
    try:
        av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError as exc:
        raise SetupError(
            f"this build of PyAV ({av.__version__}) has no encoder {name}",
            missing=name,
            hint="pip install --force-reinstall --only-binary av av; or choose another encode.kind",
        ) from exc


def describe_libav_error(exc: Exception) -> str:
    """A libav error in one line, the library's last words included."""
    log = getattr(exc, "log", None)
    said = log[2].strip().rstrip(".") if log else ""
    text = getattr(exc, "strerror", None) or str(exc)
    return f"{text} ({said})" if said and said not in text else text


def make_pictures(spec: EncodeSpec, *, device: Device | None = None) -> PictureMaker:
    """What turns frames into pictures for this encoder.

    Args:
        spec: Size, format and encoder.
        device: The GPU that holds the frames; None: they are in host memory.

    Raises:
        ValueError: The encoder does not take frames of this format, or not from a GPU.
    """
    pixel_format = spec.encoder.pixel_format(spec.format)
    if pixel_format is None:
        raise ValueError(f"{spec.encoder.name} does not take {spec.format}")
    if device is None:
        return HostPictures(spec, pixel_format)
    from pipeline.encode.surfaces import DeviceSurfaces

    return DeviceSurfaces(spec, device)


def _add_stream(
    container: av.container.OutputContainer, spec: EncodeSpec, options: dict[str, str], *, context_format: str
) -> VideoStream:
    find_encoder(spec.encoder.name)
    stream = cast(VideoStream, container.add_stream(cast(Any, spec.encoder.name)))
    set_up(stream.codec_context, spec, options, context_format=context_format)
    stream.time_base = spec.time_base
    return stream


def set_up(context: Any, spec: EncodeSpec, options: dict[str, str], *, context_format: str) -> None:
    """Everything an encoder must know before its first frame. ``context``: ``av.VideoCodecContext``."""
    context.width, context.height, context.pix_fmt = spec.width, spec.height, context_format
    context.time_base = spec.time_base
    context.framerate = spec.average_rate or _NOMINAL_RATE
    context.sample_aspect_ratio = spec.sample_aspect
    context.bit_rate = 0  # PyAV's default would turn some encoders away from constant quality
    context.flags |= _FLAG_FRAME_DURATION | _FLAG_GLOBAL_HEADER | _FLAG_CLOSED_GOP
    context.thread_count = spec.threads
    context.thread_type = "AUTO"  # PyAV's own default makes libx264 cut frames into slices
    _set_colour(context, spec)
    context.options = _location_option(spec) | options


def _set_colour(target: Any, spec: EncodeSpec) -> None:
    """Colour description of a codec context or of a picture; both have the same names for it."""
    target.colorspace = spec.tags.matrix
    target.color_primaries = spec.tags.primaries
    target.color_trc = spec.tags.transfer
    target.color_range = RANGE_CODES[spec.tags.full_range]


def _location_option(spec: EncodeSpec) -> dict[str, str]:
    # an option and not an attribute, because PyAV has the attribute only from 19 on
    location = spec.tags.chroma_location
    is_420 = spec.format.subsampling == "420"
    return {"chroma_sample_location": location} if location is not None and is_420 else {}


def set_environment(spec: EncodeSpec) -> None:
    """Set the variables that the encoder's library reads when it is first opened, unless they are set."""
    for name, value in spec.encoder.environment:
        os.environ.setdefault(name, value)


def _hint(exc: Exception, path: Path) -> str:
    if getattr(exc, "errno", None) == errno.ENOSPC:
        return f"make room on the disk of {path.parent} and start again"
    return "start again; if it stays, try another encode.kind or encode.preset"

"""Two films, frame beside frame, in the same size and samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.colour import planes_to_rgb, rgb_to_planes
from pipeline.decode import open_decoder
from pipeline.decode.base import Decoder
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import Frame, SampleFormat
from pipeline.inputs.pictures import is_picture_source, is_sequence
from pipeline.media import MediaInfo
from pipeline.probe import probe_media
from pipeline.resample import plan_resample
from pipeline.tags import layout_of
from tools.compare_figures import MIN_SIDE_PX, Codes

PICTURE_RATE = Fraction(25)
"""Of pictures without a clock; only their times follow from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A frame of each film; None where a film has no more."""

    a: Frame | None
    b: Frame | None
    planes_a: tuple[Codes, ...] = ()
    """Codes of the pair's format; empty unless both frames are there. One plane for grey pictures."""
    planes_b: tuple[Codes, ...] = ()


class PairedFilms:
    """Two films that can be compared, and their frames.

    Args:
        a: What to compare with.
        b: What is judged.
        converts: Whether B's frames may be brought to A's size and samples.

    Raises:
        MediaError: One cannot be read, or is too small.
        UnsupportedMedia: They differ in size or samples, and B must not be converted; or one is interlaced.
    """

    def __init__(self, a: Path, b: Path, *, converts: bool = False) -> None:
        self.a, self.b = _probe(a), _probe(b)
        one, other = self.a.video, self.b.video
        is_sized = (one.height, one.width) == (other.height, other.width)
        self.is_converted = not (is_sized and are_alike(one.format, other.format))
        """Whether B's frames are brought to A's size and samples."""
        if self.is_converted and not converts:
            raise UnsupportedMedia(
                f"A has {_describe(self.a)}, B {_describe(self.b)}: frame by frame they cannot be compared",
                path=b,
                hint="--scale brings B's frames to A's size and samples by Lanczos; or name the film of the same size",
            )
        depth = one.format.bit_depth if self.is_converted else max(one.format.bit_depth, other.format.bit_depth)
        self.format = replace(one.format, bit_depth=depth)
        """Of the planes of every pair."""
        self.is_grey = _is_grey(self.a) and _is_grey(self.b)
        smallest = min(min(shape) for shape in self.format.plane_shapes(height=one.height, width=one.width))
        if smallest < MIN_SIDE_PX:
            raise MediaError(f"{a} is {one.width}x{one.height}: planes below {MIN_SIDE_PX} pixels have no SSIM", path=a)
        self.damage_a: str | None = None
        """Once all pairs were read: what could not be."""
        self.damage_b: str | None = None

    def pairs(self, *, stop: int | None = None) -> Iterator[Pair]:
        """The first frames of both, then the second ones, and so on to the end of the longer film.

        Args:
            stop: First index not wanted; None for all.

        Raises:
            MediaError: A film can no longer be read.
            UnsupportedMedia: A film changes its size, or samples change in only one of them.
        """
        with ExitStack() as stack:
            decoders = [stack.enter_context(_open(info)) for info in (self.a, self.b)]
            for a, b in zip_longest(*(decoder.frames(0, stop) for decoder in decoders)):
                if a is None or b is None:
                    yield Pair(a=a, b=b)
                    continue
                if not self.is_converted and not are_alike(a.format, b.format):
                    raise UnsupportedMedia(
                        f"frame {a.stamp.index} is {a.format.matrix} in A, {b.format.matrix} in B, or ranges differ",
                        path=self.b.path,
                        hint="--scale brings B's frames to A's samples",
                    )
                planes_b = self._convert(b, like=a) if self.is_converted else self._codes(b)
                yield Pair(a=a, b=b, planes_a=self._codes(a), planes_b=planes_b)
            self.damage_a, self.damage_b = (decoder.damage for decoder in decoders)

    def time_s(self, frame: Frame, *, of_b: bool) -> Fraction:
        """When a frame is shown, by its film's own clock."""
        return frame.stamp.pts * (self.b if of_b else self.a).video.time_base

    def rgb(self, planes: tuple[Codes, ...]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 R'G'B' of a pair's planes, as they are: HDR looks flat."""
        height, width = planes[0].shape
        full = planes
        if self.is_grey:
            shape = self.format.plane_shapes(height=height, width=width)[1]
            neutral = np.full(shape, 1 << (self.format.bit_depth - 1), np.uint16)
            full = (*planes, neutral, neutral)
        colours = np.empty((3, height, width), np.float32)
        samples: list[Any] = [plane.astype(self.format.dtype) for plane in full]
        planes_to_rgb(samples, self.format, out=colours)
        return np.ascontiguousarray((colours.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))

    def _codes(self, frame: Frame) -> tuple[Codes, ...]:
        """A frame's planes in the pair's bit depth."""
        planes = frame.planes[:1] if self.is_grey else frame.planes
        more = self.format.bit_depth - frame.format.bit_depth
        if more == 0:
            return tuple(np.array(plane, dtype=np.uint16, order="C") for plane in planes)
        if self.format.full_range:  # white is 2^n - 1
            ratio = (2**self.format.bit_depth - 1) / (2**frame.format.bit_depth - 1)
            return tuple(np.array(np.rint(plane * ratio), dtype=np.uint16, order="C") for plane in planes)
        return tuple(
            np.array(plane, dtype=np.uint16, order="C") * np.uint16(1 << more) for plane in planes
        )  # white is 235 x 2^(n-8)

    def _convert(self, frame: Frame, *, like: Frame) -> tuple[Codes, ...]:
        """Planes of B's frame in A's size and samples, by way of R'G'B'."""
        image = np.empty((3, frame.height, frame.width), np.float32)
        planes_to_rgb(frame.planes, frame.format, out=image)
        if (frame.height, frame.width) != (like.height, like.width):
            plan = plan_resample(height=frame.height, width=frame.width, out_height=like.height, out_width=like.width)
            sized = np.empty((3, like.height, like.width), np.float32)
            plan.run(image, out=sized)
            image = sized
        shapes = like.format.plane_shapes(height=like.height, width=like.width)
        planes: list[Any] = [np.empty(shape, like.format.dtype) for shape in shapes]
        rgb_to_planes(image, like.format, out=planes)
        return tuple(plane.astype(np.uint16) for plane in (planes[:1] if self.is_grey else planes))


def are_alike(a: SampleFormat, b: SampleFormat) -> bool:
    """Whether codes mean the same but for their depth. Where chroma lies is left out, as players leave it out."""
    return (a.matrix, a.subsampling, a.full_range) == (b.matrix, b.subsampling, b.full_range)


def _probe(path: Path) -> MediaInfo:
    if is_picture_source(path) or is_sequence(path):
        from pipeline.decode.images import probe_images

        return probe_images(path, rate=PICTURE_RATE)
    return probe_media(path)


def _open(info: MediaInfo) -> Decoder:
    return open_decoder("libav" if info.pictures is None else "images", info)


def _is_grey(info: MediaInfo) -> bool:
    layout = layout_of(info.video.pixel_format)
    return layout is not None and layout.is_grey


def _describe(info: MediaInfo) -> str:
    video = info.video
    scope = "full" if video.format.full_range else "limited"
    samples = "RGB" if video.format.matrix == "rgb" else f"{video.format.subsampling} {video.format.matrix}"
    return f"{video.width}x{video.height} {samples} {scope} range"

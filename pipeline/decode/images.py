"""Pictures as the frames of a film: one, or a sequence at a steady rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.picture_file import Picture, read_picture
from pipeline.decode.planes import PlaneReader
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import Frame, FrameStamp, SampleFormat
from pipeline.inputs.pictures import is_sequence, list_pictures
from pipeline.media import MediaInfo, PictureSet, StreamEntry, VideoTrack

CONTAINER = "images"
"""``MediaInfo.container`` of pictures."""


def probe_images(source: Path, *, rate: Fraction) -> MediaInfo:
    """Describe pictures as ``probe_media`` describes a file; the first one is decoded.

    Args:
        source: A picture, or a sequence in a form that ``list_pictures`` takes.
        rate: Frames per second of a sequence.

    Returns:
        A film with a frame for each picture. With alpha its frames are to be paired (``pair_alpha``) or lose it.

    Raises:
        UnsupportedMedia: The first one cannot be handled.
        MediaError: There is no picture, or it cannot be read.
    """
    try:
        files = list_pictures(source)
        size_bytes = sum(path.stat().st_size for path in files)
    except OSError as exc:
        raise MediaError(
            f"{source} cannot be read: {exc.strerror or exc}", path=source, hint="check the path and your rights"
        ) from exc
    if not files:
        raise MediaError(f"there is no picture {source}", path=source, hint="check the pattern")
    first = read_picture(files[0])
    sample_format = first.format if first.is_plain else _rgb_of(first.format)
    tags = first.tags if first.is_plain else replace(first.tags, matrix=0, full_range=True, chroma_location=None)
    track = VideoTrack(
        index=0,
        codec=first.codec,
        height=first.height,
        width=first.width,
        pixel_format=first.image.format.name,
        format=sample_format,
        tags=tags,
        time_base=1 / rate,
        average_rate=rate,
        start_pts=0,
        duration_s=float(len(files) / rate),
        frame_count_from_header=len(files),
    )
    return MediaInfo(
        path=source,
        container=CONTAINER,
        size_bytes=size_bytes,
        start_s=0.0,
        duration_s=track.duration_s,
        video=track,
        streams=(StreamEntry(index=0, kind="video", codec=first.codec, time_base=track.time_base),),
        guesses=first.guesses,
        pictures=PictureSet(
            files=files,
            is_single=not is_sequence(source),
            has_alpha=first.alpha is not None,
            is_grey=first.layout.is_grey,
            profile=first.header.profile,
        ),
    )


def pair_alpha(info: MediaInfo) -> MediaInfo:
    """The film whose frames are, by turns, a picture's colours and its alpha.

    Args:
        info: Of pictures with alpha.
    """
    video, pictures = info.video, info.pictures
    assert pictures is not None
    assert video.average_rate is not None
    paired = replace(
        video,
        time_base=video.time_base / 2,
        average_rate=video.average_rate * 2,
        frame_count_from_header=2 * len(pictures.files),
    )
    return replace(info, video=paired, pictures=replace(pictures, is_paired=True))


class ImageDecoder:
    """Decodes pictures, each when it is asked for. See ``Decoder`` for the protocol.

    Pictures of the film's kind are handed out sample by sample; those that have to be turned, that have alpha, or that
    are of another kind than the first, by way of R'G'B' and rounded.

    Args:
        info: From ``probe_images`` or ``pair_alpha``.

    Raises:
        ValueError: ``info`` is of something else.
    """

    def __init__(self, info: MediaInfo) -> None:
        if info.pictures is None:
            raise ValueError(f"{info.path} is no sequence of pictures")
        self.info = info
        self._pictures = info.pictures
        video = info.video
        self._planes = PlaneReader(video.format, height=video.height, width=video.width)
        self._notes: list[str] = []
        self._is_closed = False

    @property
    def damage(self) -> str | None:
        """Always None: a picture that cannot be read ends the film."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        return tuple(self._notes)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See ``Decoder.frames``; pts counts frames."""
        if start < 0 or (stop is not None and stop < 0):
            raise ValueError(f"frame range must not be negative, got {start}:{stop}")
        if self._is_closed:
            raise ValueError("the decoder is closed")
        self._notes = []
        return self._iterate(start, stop)

    def _iterate(self, start: int, stop: int | None) -> Iterator[Frame]:
        each = 2 if self._pictures.is_paired else 1
        count = each * len(self._pictures.files)
        end = count if stop is None else min(stop, count)
        picture: Picture | None = None
        for index in range(start, end):
            if picture is None or index % each == 0:
                picture = self._read(index // each)
            yield self._alpha_frame(picture, index) if index % each else self._frame(picture, index)

    def _read(self, number: int) -> Picture:
        path = self._pictures.files[number]
        picture = read_picture(path)
        video = self.info.video
        if (picture.height, picture.width) != (video.height, video.width):
            raise UnsupportedMedia(
                f"{path} is {picture.width}x{picture.height}, and the sequence began with {video.width}x{video.height}",
                path=path,
                hint="set input.images: single, or put pictures of another size elsewhere",
            )
        if picture.alpha is not None and not self._pictures.is_paired:
            self._note(f"transparency is dropped, first in {path.name}")
        return picture

    def _note(self, text: str) -> None:
        if not any(text.partition(",")[0] in note for note in self._notes):
            self._notes.append(text)

    def _frame(self, picture: Picture, index: int) -> Frame:
        if picture.header.orientation == 1 and picture.format == self.info.video.format and picture.alpha is None:
            planes, owner = self._planes.read(picture.image, picture.layout)
            return self._make(index, planes, owner=owner)
        return self._make(index, self._quantised(picture.upright_rgb()))

    def _alpha_frame(self, picture: Picture, index: int) -> Frame:
        alpha = picture.upright_alpha()
        video = self.info.video
        if alpha is None:
            alpha = np.ones((video.height, video.width), dtype=np.float32)
        return self._make(index, self._quantised(np.ascontiguousarray(np.broadcast_to(alpha, (3, *alpha.shape)))))

    def _quantised(self, rgb: NDArray[np.float32]) -> tuple[Any, ...]:
        from pipeline.colour import rgb_to_planes

        video = self.info.video
        shapes = video.format.plane_shapes(height=video.height, width=video.width)
        planes: tuple[Any, ...] = tuple(np.empty(shape, dtype=video.format.dtype) for shape in shapes)
        rgb_to_planes(rgb, video.format, out=(planes[0], planes[1], planes[2]))
        for plane in planes:
            plane.flags.writeable = False
        return planes

    def _make(self, index: int, planes: tuple[Any, ...], *, owner: Any = None) -> Frame:
        video = self.info.video
        return Frame(
            stamp=FrameStamp(index=index, pts=index, duration=1),
            format=video.format,
            height=video.height,
            width=video.width,
            planes=planes,
            owner=owner,
        )

    def close(self) -> None:
        """Refuse further iterations."""
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _rgb_of(source: SampleFormat) -> SampleFormat:
    """R'G'B' with as many bits."""
    return SampleFormat(matrix="rgb", subsampling="444", bit_depth=source.bit_depth, full_range=True)

"""Whole frames of an interlaced film: libav's bwdif between the software decoder and whoever takes its frames.

bwdif makes a frame of itself and its two neighbours. A film's frame therefore comes out the same wherever decoding
begins, as long as it begins one frame before: the filter has no memory beyond that, except that the film's very first
field, and by field its very last one, have no neighbour and are interpolated from themselves.
Source: libavfilter/yadif_common.c and bwdif.c (``current_field``).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame

from pipeline.decode.container import error_text
from pipeline.decode.deinterlace_plan import Deinterlacing
from pipeline.decode.frame_filter import FrameFilter
from pipeline.decode.frame_index import FrameIndex
from pipeline.decode.libav import LibavDecoder
from pipeline.decode.planes import PlaneReader
from pipeline.errors import UnsupportedMedia
from pipeline.frames import Frame, FrameStamp
from pipeline.media import MediaInfo
from pipeline.tags import layout_of


class DeinterlacingDecoder:
    """Decodes one film with libav and deinterlaces its frames. See ``Decoder`` for the protocol.

    Frames keep their times. By field, the second of each two is shown in the middle between its frame and the next; the
    film's last one, as long after its frame as the last frame is after the one before.

    Args:
        info: The film as its frames leave this decoder (``FieldPlan.info``).
        deinterlacing: How they are made.
        threads: Decoder threads, 0 for as many as there are cores.
        index: Of the frames that leave this decoder: from ``index_fields``.

    Raises:
        ValueError: ``index`` is of another film.
    """

    def __init__(
        self,
        info: MediaInfo,
        *,
        deinterlacing: Deinterlacing,
        threads: int = 0,
        index: FrameIndex | None = None,
    ) -> None:
        self.info = info
        self._terms = deinterlacing
        frame_index = index.of_frames if index is not None and index.of_frames is not None else index
        self._decoder = LibavDecoder(deinterlacing.source, threads=threads, index=frame_index, takes_fields=True)
        video = info.video
        self._planes = PlaneReader(video.format, height=video.height, width=video.width, crop=video.crop)
        self._running: Generator[Frame] | None = None

    @property
    def damage(self) -> str | None:
        """See ``Decoder.damage``."""
        return self._decoder.damage

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        return self._decoder.notes

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See ``Decoder.frames``; planes are read-only views of libav's memory, kept alive by ``Frame.owner``."""
        if start < 0 or (stop is not None and stop < 0):
            raise ValueError(f"frame range must not be negative, got {start}:{stop}")
        self._end_pass()
        each = self._terms.per_frame
        source_stop = None if stop is None else -(-stop // each) + 1
        if stop is not None and stop <= start:
            source_stop = 0
        source = self._decoder.frames(max(0, start // each - 1), source_stop)
        self._running = self._iterate(source, start, stop)
        return self._running

    def _iterate(self, source: Iterator[Frame], start: int, stop: int | None) -> Generator[Frame]:
        for frame in self._deinterlaced(source, first=start // self._terms.per_frame):
            if stop is not None and frame.stamp.index >= stop:
                return
            if frame.stamp.index >= start:
                yield frame

    def _deinterlaced(self, source: Iterator[Frame], *, first: int) -> Iterator[Frame]:
        """What is made of the film's frames from ``first`` on; ``source`` begins one frame before, if there is one.

        Each run of frames that are deinterlaced has a filter of its own, which also sees the frame before the run: so
        what comes out does not depend on what came before, however flags change within the film.
        """
        before: Frame | None = None
        bwdif: FrameFilter | None = None
        current = next(source, None)
        while current is not None:
            after = next(source, None)
            is_filtered = self._is_interlaced(current) and current.stamp.index >= first
            if current.stamp.index >= first:
                stamps = self._stamps(before, current, after)
                if is_filtered:
                    if bwdif is None:
                        bwdif = self._open_filter(before, current)
                    made = self._filter(bwdif, None if after is None else after.owner, current)
                    yield from self._make_frames(made, stamps, current)
                else:
                    yield from (replace(current, stamp=stamp) for stamp in stamps)
            if not is_filtered:
                bwdif = None
            before, current = current, after

    def _is_interlaced(self, frame: Frame) -> bool:
        wanted = self._terms.frames
        return wanted == "all" or (wanted == "flagged" and bool(frame.owner.interlaced_frame))

    def _stamps(self, before: Frame | None, current: Frame, after: Frame | None) -> tuple[FrameStamp, ...]:
        """Of the frames made of ``current``, in the time base of what leaves this decoder."""
        stamp = current.stamp
        if self._terms.per_frame == 1:
            return (stamp,)
        if after is not None:
            step = after.stamp.pts - stamp.pts
        elif before is not None:
            step = stamp.pts - before.stamp.pts
        else:
            step = nominal_ticks(self._terms.source)
        index, pts = 2 * stamp.index, 2 * stamp.pts
        # half of the frame's duration is as many ticks of half the length
        return (
            FrameStamp(index=index, pts=pts, duration=stamp.duration),
            FrameStamp(index=index + 1, pts=pts + step, duration=stamp.duration),
        )

    def _open_filter(self, before: Frame | None, current: Frame) -> FrameFilter:
        """A filter that has seen everything up to ``current``, and given what it made before it."""
        mode = "send_field" if self._terms.per_frame == 2 else "send_frame"
        parity = {None: "auto", "top": "tff", "bottom": "bff"}[self._terms.order]
        try:
            bwdif = FrameFilter(current.owner, "bwdif", f"mode={mode}:parity={parity}:deint=all")
        except (av.error.FFmpegError, ValueError) as exc:
            raise self._refusal(exc) from exc
        for frame in filter(None, (before, current)):
            self._filter(bwdif, frame.owner, current)
        return bwdif

    def _filter(self, bwdif: FrameFilter, image: VideoFrame | None, current: Frame) -> list[VideoFrame]:
        try:
            return bwdif.run(image)
        except av.error.FFmpegError as exc:
            raise self._refusal(exc, frame=current.stamp.index) from exc

    def _make_frames(self, images: list[VideoFrame], stamps: tuple[FrameStamp, ...], current: Frame) -> Iterator[Frame]:
        if len(images) != len(stamps):
            raise self._refusal(ValueError(f"bwdif made {len(images)} frames, not {len(stamps)}"))
        for image, stamp in zip(images, stamps, strict=True):
            layout = layout_of(image.format.name)
            if layout is None:
                raise self._refusal(ValueError(f"bwdif made frames of {image.format.name}"))
            planes, owner = self._planes.read(image, layout)
            yield replace(current, stamp=stamp, planes=planes, owner=owner)

    def _refusal(self, error: Exception, *, frame: int | None = None) -> UnsupportedMedia:
        where = "" if frame is None else f" at frame {frame}"
        return UnsupportedMedia(
            f"{self.info.path} cannot be deinterlaced{where}: {error_text(error)}",
            path=self.info.path,
            hint="set decode.field_order: progressive, which takes its frames as they are",
        )

    def close(self) -> None:
        """See ``Decoder.close``."""
        self._end_pass()
        self._decoder.close()

    def _end_pass(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def index_fields(index: FrameIndex, *, deinterlacing: Deinterlacing) -> FrameIndex:
    """The index of the frames that leave a ``DeinterlacingDecoder``.

    Args:
        index: Of the film's frames, from ``build_frame_index``.
        deinterlacing: As the decoder has it.
    """
    if deinterlacing.per_frame == 1:
        return index
    pts = np.empty(2 * len(index.pts), dtype=np.int64)
    pts[::2] = 2 * index.pts
    pts[1:-1:2] = index.pts[:-1] + index.pts[1:]
    if len(index.pts):
        last_step = index.pts[-1] - index.pts[-2] if len(index.pts) > 1 else nominal_ticks(deinterlacing.source)
        pts[-1] = pts[-2] + last_step
    if index.doubt:
        pts = pts[:-1]  # what is behind the last frame is not known
    return replace(index, pts=pts, of_frames=index)


def nominal_ticks(info: MediaInfo) -> int:
    """Ticks that one frame of a film lasts by its header; of 25 a second where that says nothing. At least 1."""
    rate = info.video.average_rate or Fraction(25)
    return max(1, round(1 / (rate * info.video.time_base)))

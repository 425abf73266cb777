"""Colour tags that change within a film: followed where a conversion can, otherwise refused by name.

Matrix and range decide how a frame's samples become R'G'B', and every frame has its own ``SampleFormat``, so they may
change at any frame. Primaries and transfer are stated once for the whole result. What a frame leaves unspecified is as
in the film.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import UnsupportedMedia
from pipeline.frames import UNSPECIFIED, SampleFormat
from pipeline.media import MediaInfo
from pipeline.tags import MATRICES, PlanarLayout, unsupported_reason

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_HINT = "cut the file there and upscale the parts on their own"


class ColourFollower:
    """Says what the samples of each frame of one film mean.

    Args:
        info: The film, with the tags of its first frame.
        clock: Says a pts in words, for messages.
    """

    def __init__(self, info: MediaInfo, *, clock: Callable[[int], str]) -> None:
        self._path = info.path
        self._clock = clock
        self._video = info.video
        self._known: dict[tuple[int, int, int, int, str], SampleFormat] = {}
        self.changed_at: str | None = None
        """When a frame first had another matrix or range than the film, in words; None if none had."""

    def format_of(self, frame: VideoFrame, layout: PlanarLayout, *, pts: int) -> SampleFormat:
        """The format of a frame's planes.

        Args:
            frame: As decoded.
            layout: Of its pixel format.
            pts: Its time.

        Raises:
            UnsupportedMedia: Its primaries or transfer are other than the film's, or its matrix is not supported;
                names the time and both values.
        """
        key = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc, frame.format.name)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._resolve(frame, layout, self._clock(pts))
            if known != self._video.format and self.changed_at is None:
                self.changed_at = self._clock(pts)
        return known

    def _resolve(self, frame: VideoFrame, layout: PlanarLayout, clock: str) -> SampleFormat:
        tags, ours = self._video.tags, self._video.format
        for what, before, after in (
            ("colour primaries", tags.primaries, frame.color_primaries),
            ("transfer", tags.transfer, frame.color_trc),
        ):
            if after not in {UNSPECIFIED, 0, before} and before not in {UNSPECIFIED, 0}:
                raise UnsupportedMedia(
                    f"{self._path}: the {what} change from H.273 code {before} to {after} at {clock}",
                    path=self._path,
                    hint=_HINT,
                )
        if reason := unsupported_reason(replace(tags, matrix=frame.colorspace), pixel_format=frame.format.name):
            raise UnsupportedMedia(
                f"{self._path}: at {clock} the video {reason}, after matrix {ours.matrix}", path=self._path, hint=_HINT
            )
        matrix = ours.matrix
        if not layout.is_rgb and not layout.is_grey and frame.colorspace != 0:
            matrix = MATRICES.get(frame.colorspace, ours.matrix)
        full_range = ours.full_range
        if frame.color_range != 0:  # AVColorRange: 0 unspecified, 1 limited, 2 full
            full_range = frame.color_range == 2
        elif frame.format.name != self._video.pixel_format:  # yuvj420p among yuv420p
            full_range = layout.is_full_range
        return replace(ours, matrix=matrix, full_range=full_range)

"""Checks that every encoder makes on the frames it is given, and the count of them."""

from __future__ import annotations

from pathlib import Path

from pipeline.encode.base import EncodeResult, EncodeSpec
from pipeline.frames import Frame, FrameStamp


class FrameOrder:
    """Admits the frames of one segment: right size, right format, pts rising.

    libav rescales and converts frames of another size or format without a word, so this is checked before it.

    Args:
        path: The segment, for messages.
        spec: What the frames must be.
    """

    def __init__(self, path: Path, spec: EncodeSpec) -> None:
        self._path = path
        self._spec = spec
        self._frame_count = 0
        self._first: FrameStamp | None = None
        self._last: FrameStamp | None = None

    @property
    def first_pts(self) -> int:
        """Pts of the first admitted frame; 0 before it."""
        return self._first.pts if self._first else 0

    def admit(self, frame: Frame) -> None:
        """Count a frame.

        Raises:
            ValueError: It does not have the spec's size or format, or its pts does not follow the last one's.
        """
        spec = self._spec
        if (frame.height, frame.width) != (spec.height, spec.width):
            raise ValueError(
                f"{self._path.name}: frame {frame.stamp.index} is {frame.width}x{frame.height}, "
                f"the encoder was opened for {spec.width}x{spec.height}"
            )
        if frame.format != spec.format:
            raise ValueError(
                f"{self._path.name}: frame {frame.stamp.index} is {frame.format}, "
                f"the encoder was opened for {spec.format}"
            )
        if self._last is not None and frame.stamp.pts <= self._last.pts:
            raise ValueError(
                f"{self._path.name}: frame {frame.stamp.index} has pts {frame.stamp.pts} after {self._last.pts}"
            )
        if self._first is None:
            self._first = frame.stamp
        self._last = frame.stamp
        self._frame_count += 1

    def result(self, *, written_bytes: int) -> EncodeResult:
        """The counts so far."""
        return EncodeResult(
            frame_count=self._frame_count,
            bytes=written_bytes,
            first_pts=self._first.pts if self._first else None,
            last_pts=self._last.pts if self._last else None,
            last_duration=self._last.duration if self._last else 0,
        )

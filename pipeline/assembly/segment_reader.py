"""Reading the coded pictures of a segment, with the times they have in the film."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.decode.container import error_text, open_container, to_fraction
from pipeline.errors import OutputError

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedPicture:
    """One packet of a segment."""

    pts: int
    """In the source's time base."""
    dts: int
    """Decoding time in the same unit."""
    is_keyframe: bool
    content: bytes
    """What the encoder made, in the segment container's form."""


class SegmentReader:
    """A finished segment. A context manager.

    Args:
        path: The segment.

    Raises:
        OutputError: The file is not there, not readable, or has no video.
    """

    def __init__(self, path: Path) -> None:
        import av

        self._path = path
        try:
            self._container = open_container(path)
        except (av.FFmpegError, OSError) as exc:
            raise OutputError(
                f"cannot read the segment {path}: {error_text(exc)}",
                path=path,
                hint="start again: it will be encoded anew",
            ) from exc
        if not self._container.streams.video:
            self._container.close()
            raise OutputError(f"the segment {path} has no video", path=path, hint="start again")

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def stream(self) -> av.VideoStream:
        """The video stream, as a template for another container; valid until the reader is closed."""
        return self._container.streams.video[0]

    @property
    def extradata(self) -> bytes:
        """The codec's out-of-band header."""
        return bytes(self.stream.codec_context.extradata or b"")

    def pictures(self, *, first_pts: int, time_base: Fraction) -> Iterator[CodedPicture]:
        """Every coded picture in decoding order.

        Args:
            first_pts: Pts of the segment's first frame in the film; the file's own clock starts at 0 there.
            time_base: Unit of all pts: the source's.

        Raises:
            OutputError: The file is damaged, or a time is not a whole number of the source's ticks.
        """
        scale = to_fraction(self.stream.time_base) / time_base
        for packet in self._packets():
            pts, dts = (first_pts + ticks for ticks in self._ticks(packet, scale))
            yield CodedPicture(pts=pts, dts=dts, is_keyframe=packet.is_keyframe, content=bytes(packet))

    def contents(self) -> Iterator[bytes]:
        """What the encoder made of every picture, in decoding order.

        Raises:
            OutputError: The file is damaged.
        """
        for packet in self._packets():
            yield bytes(packet)

    def _packets(self) -> Iterator[Any]:
        import av

        try:
            for packet in self._container.demux(self.stream):
                if packet.size:  # all but the demuxer's end mark
                    yield packet
        except (av.FFmpegError, OSError) as exc:
            raise OutputError(
                f"cannot read the segment {self._path}: {error_text(exc)}",
                path=self._path,
                hint="start again: it will be encoded anew",
            ) from exc

    def _ticks(self, packet: Any, scale: Fraction) -> tuple[int, int]:
        """Pts and dts since the segment's first frame in the film's unit."""
        times = [time * scale for time in (packet.pts, packet.dts) if time is not None]
        if len(times) != 2 or any(time.denominator != 1 for time in times):
            raise OutputError(
                f"the segment {self._path} has a picture at {packet.pts}, which is not on the film's clock",
                path=self._path,
                hint="start again: it will be encoded anew",
            )
        return times[0].numerator, times[1].numerator

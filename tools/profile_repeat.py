"""A film that begins again at its end, for runs that would be over before they could be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pipeline.decode.base import Decoder
from pipeline.frames import Frame, FrameStamp
from pipeline.instruments import DecoderOpener
from tools.wrapped import WrappedDecoder


class RepeatedDecoder(WrappedDecoder):
    """A film's first frames, decoded again and again, at times that go on. See ``pipeline.decode.base.Decoder``.

    Args:
        inner: The film's decoder; closed with this one.
        frame_count: Frames after which it begins again, at least 1; all if the film has fewer.
    """

    def __init__(self, inner: Decoder, *, frame_count: int) -> None:
        super().__init__(inner)
        self._frame_count = frame_count

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield frames from the film's beginning, without an end of their own.

        Args:
            start: 0: what comes behind the film's end is only known once its end was seen.
            stop: First index not wanted; None: never.

        Raises:
            ValueError: ``start`` is not 0.
        """
        if start:
            raise ValueError(f"a film is repeated from its beginning, not from frame {start}")
        index = pts = 0
        while True:
            first: FrameStamp | None = None
            for frame in self._inner.frames(0, self._frame_count):
                first = first or frame.stamp
                if index == 0:
                    pts = first.pts
                if index == stop:
                    frame.release()
                    return
                stamp = replace(frame.stamp, index=index, pts=pts + frame.stamp.pts - first.pts)
                yield replace(frame, stamp=stamp)
                index += 1
            if first is None:
                return
            pts = stamp.pts + (stamp.duration or 1)


def repeat_decoder(frame_count: int) -> Callable[[DecoderOpener], DecoderOpener]:
    """Let every decoder begin again after so many frames of the film; for runs of one lane."""

    def wrap(opener: DecoderOpener) -> DecoderOpener:
        @contextmanager
        def opened() -> Iterator[Decoder]:
            with opener() as decoder:
                yield RepeatedDecoder(decoder, frame_count=frame_count)

        return opened

    return wrap

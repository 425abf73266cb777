"""A chain of libav's filters for the frames of one film."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
from av.filter import Graph

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class FrameFilter:
    """Passes frames of one size and format through filters.

    Args:
        model: A frame like those that will be passed.
        name: libav's name of the filter.
        options: In ffmpeg's notation, ``name=value:name=value``.

    Raises:
        av.FFmpegError: libav has no such filter, or not for such frames.
    """

    def __init__(self, model: VideoFrame, name: str, options: str | None = None) -> None:
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=model.width, height=model.height, format=model.format, time_base=model.time_base
        )
        self._graph.link_nodes(source, self._graph.add(name, options), self._graph.add("buffersink")).configure()

    def run(self, frame: VideoFrame | None) -> list[VideoFrame]:
        """Pass one frame, or None for the end, after which nothing may be passed.

        Returns:
            The frames that came out, perhaps none. The frame given stays as it is.

        Raises:
            av.FFmpegError: The filter failed.
        """
        self._graph.vpush(frame)
        passed = []
        while True:
            try:
                passed.append(self._graph.vpull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return passed

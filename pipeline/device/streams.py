"""Streams of a stage: made in its own thread, waited for and given back whatever ends it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from engines.errors import EngineError
from engines.gpu import Device, Stream

logger = logging.getLogger(__name__)


@contextmanager
def open_stream(device: Device) -> Iterator[Stream]:
    """Make the GPU current in this thread and open a stream on it.

    Leaving waits for everything in the stream: what it used may be given back then without an event.

    Args:
        device: The GPU.

    Yields:
        The stream.

    Raises:
        InferenceFailed: What was in the stream failed, and nothing else did before.
    """
    device.make_current()
    stream = device.make_stream()
    try:
        yield stream
    except BaseException:
        try:
            stream.close()
        except EngineError as exc:
            logger.warning("a stream was not given back in order: %s", exc)
        raise
    stream.close()

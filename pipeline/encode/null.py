"""The encoder that writes nothing: how fast is everything else?"""

from __future__ import annotations

from pathlib import Path

from engines.gpu import Device
from pipeline.encode.base import EncodeResult, EncodeSpec
from pipeline.encode.order import FrameOrder
from pipeline.frames import Frame


class NullEncoder:
    """Checks and counts frames; no file is made.

    Args:
        path: Where another encoder would write; left alone.
        spec: What the frames must be.
        device: Ignored; the frames may be anywhere.
    """

    def __init__(self, path: Path, spec: EncodeSpec, *, device: Device | None = None) -> None:  # noqa: ARG002 - every opener's
        self._order = FrameOrder(path, spec)

    def write(self, frame: Frame) -> None:
        """Count one frame. See ``Encoder.write``."""
        self._order.admit(frame)

    def finish(self) -> EncodeResult:
        """What was counted."""
        return self._order.result(written_bytes=0)

    def close(self) -> None:
        """Nothing to free."""

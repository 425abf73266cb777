"""Whether a hardware encoder's session opens on this machine: tried, not guessed from the driver's files."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import cast

import av
import av.logging

from pipeline.encode.libav import describe_libav_error, find_encoder
from pipeline.errors import SetupError

TRIAL_HEIGHT, TRIAL_WIDTH = 256, 256
"""Pixels of the trial's pictures: small, but no encoder's least size."""
TRIAL_FRAMES = 3
"""Pictures that the trial encodes: enough for an I, a P and a B."""
_SPACE = re.compile(r"\s+")


def try_session(name: str) -> None:
    """Open a hardware encoder with no settings at all and encode a few small grey pictures. Holds nothing afterwards.

    Args:
        name: libav's name of the encoder.

    Raises:
        SetupError: No session opens; with what the driver or libav said.
    """
    find_encoder(name)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    packets = 0
    try:
        with av.logging.Capture() as messages:
            try:
                packets = _encode_grey(name)
            except (av.FFmpegError, OSError) as exc:
                raise SetupError(
                    f"{name} opens no session here: {_reason(messages) or describe_libav_error(exc)}", missing=name
                ) from exc
    finally:
        av.logging.set_level(level)
    if packets != TRIAL_FRAMES:
        raise SetupError(f"{name} gave {packets} packets for {TRIAL_FRAMES} pictures", missing=name)


def _encode_grey(name: str) -> int:
    context = cast(av.VideoCodecContext, av.CodecContext.create(name, "w"))
    context.width, context.height, context.pix_fmt = TRIAL_WIDTH, TRIAL_HEIGHT, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.framerate = Fraction(25)
    context.open()
    packets = 0
    for pts in range(TRIAL_FRAMES):
        picture = av.VideoFrame(TRIAL_WIDTH, TRIAL_HEIGHT, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        picture.pts, picture.time_base = pts, context.time_base
        packets += len(context.encode(picture))
    return packets + len(context.encode(None))


def _reason(messages: list[tuple[int, str, str]]) -> str:
    """What libav logged, in one line."""
    said = [_SPACE.sub(" ", text).strip().rstrip(".") for level, _, text in messages if level <= av.logging.ERROR]
    return "; ".join(dict.fromkeys(text for text in said if text))

"""Encoding: frames of one segment in, one file out, through the encoder that the config and the machine allow."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from engines.gpu import Device
from pipeline.encode.base import Encoder, EncodeResult, EncodeSpec
from pipeline.encode.choose import EncoderChoice, choose_encoder, tags_for
from pipeline.encode.table import ENCODERS, EncoderSpec
from pipeline.media import VideoTrack

__all__ = [
    "check_encoder",
    "choose_encoder",
    "describe_hdr_losses",
    "describe_losses",
    "Encoder",
    "EncoderChoice",
    "ENCODERS",
    "EncoderSpec",
    "EncodeResult",
    "EncodeSpec",
    "open_encoder",
    "tags_for",
]


def open_encoder(path: Path, spec: EncodeSpec, *, device: Device | None = None) -> Encoder:
    """Open an encoder that writes one segment.

    Args:
        path: File to write; an encoder whose product is ``nothing`` leaves it alone.
        spec: How to encode.
        device: The GPU that holds the frames, if the encoder takes them from there (``EncoderSpec.surface_format``);
            None: they are in host memory.

    Raises:
        ConfigError: A quality, preset or option is refused.
        SetupError: This machine has no such encoder.
        OutputError: The file cannot be made, or the encoder cannot be opened.
    """
    module, _, name = spec.encoder.opener.partition(":")
    return cast(Encoder, getattr(import_module(module), name)(path, spec, device=device))


def check_encoder(spec: EncodeSpec) -> None:
    """Try the settings on the real encoder before any work is done.

    Raises:
        ConfigError: The frame size, a quality, preset or option is refused; says which and what is allowed.
        SetupError: This machine has no such encoder, or no session of a hardware encoder opens; says what can be used.
    """
    from pipeline.encode.options import build_options

    encoder = spec.encoder
    _check_shape(spec)
    build_options(spec)
    if encoder.codec:
        from pipeline.encode.trial import try_encoder

        try_encoder(spec)


def describe_hdr_losses(video: VideoTrack, spec: EncodeSpec) -> tuple[str, ...]:
    """What no choice of encoder keeps of an HDR film, one warning each, for before the run.

    Args:
        video: The film.
        spec: How it is encoded.
    """
    losses = [f"the film's {name} metadata will be lost: no encoder here writes it" for name in video.dynamic_hdr]
    curve = {16: "PQ", 18: "HLG"}.get(spec.tags.transfer)
    # ITU-R BT.2100-2 table 9 has them in 10 and 12 bits only
    if curve is not None and spec.format.bit_depth < 10 and spec.encoder.product != "nothing":
        losses.append(f"{curve} in {spec.format.bit_depth} bits will show bands; set encode.bit_depth: 10")
    return tuple(losses)


def describe_losses(spec: EncodeSpec) -> tuple[str, ...]:
    """What the film states and this encoder cannot write, one warning each, for before the run."""
    encoder = spec.encoder
    if encoder.product != "film":
        return ()
    absent = [
        name
        for name, value, param in (
            ("mastering display", spec.mastering_display, encoder.mastering_param),
            ("content light level", spec.content_light, encoder.light_param),
        )
        if value and not param
    ]
    if not absent:
        return ()
    software = [other.name for other in ENCODERS.values() if other.codec == encoder.codec and other.mastering_param]
    instead = f"; encode.kind: {' or '.join(software)} keeps it" if software else ""
    return (f"the film's HDR10 {' and '.join(absent)} will be lost: {encoder.name} cannot write it{instead}",)


def _check_shape(spec: EncodeSpec) -> None:
    from pipeline.errors import ConfigError

    encoder = spec.encoder
    shape = f"{spec.width}x{spec.height}"
    if min(spec.height, spec.width) < encoder.minimum_px:
        raise ConfigError(
            (f"scale: {encoder.name} takes pictures from {encoder.minimum_px} px on (got {shape})",),
            hint="choose a larger output size, or encode.kind: ffv1, which takes any",
        )
    odd_height = spec.height % 2 and spec.format.subsampling == "420"
    odd_width = spec.width % 2 and spec.format.subsampling != "444"
    if encoder.needs_even and (odd_height or odd_width):
        raise ConfigError(
            (f"scale: {encoder.name} needs even sides with {spec.format.subsampling} chroma (got {shape})",),
            hint="choose an even output size, encode.chroma: '444', or encode.kind: ffv1, which takes any",
        )

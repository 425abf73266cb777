"""Trying settings on the real encoder before any work is done."""

from __future__ import annotations

import re

from pipeline.encode.base import EncodeSpec
from pipeline.encode.options import build_options
from pipeline.errors import ConfigError

_REFUSED_OPTION = re.compile(r"Unknown option|Invalid value for|Error parsing option")
"""libx264, libx265 and libsvtav1 warn so about a bad entry of their ``-params`` list, and go on without it."""


def try_encoder(spec: EncodeSpec) -> None:
    """Open the encoder for pictures of the real size and close it again, so that bad settings show before the work.

    Raises:
        ConfigError: The table or the encoder refuses the size, a quality, preset or option; names all that it names.
        SetupError: This libav has no such encoder.
    """
    import av
    import av.logging

    from pipeline.encode.libav import describe_libav_error, find_encoder, set_environment, set_up

    encoder = spec.encoder
    pixel_format = encoder.pixel_format(spec.format)
    if pixel_format is None:
        raise ValueError(f"{encoder.name} does not take {spec.format}")
    options = build_options(spec)
    set_environment(spec)
    find_encoder(encoder.name)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as messages:
            context = av.CodecContext.create(encoder.name, "w")
            set_up(context, spec, pixel_format, options)
            try:
                context.open()
            except (av.FFmpegError, OSError) as exc:
                raise ConfigError((_refusal(spec, describe_libav_error(exc)),), hint=_settings(options)) from exc
    finally:
        av.logging.set_level(level)
    refused = [text.strip() for _, _, text in messages if _REFUSED_OPTION.search(text)]
    # libav leaves exactly those options that it did not recognise
    refused += [f"Unknown option: {key} (value {value!r})" for key, value in dict(context.options).items()]
    if refused:
        raise ConfigError(
            tuple(f"encode.options: {encoder.name}: {text.rstrip('.')}" for text in refused),
            hint=f"`ffmpeg -h encoder={encoder.name}` lists what it takes",
        )


def _refusal(spec: EncodeSpec, reason: str) -> str:
    shape = f"{spec.width}x{spec.height}, {spec.format.bit_depth} bit"
    return f"encode: {spec.encoder.name} cannot be opened for {shape}: {reason}"


def _settings(options: dict[str, str]) -> str:
    listed = ", ".join(f"{key}={value}" for key, value in options.items())
    return f"it was given {listed}" if listed else ""

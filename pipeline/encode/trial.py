"""Trying settings on the real encoder before any work is done."""

from __future__ import annotations

import re

from pipeline.encode.base import EncodeSpec
from pipeline.encode.options import build_options
from pipeline.errors import ConfigError, SetupError

_REFUSED_OPTION = re.compile(r"Unknown option|Invalid value for|Error parsing option")
"""libx264, libx265 and libsvtav1 warn so about a bad entry of their ``-params`` list, and go on without it."""


def try_encoder(spec: EncodeSpec) -> None:
    """Open the encoder for pictures of the real size and close it again, so that bad settings show before the work.

    Raises:
        ConfigError: The table or the encoder refuses the size, a quality, preset or option; names all that it names.
        SetupError: This libav has no such encoder, or no session of a hardware encoder opens here.
    """
    import av
    import av.logging

    from pipeline.encode.libav import describe_libav_error, find_encoder, make_pictures, set_environment, set_up

    encoder = spec.encoder
    pictures = make_pictures(spec)
    options = build_options(spec)
    set_environment(spec)
    find_encoder(encoder.name)
    if encoder.is_hardware:
        check_session(spec)  # once it opens bare, a refusal below is about the settings
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as messages:
            context = av.CodecContext.create(encoder.name, "w")
            set_up(context, spec, options, context_format=pictures.context_format)
            try:
                context.open()
            except (av.FFmpegError, OSError) as exc:
                said = [describe_libav_error(exc)]
                if encoder.is_hardware:  # what the GPU lacks is said in warnings, before an error without a word
                    said += [text.strip().rstrip(".") for _, _, text in messages]
                raise ConfigError((_refusal(spec, said),), hint=_settings(options)) from exc
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


def check_session(spec: EncodeSpec) -> None:
    """Make sure that a hardware encoder works here at all.

    Raises:
        SetupError: It does not; the hint names what can be used instead.
    """
    from pipeline.encode.session import try_session
    from pipeline.encode.table import ENCODERS

    encoder = spec.encoder
    others = [
        other.name
        for other in ENCODERS.values()
        if other.codec == encoder.codec and other.product == encoder.product and not other.is_hardware
    ]
    try:
        try_session(encoder.name)
    except SetupError as exc:
        hint = f"set encode.kind: {' or '.join(others)}, or auto with encode.codec: {encoder.codec}"
        raise SetupError(str(exc), missing=encoder.name, hint=hint) from exc


def _refusal(spec: EncodeSpec, said: list[str]) -> str:
    shape = f"{spec.width}x{spec.height}, {spec.format.bit_depth} bit"
    if spec.encoder.is_hardware:  # which GPU has which chroma format is often the question
        shape += f", {':'.join(spec.format.subsampling)}"
    reason = "; ".join(dict.fromkeys(said))
    return f"encode: {spec.encoder.name} cannot be opened for {shape}: {reason}"


def _settings(options: dict[str, str]) -> str:
    listed = ", ".join(f"{key}={value}" for key, value in options.items())
    return f"it was given {listed}" if listed else ""

"""How one film is encoded: from the config's words and the film to settings that were tried on the real encoder."""

from __future__ import annotations

from engines import ModelSpec
from pipeline.config import Config
from pipeline.config.models import EncodeSection
from pipeline.encode import EncoderChoice, EncodeSpec, check_encoder, choose_encoder, describe_losses
from pipeline.errors import ConfigError
from pipeline.media import MediaInfo
from pipeline.sizes import choose_output_size


def plan_encoding(
    config: Config, info: MediaInfo, *, model: ModelSpec, encode: EncodeSection | None = None
) -> tuple[EncodeSpec, str]:
    """Choose encoder, size and sample format, and try them on the encoder.

    With ``encode.kind: auto`` an encoder in hardware must take the config's own settings, hold as much of the film as
    software does and keep its HDR10 metadata; otherwise software is taken and the reason says why.

    Args:
        config: The run.
        info: The film.
        model: Its network, for the size where none is asked for.
        encode: What is asked of the encoder; None: the config's ``encode``.

    Returns:
        How to encode, and one line that says why so.

    Raises:
        ConfigError: The encoder, its settings, the format or the size cannot be.
        SetupError: The encoder is missing or does not work here; says what can be used.
    """
    video, scale = info.video, config.scale
    wish = encode or config.encode

    def specify(choice: EncoderChoice) -> EncodeSpec:
        height, width = choose_output_size(
            height=video.height,
            width=video.width,
            model_scale=model.scale,
            subsampling=choice.format.subsampling,
            factor=scale.factor,
            to_height=scale.height,
            to_width=scale.width,
            fit=None if scale.fit is None else (scale.fit.height, scale.fit.width),
        )
        return EncodeSpec(
            encoder=choice.spec,
            height=height,
            width=width,
            format=choice.format,
            tags=choice.tags(video.tags),
            time_base=video.time_base,
            average_rate=video.average_rate,
            sample_aspect=video.sample_aspect,
            quality=wish.quality,
            preset=wish.preset,
            options=dict(wish.options),
            threads=wish.threads,
            mastering_display=video.mastering_display,
            content_light=video.content_light,
        )

    def try_out(choice: EncoderChoice) -> None:
        spec = specify(choice)
        losses = describe_losses(spec)
        if losses and wish.kind == "auto" and choice.spec.is_hardware:
            raise ConfigError(losses)  # speed is no reason to lose what software keeps
        check_encoder(spec)

    choice = choose_encoder(
        wish.kind,
        codec=wish.codec,
        source=video.format,
        bit_depth=wish.bit_depth,
        chroma=wish.chroma,
        trial=try_out,
    )
    return specify(choice), choice.reason

"""Which encoder writes the film, and in which sample format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from pipeline.encode.base import EncodeSpec
from pipeline.encode.table import ENCODERS, EncoderSpec, FormatKey
from pipeline.errors import ConfigError, SetupError
from pipeline.frames import UNSPECIFIED, ColourTags, Matrix, SampleFormat, Subsampling

_MATRIX_CODES: dict[Matrix, int] = {"rgb": 0, "bt709": 1, "bt601": 6, "bt2020nc": 9}
"""ITU-T H.273 MatrixCoefficients; of the two equal BT.601 codes, 5 and 6, the latter."""
_BT601_CODES = (5, 6)
_SUBSAMPLINGS: tuple[Subsampling, ...] = ("420", "422", "444")
"""From least to most chroma."""
_REINSTALL = "pip install --force-reinstall --only-binary av av; or choose another encode.kind"
_TRIAL_PX = 256
"""Side of the pictures for which a session is tried where no size is known: small, but no encoder's least size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderChoice:
    """What will be used, and why."""

    spec: EncoderSpec
    format: SampleFormat
    """What the frames must be converted to."""
    source: SampleFormat
    """What the film's frames are."""
    reason: str
    """One line for the log."""

    def tags(self, tags: ColourTags) -> ColourTags:
        """Colour description of the result, from the film's own. See ``tags_for``."""
        return tags_for(self.format, source=self.source, tags=tags)


def choose_encoder(
    kind: str,
    *,
    codec: str,
    source: SampleFormat,
    bit_depth: Literal["source"] | int = "source",
    chroma: Literal["source"] | Subsampling = "source",
    is_present: Callable[[EncoderSpec], bool] | None = None,
    trial: Callable[[EncoderChoice], None] | None = None,
) -> EncoderChoice:
    """Choose the encoder and the sample format of the result.

    What is asked for by value must be possible. What is ``source`` becomes the film's own or, where the encoder cannot
    do that, the nearest that holds as much, else the most it can.

    ``auto`` takes a hardware encoder only if its trial succeeds and no software encoder holds more of the film;
    otherwise the reason says why it was passed over.

    Args:
        kind: ``auto`` or a name in ``ENCODERS``.
        codec: libav codec name that ``auto`` must give.
        source: The film's sample format.
        bit_depth: Bits per sample of the result.
        chroma: Chroma sampling of the result.
        is_present: Whether this machine has an encoder; by default libav is asked.
        trial: Tries a choice with the settings of the run and raises ConfigError or SetupError where it does not work;
            applied to whatever is about to be chosen. None: only what ``auto`` finds in hardware is tried, on a few
            small pictures.

    Raises:
        ConfigError: No such kind; or the encoder cannot do the bit depth or chroma asked for, with what it can; or the
            trial refused the settings.
        SetupError: This machine lacks the encoder, or the trial found that it does not work here.
    """
    present = is_present if is_present is not None else _is_in_libav

    def choose(encoder: EncoderSpec, *, origin: str) -> EncoderChoice:
        result = _choose_format(encoder, source=source, bit_depth=bit_depth, chroma=chroma)
        reason = f"{encoder.name}: {origin}; {FormatKey.of(result)}{_describe_changes(source, result)}"
        return EncoderChoice(spec=encoder, format=result, source=source, reason=reason)

    if kind != "auto":
        if kind not in ENCODERS:
            raise ConfigError((f"encode.kind: must be auto or one of {', '.join(ENCODERS)} (got {kind!r})",))
        encoder = ENCODERS[kind]
        if not present(encoder):
            raise _missing(encoder.name, codec=encoder.codec)
        choice = choose(encoder, origin="named in the config")
        if trial is not None:
            trial(choice)
        return choice

    candidates = _find_candidates(codec, present)
    software = next((spec for spec in candidates if not spec.is_hardware), None)
    origin = f"the first encoder for {codec} that this machine has"
    passed_over: list[str] = []
    for encoder in candidates:
        if not encoder.is_hardware:
            continue
        try:
            choice = choose(encoder, origin=origin)
            if software is not None:
                _check_holds_as_much(choice, choose(software, origin=origin))
            (trial or _try_small)(choice)
        except (ConfigError, SetupError) as exc:
            passed_over.append(f"not {encoder.name} ({str(exc).splitlines()[0]})")
        else:
            return choice
    if software is None:
        absent = ", ".join(spec.name for spec in _encoders_of(codec) if not spec.is_hardware)
        raise SetupError(
            f"no encoder for {codec} works here: this build of PyAV lacks {absent}; {'; '.join(passed_over)}",
            missing=absent,
            hint=_REINSTALL,
        )
    choice = choose(software, origin=origin)
    if trial is not None:
        trial(choice)
    return replace(choice, reason="; ".join((choice.reason, *passed_over)))


def tags_for(result: SampleFormat, *, source: SampleFormat, tags: ColourTags) -> ColourTags:
    """Colour description of the result: the film's own, with matrix and range always stated.

    A player guesses an unstated matrix from the picture size, which upscaling changes; so what the samples were really
    made with is written. Primaries and transfer stay as the film says, also unstated.

    Args:
        result: Format of the encoded frames.
        source: Format of the film's frames.
        tags: The film's own description.
    """
    matrix = _MATRIX_CODES[result.matrix]
    if result.matrix == "bt601" and tags.matrix in _BT601_CODES:
        matrix = tags.matrix
    same_grid = (result.subsampling, result.chroma_location) == (source.subsampling, source.chroma_location)
    location = tags.chroma_location if same_grid else result.chroma_location
    return replace(
        tags,
        matrix=matrix,
        full_range=result.full_range,
        chroma_location=location if result.subsampling == "420" else None,
        primaries=tags.primaries or UNSPECIFIED,  # 0 is reserved in H.273
        transfer=tags.transfer or UNSPECIFIED,
    )


def _find_candidates(codec: str, present: Callable[[EncoderSpec], bool]) -> list[EncoderSpec]:
    """The encoders of a codec that libav has here, in the table's order; at least one."""
    known = _encoders_of(codec)
    if not known:
        codecs = sorted({spec.codec for spec in ENCODERS.values() if spec.product == "film"})
        raise ConfigError((f"encode.codec: must be one of {', '.join(codecs)} (got {codec!r})",))
    here = [spec for spec in known if present(spec)]
    if not here:
        raise _missing(", ".join(spec.name for spec in known), codec=codec)
    return here


def _encoders_of(codec: str) -> list[EncoderSpec]:
    return [spec for spec in ENCODERS.values() if spec.codec == codec and spec.product == "film"]


def _check_holds_as_much(choice: EncoderChoice, other: EncoderChoice) -> None:
    """Speed is no reason to lose bits or chroma that another encoder of the codec would keep."""
    wished = FormatKey.of(choice.source)
    ours, theirs = FormatKey.of(choice.format), FormatKey.of(other.format)
    if _distance(ours, wished) > _distance(theirs, wished):
        raise ConfigError((f"the film is {wished}, of which {choice.spec.name} keeps {ours}",))


def _try_small(choice: EncoderChoice) -> None:
    """Whether a session opens, and for this sample format, without any of a run's settings."""
    from pipeline.encode.trial import try_encoder

    spec = EncodeSpec(
        encoder=choice.spec,
        height=_TRIAL_PX,
        width=_TRIAL_PX,
        format=choice.format,
        tags=choice.tags(ColourTags()),
        time_base=Fraction(1, 1000),
    )
    try_encoder(spec)


def _is_in_libav(encoder: EncoderSpec) -> bool:
    if not encoder.codec:
        return True
    from pipeline.encode.libav import find_encoder

    try:
        find_encoder(encoder.name)
    except SetupError:
        return False
    return True


def _missing(names: str, *, codec: str) -> SetupError:
    return SetupError(
        f"this build of PyAV has no encoder for {codec} ({names})",
        missing=names,
        hint=_REINSTALL,
    )


def _choose_format(
    encoder: EncoderSpec, *, source: SampleFormat, bit_depth: Literal["source"] | int, chroma: str
) -> SampleFormat:
    keys = [key for key in encoder.pixel_formats if bit_depth in {"source", key.bit_depth}]
    keys = [key for key in keys if chroma in {"source", key.subsampling}]
    if not keys:
        asked = " ".join(
            text
            for text in (
                f"encode.bit_depth: {bit_depth}" if bit_depth != "source" else "",
                f"encode.chroma: {chroma}" if chroma != "source" else "",
            )
            if text
        )
        listed = ", ".join(str(key) for key in encoder.pixel_formats)
        raise ConfigError((f"{asked}: {encoder.name} cannot do that; it takes {listed}",), hint="leave it at source")
    wished = FormatKey.of(source)
    best = min(keys, key=lambda key: _distance(key, wished))
    if best.colour == "rgb":
        return SampleFormat(
            matrix="rgb",
            subsampling="444",
            bit_depth=best.bit_depth,
            full_range=encoder.full_range_only or source.matrix != "rgb" or source.full_range,
        )
    is_from_rgb = source.matrix == "rgb"
    location = source.chroma_location if source.subsampling == best.subsampling else "left"
    return SampleFormat(
        matrix="bt709" if is_from_rgb else source.matrix,
        subsampling=best.subsampling,
        bit_depth=best.bit_depth,
        full_range=source.full_range and not encoder.limited_range_only and not is_from_rgb,
        chroma_location=location if location in encoder.chroma_locations else "left",
    )


def _distance(key: FormatKey, wished: FormatKey) -> tuple[bool, bool, int, bool, int]:
    """Smaller is nearer: same kind of colour, then no lost chroma, then no lost bits."""
    chroma_step = _SUBSAMPLINGS.index(key.subsampling) - _SUBSAMPLINGS.index(wished.subsampling)
    depth_step = key.bit_depth - wished.bit_depth
    return (key.colour != wished.colour, chroma_step < 0, abs(chroma_step), depth_step < 0, abs(depth_step))


def _describe_changes(source: SampleFormat, result: SampleFormat) -> str:
    before, after = FormatKey.of(source), FormatKey.of(result)
    parts = [f"the film is {before}"] if before != after else []
    if source.full_range and not result.full_range:
        parts.append("full range becomes limited")
    return f" ({', '.join(parts)})" if parts else ""

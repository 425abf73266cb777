"""From quality, preset, threads and passed-through options to what libav's encoder is opened with."""

from __future__ import annotations

import re

from pipeline.encode.base import EncodeSpec
from pipeline.errors import ConfigError
from pipeline.host import cpu_flags

_CHROMATICITY_UNIT = 0.00002
"""SMPTE ST 2086: chromaticity coordinates in steps of 0.00002."""
_LUMINANCE_UNIT = 0.0001
"""SMPTE ST 2086: luminances in steps of 0.0001 cd/m2."""


def build_options(spec: EncodeSpec) -> dict[str, str]:
    """Options for libav, the user's own last and winning.

    Raises:
        ConfigError: Every quality, preset or thread count that the encoder's table row does not allow.
    """
    encoder = spec.encoder
    problems = _find_problems(spec)
    if problems:
        raise ConfigError(problems, hint=_hint(spec))
    options = dict(encoder.fixed_options)
    if encoder.presets:
        options[encoder.preset_option] = spec.preset if spec.preset is not None else encoder.default_preset
    if encoder.quality is not None:
        default = None if _other_rate_control(spec) else encoder.quality.default
        quality = spec.quality if spec.quality is not None else default
        if quality is not None:
            options.update(encoder.quality_options)
            options[encoder.quality.name] = f"{quality * encoder.quality.factor:g}"
    if encoder.params_option:
        params = dict(encoder.fixed_params)
        if encoder.avx512_params and not _takes_avx512(spec) and "avx512f" in cpu_flags():
            params |= dict(encoder.avx512_params)
        if encoder.threads_param and spec.threads:
            params[encoder.threads_param] = str(spec.threads)
        if encoder.mastering_param and spec.mastering_display:
            display = spec.mastering_display
            params[encoder.mastering_param] = _as_decimals(display) if encoder.mastering_as_decimals else display
        if encoder.light_param and spec.content_light:
            params[encoder.light_param] = spec.content_light
        own = ":".join(f"{key}={value}" for key, value in params.items())
        asked = spec.options.get(encoder.params_option, "")
        joined = ":".join(part for part in (own, asked) if part)
        if joined:
            options[encoder.params_option] = joined
    options.update((key, value) for key, value in spec.options.items() if key != encoder.params_option)
    return options


def _find_problems(spec: EncodeSpec) -> tuple[str, ...]:
    encoder = spec.encoder
    problems = []
    if spec.quality is not None:
        quality = encoder.quality
        if quality is None:
            problems.append(f"encode.quality: {encoder.name} has no quality setting (got {spec.quality:g})")
        elif not quality.minimum <= spec.quality <= quality.maximum:
            problems.append(
                f"encode.quality: must be {quality.minimum:g} to {quality.maximum:g} for {encoder.name} "
                f"(got {spec.quality:g})"
            )
        elif quality.whole and spec.quality != int(spec.quality):
            problems.append(f"encode.quality: must be a whole number for {encoder.name} (got {spec.quality:g})")
        if other := _other_rate_control(spec):
            problems.append(
                f"encode.quality: {encoder.name} takes either a quality or another rate control (got {spec.quality:g}, "
                f"encode.options has {', '.join(other)})"
            )
    if spec.preset is not None and spec.preset not in encoder.presets:
        choices = f"must be one of {', '.join(encoder.presets)}" if encoder.presets else "must not be set"
        problems.append(f"encode.preset: {choices} for {encoder.name} (got {spec.preset!r})")
    if spec.options and not encoder.codec:
        problems.append(f"encode.options: {encoder.name} takes none (got {', '.join(sorted(spec.options))})")
    if spec.threads < 0:
        problems.append(f"encode.threads: must be 0 or more (got {spec.threads})")
    return tuple(problems)


def _takes_avx512(spec: EncodeSpec) -> bool:
    """Whether the encoder's bits are the same with AVX-512; any option of the user's could change what it does."""
    preset = spec.preset if spec.preset is not None else spec.encoder.default_preset
    return preset in spec.encoder.avx512_presets and not spec.options


def _other_rate_control(spec: EncodeSpec) -> list[str]:
    return [f"{name}={spec.options[name]}" for name in spec.encoder.rate_options if name in spec.options]


def _hint(spec: EncodeSpec) -> str:
    encoder = spec.encoder
    parts = []
    if encoder.quality is not None and encoder.quality.default is not None:
        parts.append(f"quality {encoder.quality.default:g}")
    if encoder.presets:
        parts.append(f"preset {encoder.default_preset}")
    return f"leave them out for the defaults: {', '.join(parts)}" if parts else ""


def _as_decimals(mastering_display: str) -> str:
    """``G(13250,34500)...L(10000000,50)`` with chromaticities and cd/m2 as decimal numbers."""

    def scale(match: re.Match[str]) -> str:
        unit = _LUMINANCE_UNIT if match["name"] == "L" else _CHROMATICITY_UNIT
        first, second = (int(match[key]) * unit for key in ("first", "second"))
        return f"{match['name']}({first:.5f},{second:.5f})"

    return re.sub(r"(?P<name>G|B|R|WP|L)\((?P<first>\d+),(?P<second>\d+)\)", scale, mastering_display)

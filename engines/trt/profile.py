"""The tile sizes that an engine is compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from engines.build_options import BuildOptions
from engines.errors import UnsupportedShape
from engines.spec import ModelSpec

IMAGE_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Smallest, tuned-for and largest input, each (batch, height, width) with sizes in input pixels."""

    min: tuple[int, int, int]
    """Smallest of each that the engine takes."""
    opt: tuple[int, int, int]
    """What it is tuned for."""
    max: tuple[int, int, int]
    """Largest of each that it takes; its memory is sized for this."""

    @property
    def is_static(self) -> bool:
        """Whether it takes exactly one shape."""
        return self.min == self.opt == self.max

    @property
    def shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """(N, 3, H, W) for min, opt and max."""
        return tuple((batch, IMAGE_CHANNELS, height, width) for batch, height, width in (self.min, self.opt, self.max))

    @property
    def text(self) -> str:
        """The profile in words: ``1x3x64x64``, or three of these joined by two dots."""
        if self.is_static:
            return _words(self.opt)
        return "..".join(_words(shape) for shape in (self.min, self.opt, self.max))

    def check(self, *, batch: int, height: int, width: int) -> None:
        """Check that the engine takes tiles of a size.

        Raises:
            UnsupportedShape: It does not; the profile's limit is named.
        """
        asked = (batch, height, width)
        if self.is_static and asked != self.opt:
            raise UnsupportedShape(
                f"the engine was compiled for {_words(self.opt)} only, not for {_words(asked)}",
                hint="compile one for this size, or a dynamic one",
            )
        for name, value, least, most in zip(("batch", "height", "width"), asked, self.min, self.max, strict=True):
            unit = "" if name == "batch" else " px"
            if value > most:
                raise UnsupportedShape(
                    f"{name} {value}{unit} is more than the engine's maximum of {most}{unit} (profile {self.text})",
                    hint=f"use smaller tiles or batches, or compile the engine with a maximum of {value}",
                )
            if value < least:
                raise UnsupportedShape(
                    f"{name} {value}{unit} is less than the engine's minimum of {least}{unit} (profile {self.text})",
                    hint=f"use larger tiles, or compile the engine with a minimum of {value}",
                )


def plan_profile(options: BuildOptions, *, batch: int, height: int, width: int) -> Profile:
    """Decide what sizes to compile for: the one asked for, or the options' range where they say ``dynamic``.

    Args:
        options: The user's choices.
        batch: Tiles per call; a dynamic engine also takes fewer.
        height, width: Tile size in input pixels.

    Raises:
        EngineError: min, opt and max are not in order.
        UnsupportedShape: A size is not positive, or not inside the range asked for.
    """
    options.check()
    for name, value in (("batch", batch), ("height", height), ("width", width)):
        if value < 1:
            raise UnsupportedShape(f"{name} must be at least 1, not {value}")
    asked = (batch, height, width)
    if not options.dynamic:
        return Profile(min=asked, opt=asked, max=asked)
    profile = Profile(
        min=(1, options.min_px, options.min_px),
        opt=(batch, options.opt_px, options.opt_px),
        max=(batch, options.max_px, options.max_px),
    )
    profile.check(batch=batch, height=height, width=width)
    return profile


def check_model_sizes(profile: Profile, model: ModelSpec) -> None:
    """Check that a network takes the sizes of a profile.

    Raises:
        UnsupportedShape: A side is shorter than the network's shortest or no multiple of what it needs.
    """
    for batch, height, width in dict.fromkeys((profile.min, profile.opt, profile.max)):
        shape = _words((batch, height, width))
        if min(height, width) < model.min_px:
            raise UnsupportedShape(
                f"{model.name} takes tiles of at least {model.min_px} px, not {shape}", hint="use larger tiles"
            )
        if height % model.size_multiple or width % model.size_multiple:
            raise UnsupportedShape(
                f"{model.name} takes tiles whose sides are multiples of {model.size_multiple} px, not {shape}",
                hint=f"round the sides to a multiple of {model.size_multiple}",
            )


def _words(shape: tuple[int, int, int]) -> str:
    batch, height, width = shape
    return f"{batch}x{IMAGE_CHANNELS}x{height}x{width}"

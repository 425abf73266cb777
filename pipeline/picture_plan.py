"""What is decided about pictures before they are upscaled: what they become, and what of them is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.encode.table import ENCODERS
from pipeline.media import MediaInfo

if TYPE_CHECKING:
    from pipeline.config.models import EncodeSection
    from pipeline.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTerms:
    """The decision about one film; for films in files it changes nothing."""

    info: MediaInfo
    """The film as its frames leave the decoder."""
    encode: EncodeSection
    """How it is encoded, in the config's words."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureForm:
    """What the pictures that a job writes are like, beside their colours."""

    names: tuple[str, ...]
    """Of each, in order; those of the sources, as PNG."""
    sources: tuple[Path, ...]
    """What each is made of."""
    height: int
    width: int
    is_paired: bool
    """Whether the segments hold each picture's alpha behind its colours."""
    is_grey: bool
    profile: bytes
    """ICC colour profile; empty for none."""
    compression: int
    """zlib's level, 0 to 9."""


def plan_pictures(config: Config, info: MediaInfo) -> PictureTerms:
    """Decide what becomes of pictures: one by itself is always written as a picture, a sequence as the config says.

    Args:
        config: The run.
        info: The film.
    """
    pictures = info.pictures
    if pictures is None:
        return PictureTerms(info=info, encode=config.encode)
    from pipeline.decode.images import pair_alpha

    encode = config.encode
    encoder = ENCODERS.get(encode.kind)
    product = "film" if encoder is None else encoder.product
    if product == "film" and pictures.is_single:
        # what is said of films (quality, preset, options) says nothing about PNG
        encode = type(encode).model_construct(kind="png", dither=encode.dither)
        product = "pictures"
    warnings = []
    if pictures.has_alpha and product == "pictures":
        info = pair_alpha(info)
    elif pictures.has_alpha and product == "film":
        warnings.append("transparency is left out: the result is no picture (encode.kind: png keeps it)")
    if pictures.profile and product == "film":
        warnings.append("the colour profile is left out: films cannot hold it; convert the pictures to sRGB or BT.709")
    if _is_misfit(pictures.profile, is_grey=pictures.is_grey) and product == "pictures":
        warnings.append("the colour profile is left out: it is one for grey pictures")
    return PictureTerms(info=info, encode=encode, warnings=tuple(warnings))


def picture_form(plan: JobPlan) -> PictureForm | None:
    """What a job's pictures are like; None if it writes a film, or pictures of a film in a file."""
    pictures = plan.info.pictures
    if pictures is None or plan.container not in ("png", "picture"):
        return None
    stems = Counter(path.stem for path in pictures.files)
    is_misfit = _is_misfit(pictures.profile, is_grey=pictures.is_grey)
    level = plan.encode.preset or plan.encode.encoder.default_preset
    return PictureForm(
        # two sources may differ in their suffix alone
        names=tuple(f"{path.stem if stems[path.stem] == 1 else path.name}.png" for path in pictures.files),
        sources=pictures.files,
        height=plan.height,
        width=plan.width,
        is_paired=pictures.is_paired,
        # a profile for colours says nothing about a grey picture: it stays one in colours
        is_grey=pictures.is_grey and (not pictures.profile or _is_for_grey(pictures.profile)),
        profile=b"" if is_misfit else pictures.profile,
        compression=int(level),
    )


def _is_for_grey(profile: bytes) -> bool:
    """Whether an ICC profile is for grey pictures. Source: ICC.1:2022 7.2.6."""
    return profile[16:20] == b"GRAY"


def _is_misfit(profile: bytes, *, is_grey: bool) -> bool:
    return _is_for_grey(profile) and not is_grey

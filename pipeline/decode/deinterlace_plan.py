"""What is done about a film's fields: decided once, before the first frame, from its flags and its looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

from pipeline.decode.field_findings import FieldFindings, FieldOrder
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.errors import UnsupportedMedia
from pipeline.media import MediaInfo

ORDER_KEY = "decode.field_order"
"""The config key by which a wrong finding is overruled."""


class DeinterlaceSettings(Protocol):
    """What the config says about fields; its ``decode`` section."""

    @property
    def deinterlace(self) -> Literal["bwdif", "off", "auto"]:
        """Whether films are deinterlaced."""
        ...

    @property
    def deinterlace_rate(self) -> Literal["frame", "field"]:
        """Frames made of each interlaced one."""
        ...

    @property
    def field_order(self) -> Literal["auto", "top", "bottom", "progressive"]:
        """Which field is first; ``auto`` to find out, ``progressive`` for films that have none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deinterlacing:
    """How the frames of one film are made of its fields."""

    source: MediaInfo
    """The film as its decoder reads it. What comes out is described by ``plan_fields``."""
    frames: Literal["none", "flagged", "all"]
    """Which frames are deinterlaced: those flagged interlaced, or all; none if the flags are known to be wrong."""
    per_frame: Literal[1, 2] = 1
    """Frames made of each frame: one, or one of each of its fields. Progressive ones are given twice then."""
    order: FieldOrder | None = None
    """Which field is first; None: as each frame's flag says, the top one where it says nothing."""

    @property
    def text(self) -> str:
        """What is done, half a sentence for the lines that tell what was chosen."""
        if self.frames == "none":
            return "frames flagged interlaced are taken as they are"
        what = "all frames" if self.frames == "all" else "frames flagged interlaced"
        rate = "one frame of each field" if self.per_frame == 2 else "one frame of each"
        return f"{what} deinterlaced with bwdif, {rate}" + ("" if self.order is None else f", {self.order} field first")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldPlan:
    """The decision about one film."""

    info: MediaInfo
    """The film as its frames leave the decoder."""
    deinterlacing: Deinterlacing | None
    """None for a film that has no fields."""
    warnings: tuple[str, ...] = ()
    """What the user should know of it, one sentence each."""

    @property
    def coded(self) -> MediaInfo:
        """The film for whoever chooses its decoder: interlaced if its fields have to be taken care of."""
        terms = self.deinterlacing
        if terms is None:
            return self.info
        return replace(terms.source, video=replace(terms.source.video, is_interlaced=True))


def plan_fields(settings: DeinterlaceSettings, info: MediaInfo, *, findings: FieldFindings | None) -> FieldPlan:
    """Decide what is done about a film's fields.

    Args:
        settings: The config's ``decode`` section.
        info: The film.
        findings: From ``scan_fields``; None if nobody looked: then the flags of its first frames decide.

    Raises:
        UnsupportedMedia: The film is interlaced, and nothing is to be done about it.
    """
    if info.container == SYNTHETIC_CONTAINER or info.pictures is not None:
        return FieldPlan(info=info, deinterlacing=None)
    is_flagged = info.video.is_interlaced or (findings is not None and findings.flagged > 0)
    is_combed = findings is not None and findings.is_combed
    if settings.field_order == "progressive":
        return _plan(info, "none") if is_flagged else FieldPlan(info=info, deinterlacing=None)
    if settings.deinterlace == "off":
        if is_flagged or is_combed:
            raise _refusal(info, findings, is_flagged=is_flagged)
        return FieldPlan(info=info, deinterlacing=None)
    if settings.deinterlace == "auto":
        if not is_flagged and not is_combed:
            return FieldPlan(info=info, deinterlacing=None)
        if findings is not None and findings.is_plain:
            return _plan(info, "none", warnings=(f"{_MISFLAGGED}: its frames are taken as they are",))
    order = None if settings.field_order == "auto" else settings.field_order
    is_wanted_whole = settings.deinterlace == "bwdif" or (findings is not None and findings.has_unflagged_fields)
    warnings = []
    if findings is not None:
        order = order or _better_order(findings)
        if order is not None and findings.flagged_order not in (None, order):
            warnings.append(
                f"the film is flagged {findings.flagged_order} field first and taken as {order} field first, "
                + ("as its frames look" if settings.field_order == "auto" else f"as {ORDER_KEY} says")
            )
        if findings.has_unflagged_fields:
            warnings.append(f"the film looks interlaced where it is flagged progressive ({ORDER_KEY} overrules this)")
        if findings.is_telecined:
            warnings.append(_TELECINED + ": deinterlacing keeps that rate, and some frames are interpolated")
    per_frame: Literal[1, 2] = 2 if settings.deinterlace_rate == "field" else 1
    return _plan(
        info, "all" if is_wanted_whole else "flagged", per_frame=per_frame, order=order, warnings=tuple(warnings)
    )


_MISFLAGGED = "the film is flagged interlaced, but looks progressive"
_TELECINED = "the film looks telecined (24 frames a second shown as 30 by repeating fields)"


def _better_order(findings: FieldFindings) -> FieldOrder | None:
    """The field order by the look of the film, where the flags say nothing or another one throughout."""
    if findings.order is None:
        return None
    is_told_by_flags = findings.flagged > 0 and findings.flagged_order in (None, findings.order)
    return None if is_told_by_flags and not findings.has_unflagged_fields else findings.order


def _plan(
    info: MediaInfo,
    frames: Literal["none", "flagged", "all"],
    *,
    per_frame: Literal[1, 2] = 1,
    order: FieldOrder | None = None,
    warnings: tuple[str, ...] = (),
) -> FieldPlan:
    source = replace(info, video=replace(info.video, is_interlaced=False))
    video = source.video
    if per_frame == 2:
        video = replace(
            video,
            time_base=video.time_base / 2,
            average_rate=None if video.average_rate is None else video.average_rate * 2,
            start_pts=None if video.start_pts is None else video.start_pts * 2,
            frame_count_from_header=None
            if video.frame_count_from_header is None
            else video.frame_count_from_header * 2,
        )
    return FieldPlan(
        info=replace(source, video=video),
        deinterlacing=Deinterlacing(source=source, frames=frames, per_frame=per_frame, order=order),
        warnings=warnings,
    )


def _refusal(info: MediaInfo, findings: FieldFindings | None, *, is_flagged: bool) -> UnsupportedMedia:
    """Says how it was found, and what can be done about this kind of film."""
    name = info.path
    if findings is not None and findings.is_plain:
        what, key = f"{name} is flagged interlaced, but looks progressive", "decode.field_order: progressive"
        return UnsupportedMedia(what, path=name, hint=f"set {key}, which takes its frames as they are")
    looks = "" if is_flagged else " (its frames look so; no flag says it)"
    escape = "" if is_flagged else f"; if it is not, set {ORDER_KEY}: progressive"
    filters = "bwdif"
    if findings is not None and findings.is_telecined:
        looks = f": it {_TELECINED.removeprefix('the film ')}"
        filters = "fieldmatch,decimate"
    return UnsupportedMedia(
        f"{name} is interlaced{looks}",
        path=name,
        hint=f"set decode.deinterlace: auto, or deinterlace it first: ffmpeg -i '{name}' -vf {filters} -c:v ffv1 "
        f"-c:a copy progressive.mkv{escape}",
    )

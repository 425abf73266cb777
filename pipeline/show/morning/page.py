"""``report.html``: the night on one page that needs nothing else. No script, no font, no picture from outside.

Every text that is put into the template, wherever it comes from, passes through ``safe_text`` (control characters,
direction marks and undecodable bytes become visible) and then through the template engine's escaping. The page's own
content security policy forbids it to load or to run anything.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import tzinfo
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.atomic import write_atomic
from pipeline.errors import OutputError
from pipeline.show.morning import words
from pipeline.show.morning.summary import FilmFile, JobSummary, RunSummary
from pipeline.show.morning.timeline import plan_timeline
from pipeline.show.wording import format_rate, safe_text

if TYPE_CHECKING:
    from jinja2 import Template

MAX_PICTURED_FILMS = 200
"""Pictures of so many films add at most 16 MB (``thumbnails.MAX_BYTES`` each, a third more in base64)."""
MAX_PICTURE_BYTES = 40_000
"""A larger picture is left out: a third more than ``write_thumbnails`` makes; all together then stay below 22 MB."""
MAX_LINES = 12
"""Warnings, errors or attempts of a film that are shown; the summary has them all."""
MAX_CHARACTERS = 1000
"""Of one text; with ``MAX_LINES`` it bounds what a film that went very wrong adds."""
MARGIN_CHARACTERS = 28
"""Of a name beside the timeline: a fifth of a page of 1280 pixels."""

_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
"""First bytes by media type. Sources: ITU-T T.81, B.2.1; PNG specification, 5.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Both thumbnails as ``data:`` addresses."""

    before: str
    after: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmView:
    """One film as the page shows it."""

    job: JobSummary
    status: str
    """The result in words."""
    facts: tuple[tuple[str, str], ...]
    """Label and value."""
    frames: str
    fps: str
    time: str
    """How long it took."""
    bottleneck: str
    """Which stage limited it, with its share."""
    bottleneck_share: str
    size: str
    """Of the output file."""
    pictures: Pictures | None
    picture_note: str
    """Why there are no pictures, where there should be some; else empty."""


def write_page(path: Path, summary: RunSummary, *, zone: tzinfo | None = None) -> None:
    """Write the page so that readers see the old file or the new one, never a part.

    Args:
        path: The file; its folder exists.
        summary: The run; pictures that it names are read.
        zone: In which times are told; None for this machine's.

    Raises:
        OutputError: The disk is full or the path is not writable.
    """
    content = build_page(summary, zone=zone).encode("utf-8")
    try:
        write_atomic(path, content)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise OutputError(f"cannot write the page {path}: {reason}", path=path, hint="free space or rights") from exc


def build_page(summary: RunSummary, *, zone: tzinfo | None = None) -> str:
    """Build the page; arguments as of ``write_page``.

    Returns:
        HTML that UTF-8 can encode.
    """
    films = _views(summary)
    return _template().render(
        summary=summary,
        verdict=words.say_verdict(summary),
        began=_say_time(summary, zone=zone),
        zone=_say_zone(summary, zone=zone),
        span=words.spell_span((summary.ended_at - summary.started_at).total_seconds()),
        tiles=_tiles(summary),
        timeline=plan_timeline(summary, zone=zone),
        films=films,
        urgent=[film for film in films if words.needs_attention(film.job)],
        others=[film for film in films if not words.needs_attention(film.job) and film.job.status != "skipped"],
        max_lines=MAX_LINES,
        max_pictured=MAX_PICTURED_FILMS,
        spell_span=words.spell_span,
        status_words=words.STATUS_WORDS,
    )


@cache
def _template() -> Template:
    """Compiling it takes longer than a short film."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("pipeline.show.morning"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, short=_shortened, address=Markup)  # addresses are ours, and long
    return environment.get_template("report.html")


def _visible(value: Any) -> Any:
    """Make a text fit to be shown; markup of the templates' own macros stays as it is."""
    if hasattr(value, "__html__"):
        return value
    text = safe_text(str(value)[: MAX_CHARACTERS + 1])  # paths, too
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def _shortened(name: str) -> str:
    """Fit a name into the timeline's margin, its end kept: that is where numbers and suffixes are."""
    text = safe_text(name)
    return text if len(text) <= MARGIN_CHARACTERS else f"{text[: MARGIN_CHARACTERS - 9]}…{text[-8:]}"


def _percent(part: float) -> str:
    return f"{100 * part:.3f}%"


def _views(summary: RunSummary) -> list[FilmView]:
    """One view a film; films that need attention get their pictures first."""
    pictured = [job for job in summary.jobs if job.thumbnails is not None]
    pictured.sort(key=lambda job: not words.needs_attention(job))
    chosen = {job.number for job in pictured[:MAX_PICTURED_FILMS]}
    return [_view(job, has_room=job.number in chosen) for job in summary.jobs]


def _view(job: JobSummary, *, has_room: bool) -> FilmView:
    pictures, note = None, ""
    if job.thumbnails is not None:
        before = _data_address(job.thumbnails.before) if has_room else None
        after = _data_address(job.thumbnails.after) if has_room else None
        if before and after:
            pictures = Pictures(before=before, after=after, caption=job.thumbnails.caption)
        elif has_room:
            note = "The pictures could not be read."
        else:
            note = f"Only the first {MAX_PICTURED_FILMS} films have pictures here."
    return FilmView(
        job=job,
        status=words.STATUS_WORDS[job.status],
        facts=_facts(job),
        frames=words.spell_frames(job),
        fps=format_rate(job.fps) if job.fps > 0 else "–",
        time=words.spell_span(job.elapsed_s) if job.attempts or job.elapsed_s > 0 else "–",
        bottleneck=words.spell_bottleneck(job),
        bottleneck_share="" if job.bottleneck is None else f"{100 * job.bottleneck.load:.0f} %",
        size=words.spell_bytes(job.output.size_bytes) if job.output is not None else "–",
        pictures=pictures,
        picture_note=note,
    )


def _facts(job: JobSummary) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Frames", words.spell_frames(job)),
        ("Speed", format_rate(job.fps) if job.fps > 0 else "–"),
        ("Time", words.spell_span(job.elapsed_s)),
        ("Of it upscaling", words.spell_span(job.upscaling_s)),
    ]
    if job.frames_resumed:
        facts.append(("From earlier runs", f"{job.frames_resumed:,} frames"))
    sizes = [_say_size(file) for file in (job.source, job.output) if file is not None and file.width]
    if sizes:
        facts.append(("Picture", " → ".join(sizes)))
    files = [words.spell_bytes(file.size_bytes) for file in (job.source, job.output) if file is not None]
    if files:
        facts.append(("File", " → ".join(files)))
    return tuple(facts)


def _say_size(file: FilmFile) -> str:
    return f"{file.width}×{file.height}"


def _tiles(summary: RunSummary) -> list[tuple[str, str, str]]:
    """What, how much, and a remark."""
    totals = words.Totals.of(summary)
    tiles = [
        ("Films finished", f"{totals.finished} of {len(summary.jobs)}", ""),
        ("Frames made", f"{totals.frames:,}", ""),
        ("Speed", format_rate(totals.fps) if totals.fps > 0 else "–", "on average, while frames flowed"),
        ("Upscaling", words.spell_span(totals.upscaling_s), "of all films together"),
        ("Written", words.spell_bytes(totals.written_bytes), f"from {words.spell_bytes(totals.read_bytes)} of input"),
    ]
    if summary.disk_free_bytes is not None:
        tiles.append(("Disk", words.spell_bytes(summary.disk_free_bytes), "still free"))
    return tiles


def _say_time(summary: RunSummary, *, zone: tzinfo | None) -> str:
    start, stop = summary.started_at.astimezone(zone), summary.ended_at.astimezone(zone)
    day = "" if stop.date() == start.date() else f"{stop:%A} {stop.day} {stop:%B}, "
    return f"{start:%A} {start.day} {start:%B %Y}, {start:%H:%M} to {day}{stop:%H:%M}"


def _say_zone(summary: RunSummary, *, zone: tzinfo | None) -> str:
    return summary.ended_at.astimezone(zone).tzname() or ""


def _data_address(picture: Path) -> str | None:
    """The picture in the form that a page can hold; None if it is no picture, too large or cannot be read."""
    try:
        with picture.open("rb") as file:
            content = file.read(MAX_PICTURE_BYTES + 1)
    except OSError:
        return None
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature) and len(content) <= MAX_PICTURE_BYTES:
            return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return None

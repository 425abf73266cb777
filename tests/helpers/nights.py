"""Runs to report on: a quiet one, an eventful one, a huge one, and one whose every text is hostile."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.show.morning.summary import (
    Attempt,
    Bottleneck,
    FilmFile,
    FilmStatus,
    Interval,
    JobSummary,
    Pause,
    Problem,
    RunSummary,
    Thumbnails,
)

EVENING = datetime(2031, 3, 4, 22, 40, tzinfo=UTC)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""One pixel."""
HOSTILE = "<script>alert('x')</script> \"quoted\"\nnew & old\x1b[31m \u202egnp.\udcff %s {{ 7*7 }} Ünïcode 映画"
"""What a file name may hold: markup, quotes, line feeds, escapes, a direction mark, a byte that is no text."""


def at(minutes: float) -> datetime:
    return EVENING + timedelta(minutes=minutes)


def attempt(start: float, stop: float, status: FilmStatus = "done", *, ending: str = "", back_off: str = "") -> Attempt:
    return Attempt(started_at=at(start), ended_at=at(stop), status=status, ending=ending, back_off=back_off)


def film(number: int, start: float, stop: float, *, name: str = "", thumbnails: Thumbnails | None = None) -> JobSummary:
    """A film that was done between two minutes of the night."""
    span_s = 60 * (stop - start)
    title = name or f"Episode {number:02}.mkv"
    return JobSummary(
        number=number,
        name=title,
        status="done",
        source=FilmFile(path=Path("/films/in") / title, size_bytes=734_003_200, height=1080, width=1920),
        output=FilmFile(path=Path("/films/out") / title, size_bytes=2_415_919_104, height=2160, width=3840),
        attempts=(attempt(start, stop),),
        worked=(Interval(started_at=at(start + 0.3), ended_at=at(stop - 0.5)),),
        frames_done=int(span_s * 40),
        frames_expected=int(span_s * 40),
        fps=41.7,
        elapsed_s=span_s,
        upscaling_s=span_s - 48,
        bottleneck=Bottleneck(
            stage="upscale", load=0.972, text="upscale limits the run: it works 97 % of the time; encode waits 61 %."
        ),
        choices=(
            "decoder: libav: software decoding",
            "engine: TensorRT 10.9 runs realesr-animevideov3 in fp16 on NVIDIA H200",
            "encoder: libx265: named in the config; 10-bit 4:2:0",
        ),
        thumbnails=thumbnails,
        report=Path("/films/out") / f"{title}.report.json",
    )


def run(*jobs: JobSummary, minutes: float = 510.0) -> RunSummary:
    return RunSummary(
        started_at=at(0),
        ended_at=at(minutes),
        host="render-02",
        config=Path("/films/overnight.yaml"),
        run_folder=Path("/films/out/.nightscale/runs/20310304T224000Z-4711"),
        was_stopped=False,
        exit_code=1 if any(job.status == "failed" for job in jobs) else 0,
        jobs=jobs,
        disk_free_bytes=913_000_000_000,
        machine={"cpu_model": "AMD EPYC 9654", "cpu_count": 16, "memory_bytes": 137_438_953_472, "os": None},
        versions={"python": "3.12.4", "av": "18.1.0", "openvino": None},
    )


def eventful(*, thumbnails: Thumbnails | None = None) -> RunSummary:
    """Everything that can happen to a film happens to one."""
    long_name = "The.Quite.Long.Title.of.a.Film.That.Was.Named.by.a.Machine.1967.REMASTERED.1080p.BluRay.x264-GROUP.mkv"
    retried = replace(
        film(3, 128, 205, thumbnails=thumbnails),
        attempts=(
            attempt(
                128, 139, "failed", ending="the GPU ran out of memory in upscale", back_off="tiles of 384, not 512"
            ),
            attempt(139.5, 205),
        ),
        worked=(
            Interval(started_at=at(129), ended_at=at(138)),
            Interval(started_at=at(140), ended_at=at(204)),
        ),
        warnings=("the GPU ran out of memory once; this film was made with tiles of 384 pixels",),
    )
    failed = replace(
        film(4, 206, 231),
        status="failed",
        output=None,
        frames_done=41_300,
        frames_expected=180_000,
        attempts=(attempt(206, 231, "failed", ending="the input could not be read"),),
        errors=(
            Problem(
                message="cannot read /films/in/Episode 04.mkv: Input/output error (decode, frame 41300)",
                hint="copy the film again, or check the disk it lies on; what was made is kept and will be used",
            ),
        ),
    )
    damaged = replace(
        film(5, 232, 300, name=long_name, thumbnails=thumbnails),
        status="damaged",
        errors=(Problem(message="12 frames around 0:41:07 could not be decoded; the picture before them is held"),),
        warnings=("subtitles of stream 4 cannot be held by mp4 and were left out",),
    )
    stopped = replace(
        film(6, 420, 480),
        status="stopped",
        output=None,
        reason="the hours of the run ended; it goes on at the next start",
        frames_done=88_000,
        frames_expected=151_220,
        attempts=(attempt(301, 330, "stopped"), attempt(420, 480, "stopped")),
        worked=(
            Interval(started_at=at(301), ended_at=at(329)),
            Interval(started_at=at(421), ended_at=at(479)),
        ),
    )
    skipped = JobSummary(number=7, name="Episode 07.mkv", status="skipped", reason="finished on 3 March, unchanged")
    held = JobSummary(
        number=8, name="Episode 08.mkv", status="held", reason="process 812 on render-01 works on it since 23:02"
    )
    first = film(1, 1, 65, thumbnails=thumbnails)
    night = run(first, film(2, 66, 127, thumbnails=thumbnails), retried, failed, damaged, stopped, skipped, held)
    return replace(
        night,
        hours="22:00-07:00",
        notes=("the GPU was throttled for 12 minutes around 02:10: its temperature limit was reached",),
        pauses=(
            Pause(started_at=at(330), ended_at=at(420), kind="disk", reason="less than 20 GiB were free"),
            Pause(started_at=at(480), ended_at=at(510), kind="hours", reason="outside of 22:00-07:00"),
        ),
    )


def hostile() -> RunSummary:
    """Every text is hostile."""
    bad = film(1, 1, 30, name=HOSTILE)
    bad = replace(
        bad,
        status="failed",
        reason=HOSTILE,
        errors=(Problem(message=HOSTILE, hint=HOSTILE),),
        warnings=(HOSTILE, "no_spaces_" * 200),
        choices=(HOSTILE,),
        bottleneck=Bottleneck(stage=HOSTILE, load=1.0, text=HOSTILE),
        attempts=(
            attempt(1, 10, "failed", ending=HOSTILE, back_off=HOSTILE),
            attempt(11, 30, "failed"),
        ),
        thumbnails=Thumbnails(before=Path(HOSTILE), after=Path(HOSTILE), caption=HOSTILE),
    )
    other = replace(film(2, 31, 60, name="x" * 250), reason="y" * 300)
    night = run(bad, other, minutes=60)
    return replace(
        night,
        host=HOSTILE,
        config=Path(HOSTILE),
        run_folder=Path(HOSTILE),
        hours=HOSTILE,
        notes=(HOSTILE,),
        machine={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        pauses=(Pause(started_at=at(2), ended_at=at(5), kind="asked", reason=HOSTILE),),
    )

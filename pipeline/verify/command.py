"""``verify``: a source and a result that exist, compared with each other; with a config, with what it promises too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.assembly.containers import plan_streams
from pipeline.assembly.expected import Expected, expected_of_source
from pipeline.assembly.verify import verify_output
from pipeline.config import Config
from pipeline.decode import open_decoder
from pipeline.decode.deinterlace_plan import Deinterlacing
from pipeline.encode import ENCODERS, EncodeSpec, tags_for
from pipeline.errors import MediaError, UnsupportedMedia, VerificationFailed
from pipeline.frames import Matrix
from pipeline.inputs.find import find_jobs
from pipeline.media import MediaInfo
from pipeline.plan import plan_film, probe_film
from pipeline.probe import probe_media
from pipeline.show.wording import format_count, safe_text
from pipeline.verify.check import CheckTerms, check_pictures, require_pictures, source_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of it."""

    source: Path
    result: Path
    found: dict[str, Any]
    """What was measured; only of the parts that passed."""
    failures: tuple[str, ...]
    """One sentence each; empty if the result is what it must be."""

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.failures

    def lines(self) -> tuple[str, ...]:
        """For people: what is wrong, or what was compared."""
        if self.failures:
            return tuple(safe_text(f"failed: {failure}") for failure in self.failures)
        pictures = self.found["pictures"]
        streams = format_count(self.found["streams"], "stream")
        lines = [
            f"ok: {self.result}: {format_count(self.found['frames'], 'frame')}, {streams}",
            f"  {pictures['frames_compared']} frames compared with {self.source}: PSNR of luma at least"
            f" {pictures['luma_psnr_db_min']} dB, of chroma {pictures['chroma_psnr_db_min']} dB",
            *(f"  the source is damaged: {difference}" for difference in pictures.get("differences", ())),
        ]
        return tuple(safe_text(line) for line in lines)

    def as_json(self) -> dict[str, Any]:
        """JSON-native values."""
        return {
            "source": str(self.source),
            "result": str(self.result),
            "ok": self.is_ok,
            "failures": list(self.failures),
            "found": self.found,
        }


def verify_files(source: Path, result: Path, *, config: Config | None = None, is_full: bool = False) -> Verification:
    """Compare a result with its source.

    Args:
        source: The film.
        result: What was made of it: a film or a folder of numbered pictures.
        config: That of the run; None: what can be known from the two files is compared, not codec, size and stream
            plan, and the network counts as unknown.
        is_full: Whether all frames are compared, not only a sample. All of the result's are decoded in any case.

    Returns:
        What was found. Differences do not raise.

    Raises:
        MediaError: The source cannot be read.
        PipelineError: The config cannot be used for it.
        EngineError: The same, for its network.
    """
    if config is None:
        expected, terms = _from_files(source, result)
    else:
        expected, terms = _from_config(source, config)
    terms = replace(terms, is_full=is_full, reads_all=True)
    found: dict[str, Any] = {}
    failures = []
    try:
        found |= verify_output(result, expected)
    except VerificationFailed as exc:
        failures.append(str(exc))
    try:
        check = check_pictures(result, terms)
        found["pictures"] = require_pictures(check, path=result, is_damaged=terms.is_damaged)
    except VerificationFailed as exc:
        failures.append(str(exc))
    except MediaError as exc:  # the source was read through before
        failures.append(str(exc))
    return Verification(source=source, result=result, found=found, failures=tuple(failures))


def _from_config(source: Path, config: Config) -> tuple[Expected, CheckTerms]:
    own = next((job.config for job in find_jobs(config).jobs if _is_same(job.source, source)), config)
    plan = plan_film(own, probe_film(own, source))
    threads = own.decode.threads
    pts, is_damaged = _source_pts(plan.info, deinterlacing=plan.deinterlacing, threads=threads)
    terms = CheckTerms(
        source=plan.info,
        model=plan.model.name,
        frame_count=len(pts),
        is_full=False,
        seams=range(plan.segment_frames, len(pts), plan.segment_frames),
        deinterlacing=plan.deinterlacing,
        is_damaged=is_damaged,
        threads=threads,
    )
    expected = expected_of_source(
        plan.info, streams=plan.streams, encode=plan.encode, container=plan.container, pts=pts, is_damaged=is_damaged
    )
    return expected, terms


def _from_files(source: Path, result: Path) -> tuple[Expected, CheckTerms]:
    info = probe_media(source)
    if info.video.is_interlaced:
        raise UnsupportedMedia(
            f"{source} is interlaced: what is to be made of its fields is not known",
            path=source,
            hint="name the config of the run: --config",
        )
    pts, is_damaged = _source_pts(info, deinterlacing=None, threads=0)
    terms = CheckTerms(source=info, model="", frame_count=len(pts), is_full=False, is_damaged=is_damaged)
    if result.is_dir():
        return _of_pictures(info, result, pts=pts), terms
    made = probe_media(result)
    video = made.video
    encoder = next((entry for entry in ENCODERS.values() if entry.codec == video.codec), None)
    if encoder is None:
        raise UnsupportedMedia(
            f"{result} is in {video.codec}, which no encoder here writes", path=result, hint="name the result"
        )
    encode = EncodeSpec(
        encoder=encoder,
        height=video.height,
        width=video.width,
        format=video.format,
        tags=tags_for(
            replace(video.format, matrix=_matrix_of(info, made), full_range=info.video.format.full_range),
            source=info.video.format,
            tags=info.video.tags,
        ),
        time_base=info.video.time_base,
        average_rate=info.video.average_rate,
        sample_aspect=info.video.sample_aspect,
        mastering_display=info.video.mastering_display,
        content_light=info.video.content_light,
    )
    container = _container_of(made)
    streams = plan_streams(info, container=container, encoder=encoder, leave_out_unheld=True)
    expected = expected_of_source(
        info, streams=streams, encode=encode, container=container, pts=pts, is_damaged=is_damaged
    )
    return expected, terms


def _matrix_of(info: MediaInfo, made: MediaInfo) -> Matrix:
    """The matrix that the result must have: the source's, unless one of the two is RGB."""
    return (
        made.video.format.matrix
        if "rgb" in (made.video.format.matrix, info.video.format.matrix)
        else info.video.format.matrix
    )


def _of_pictures(info: MediaInfo, folder: Path, *, pts: Sequence[int]) -> Expected:
    first = next((path for path in sorted(folder.iterdir())), None)
    if first is None:
        raise MediaError(f"{folder} is empty", path=folder, hint="name the result: a film or a folder of pictures")
    made = probe_media(first).video
    encode = EncodeSpec(
        encoder=ENCODERS["png"],
        height=made.height,
        width=made.width,
        format=made.format,
        tags=info.video.tags,
        time_base=info.video.time_base,
    )
    return Expected(encode=encode, container="png", pts=tuple(pts))


def _container_of(info: MediaInfo) -> str:
    if "matroska" in info.container:
        return "mkv"
    return "mov" if info.path.suffix.lower() in {".mov", ".qt"} else "mp4"


def _is_same(one: Path | None, other: Path) -> bool:
    return one is not None and one.exists() and one.samefile(other)


def _source_pts(info: MediaInfo, *, deinterlacing: Deinterlacing | None, threads: int) -> tuple[tuple[int, ...], bool]:
    """Times of all frames of the source, and whether it is known to be damaged.

    From its packets where they tell, else by decoding it.
    """
    index = source_index(info, deinterlacing=deinterlacing, threads=threads)
    if index is not None and index.frame_count is not None:
        return tuple(int(time) for time in index.pts), False
    with open_decoder("libav", info, threads=threads, deinterlacing=deinterlacing) as decoder:
        pts = []
        for frame in decoder.frames():
            pts.append(frame.stamp.pts)
            frame.release()
        return tuple(pts), decoder.damage is not None

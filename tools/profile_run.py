"""Where the time of a run goes: what limits it, by how much, and which one setting is most likely to help.

    python tools/profile_run.py CONFIG [--set key=value ...] [--frames N] [--out DIR] [--what-if] [--pairs N] [--json]

The first ``--frames`` frames of the config's film go through the real stages, with its decoder, engine, tiles, lanes
and encoder, after a short run that warms up. Segments are written into a folder that is removed; joining them is no
part of this. Written to ``--out`` (``profile-<film>``): ``profile.json``; ``profile.html``, the same for people;
``trace.json`` for ui.perfetto.dev or chrome://tracing.

``--what-if`` replaces one stage after the other by one that takes no time, and measures what the run makes then, beside
what the profile predicts; where NVDEC decodes, it is measured alone for that, for a second. ``--pairs N`` runs N times
without and with the record, in turns, and says what that costs.

Figures are of the time between 10 and 90 % of the frames. A stage works, is starved, is blocked, or waits for a buffer:
these four add up to the whole. Who waits for the GPU, or for a decoder or encoder in hardware, works; what the
processor does for it stands under CPU. NVTX ranges for Nsight are set if ``nvtx`` is installed; the GPU is asked for
its load and clocks if ``nvidia-ml-py`` is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import EngineError, Runner
from pipeline.config.load import load_config
from pipeline.errors import PipelineError
from pipeline.host import probe_host, probe_versions
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.show.plan_words import choice_lines, plan_as_json
from pipeline.warmup import compile_kernels
from tools.profile_advice import Advice, Facts, advise, facts_of
from tools.profile_chrome import chrome_trace
from tools.profile_figures import Figures, measure
from tools.profile_nvdec import measure_nvdec
from tools.profile_page import build_page
from tools.profile_record import Recorded, record_run, run_plain
from tools.profile_whatif import WhatIf, as_json, as_rows, doubts, measure_what_ifs
from tools.profile_words import nvdec_notes, say_profile

WARM_UP_FRAMES = 4
"""For each lane: compiles kernels, opens libraries, lets caches fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A run that was watched, and what it says."""

    run: Recorded
    figures: Figures
    facts: Facts
    advice: Advice
    paragraph: str
    nvdec_fps: float | None
    """Of the run's decoders in hardware alone; None if there are none, or they were not measured."""


def profile(plan: JobPlan, runner: Runner, *, frame_count: int, nvdec_fps: float | None = None) -> Profile:
    """Watch a run, and work out what it says.

    Args:
        plan: What to run.
        runner: Opened for it.
        frame_count: Frames of the film.
        nvdec_fps: What ``measure_nvdec`` found.
    """
    run = record_run(plan, runner, frame_count=frame_count)
    run = replace(run, notes=(*run.notes, *nvdec_notes(plan, nvdec_fps)))
    figures = measure(run)
    facts = facts_of(plan, figures, cores=len(os.sched_getaffinity(0)))
    advice = advise(facts)
    paragraph = say_profile(plan, figures, facts=facts, advice=advice, nvdec_fps=nvdec_fps)
    return Profile(run=run, figures=figures, facts=facts, advice=advice, paragraph=paragraph, nvdec_fps=nvdec_fps)


def measure_overhead(plan: JobPlan, runner: Runner, *, frame_count: int, pairs: int) -> dict[str, Any]:
    """What the record costs: runs without and with it, in turns, the order changing from pair to pair.

    Beside the time it says what the processor had to do, which other programs on the machine hardly change: also in
    cores, as a share of next to nothing is much however little it is.
    """
    plain: list[tuple[float, float]] = []
    traced: list[Recorded] = []
    for pair in range(pairs):
        for is_traced in (False, True) if pair % 2 == 0 else (True, False):
            if is_traced:
                traced.append(record_run(plan, runner, frame_count=frame_count))
            else:
                plain.append(run_plain(plan, runner, frame_count=frame_count))
    plain_s, traced_s = [seconds for seconds, _ in plain], [run.seconds for run in traced]
    plain_cpu_s, traced_cpu_s = [cpu_s for _, cpu_s in plain], [run.cpu_s for run in traced]
    more_cpu_s = (after - before for before, after in zip(plain_cpu_s, traced_cpu_s, strict=True))
    return {
        "plain_s": plain_s,
        "traced_s": traced_s,
        "plain_cpu_s": plain_cpu_s,
        "traced_cpu_s": traced_cpu_s,
        "overhead": _median_ratio(traced_s, plain_s) - 1,
        "overhead_of_shortest": min(traced_s) / min(plain_s) - 1,
        "overhead_cpu": _median_ratio(traced_cpu_s, plain_cpu_s) - 1,
        "overhead_cores": _median_ratio(list(more_cpu_s), traced_s),
        "watch_cores": _median_ratio([run.watch_cpu_s for run in traced], traced_s),
        "ask_cores": _median_ratio([run.ask_cpu_s for run in traced], traced_s),
    }


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def describe(plan: JobPlan, found: Profile) -> dict[str, Any]:
    """Everything that was measured, and what is needed to repeat it; file names without their folders."""
    planned = plan_as_json(plan)
    del planned["input"], planned["output"]
    figures = found.figures
    return {
        "film": plan.info.path.name,
        "host": probe_host(),
        "versions": probe_versions(ffmpeg=None),
        "plan": planned,
        "paragraph": found.paragraph,
        "advice": asdict(found.advice),
        "facts": asdict(found.facts),
        "fps": figures.fps,
        "steady_fps": figures.steady_fps,
        "nvdec_alone_fps": found.nvdec_fps,
        "figures": asdict(figures),
    }


def write_profile(
    out: Path, plan: JobPlan, found: Profile, *, report: dict[str, Any], what_ifs: Sequence[WhatIf] = ()
) -> None:
    """Write the three files.

    Args:
        out: The folder; made if it is not there.
        plan: What ran.
        found: What was found.
        report: For ``profile.json``.
        what_ifs: For the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "profile.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (out / "trace.json").write_text(json.dumps(chrome_trace(found.run)) + "\n", encoding="utf-8")
    page = build_page(
        found.run,
        found.figures,
        title=_title(plan),
        paragraph=found.paragraph,
        what_ifs=as_rows(what_ifs),
        doubts=" ".join(doubts(what_ifs)),
    )
    (out / "profile.html").write_text(page, encoding="utf-8")


def _title(plan: JobPlan) -> str:
    video = plan.info.video
    lanes = f", {plan.lanes} lanes" if plan.lanes > 1 else ""
    return (
        f"{plan.info.path.name}: {plan.model.name} on {plan.backend.device}, {video.width}x{video.height} to "
        f"{plan.width}x{plan.height}, {plan.encode.encoder.name}{lanes}"
    )


def table(plan: JobPlan, found: Profile) -> list[str]:
    """The figures in lines."""
    figures = found.figures
    lines = [*choice_lines(plan), ""]
    lines.append(
        "stage     works  starved  blocked  buffer | ms a frame: mean     p50     p90     p99 |    CPU  queued"
    )
    for stage in figures.stages:
        shares = stage.shares
        lines.append(
            f"{stage.name:8} {shares['work']:6.1%}  {shares['starved']:6.1%}   {shares['blocked']:6.1%}  "
            f"{shares['unbuffered']:6.1%} |       {1e3 * stage.service_mean_s:10.2f} {1e3 * stage.service_p50_s:7.2f} "
            f"{1e3 * stage.service_p90_s:7.2f} {1e3 * stage.service_p99_s:7.2f} | {1e3 * stage.cpu_s:6.1f}  "
            f"{1e3 * stage.queued_s:6.1f}"
        )
    for kind in figures.gpu:
        speed = f", {kind.gb_per_s:.1f} GB/s" if kind.bytes else ""
        lines.append(f"GPU {kind.kind:16} busy {kind.busy_share:6.1%}, median {1e3 * kind.median_s:.3f} ms{speed}")
    lines += [f"GPU {name}: {value:.4g} on average" for name, value in figures.gpu_means.items()]
    lines += [f"note: {note}" for note in figures.notes]
    return [*lines, "", found.paragraph]


def what_if_lines(what_ifs: Sequence[WhatIf]) -> list[str]:
    """What was predicted and measured, in lines."""
    return [
        f"without {row['stage']:8} {row['measured']:>6} fps measured ({row['gain']} times), {row['predicted']:>6} "
        f"predicted ({row['error']}, limited by {row['limit']}): {row['replacement']}"
        for row in as_rows(what_ifs)
    ] + doubts(what_ifs)


def main(argv: list[str] | None = None) -> int:
    """Profile, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--frames", type=int, default=240, help="of the film, from its beginning (default 240)")
    parser.add_argument("--out", type=Path, help="folder for the files (default profile-<film>)")
    parser.add_argument("--pairs", type=int, default=0, help="measure what the record costs, in so many pairs of runs")
    parser.add_argument("--what-if", action="store_true", help="also measure runs in which one stage takes no time")
    parser.add_argument("--repeat", type=int, default=1, help="such runs for each stage (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args(argv)
    if arguments.frames < 1 or arguments.repeat < 1 or arguments.pairs < 0:
        parser.error("--frames and --repeat must be 1 or more, --pairs 0 or more")
    try:
        config = load_config(arguments.config, arguments.overrides)
        plan = plan_film(config, probe_film(config, config.input.paths[0] if config.input.paths else None))
        with open_planned_runner(plan) as runner:
            compile_kernels(plan)
            run_plain(plan, runner, frame_count=WARM_UP_FRAMES * plan.lanes)
            nvdec_fps = measure_nvdec(plan, runner, frame_count=arguments.frames) if arguments.what_if else None
            found = profile(plan, runner, frame_count=arguments.frames, nvdec_fps=nvdec_fps)
            report = describe(plan, found)
            what_ifs: list[WhatIf] = []
            if arguments.what_if:
                what_ifs = measure_what_ifs(
                    plan, runner, frame_count=arguments.frames, repeat=arguments.repeat, nvdec_fps=nvdec_fps
                )
                report["what_if"] = as_json(what_ifs)
            if arguments.pairs:
                report["overhead"] = measure_overhead(plan, runner, frame_count=arguments.frames, pairs=arguments.pairs)
    except (PipelineError, EngineError) as exc:
        print(f"error: {exc}" + (f"\n  {exc.hint}" if exc.hint else ""), file=sys.stderr)
        return 1
    out = arguments.out or Path(f"profile-{plan.info.path.stem}")
    write_profile(out, plan, found, report=report, what_ifs=what_ifs)
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(table(plan, found)))
    if not arguments.json:
        print("\n".join(what_if_lines(what_ifs)))
    if arguments.pairs and not arguments.json:
        cost = report["overhead"]
        print(
            f"the record costs {cost['overhead']:+.2%} of the time ({cost['overhead_of_shortest']:+.2%} of the "
            f"shortest runs) and {cost['overhead_cpu']:+.2%} of the processor's ({cost['overhead_cores']:+.3f} cores, "
            f"of which {cost['watch_cores']:.3f} look at the threads and the GPU, {cost['ask_cores']:.3f} at the GPU), "
            f"medians of {arguments.pairs} pairs"
        )
    print(f"written to {out}: profile.html, profile.json, trace.json", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Find the fastest settings for a film on this machine, within a time budget, and remember them.

    python tools/tune.py CONFIG [--set key=value ...] [--budget S] [--at TIME] [--out F.yaml] [--encoder] [--json]

The first frames of the config's film (or those from ``--at``, a time such as 90 or 0:01:30, on) go through the real
run, with tiles, batches, calls under way, lanes and threads changed one at a time, what limits the run first. What
cannot bring more than 2 % by the profile is not tried, and what is clearly slower is given up. Settings that change the
picture or the file are shown beside their quality: another precision, which is taken only where it is faster and no
further from fp32, and faster presets, which are taken only with ``--encoder``.

The fastest settings are written to ``--out`` (``tuned-<film>.yaml``), a config that runs as it is, and kept in the
user's cache folder (``nightscale/tuned``) for this machine, network, precision and sizes: ``run`` and ``plan`` then
take them for whatever a config leaves to auto. What a config sets is left as it is, here and there; ``run.tuned:
false`` leaves it out, and ``--forget`` removes it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import EngineError
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.config import Config
from pipeline.config.load import load_config
from pipeline.config.overrides import with_settings
from pipeline.config.yaml_text import dump_yaml
from pipeline.errors import ConfigError, GraphFailed, MediaError, PipelineError
from pipeline.inputs.find import find_jobs
from pipeline.plan import JobPlan
from pipeline.probe import probe_media
from pipeline.tuned import OPEN_VALUES, Kept, circumstances, default_folder, file_name, write_kept
from tools.tune_bench import FilmBench, usable_core_count
from tools.tune_offers import offer_precisions, offer_presets
from tools.tune_search import search
from tools.tune_space import knobs_of, set_by_hand
from tools.tune_trials import Found, Measured
from tools.tune_words import as_json, offer_lines, result_line, spell_settings, table

STRETCH_S = 60
"""Of the film from ``--at`` on."""
OFFER_SHARE = 0.2
"""Of the budget, for what changes the picture or the file."""


def parse_time(text: str) -> float:
    """Seconds, ``mm:ss`` or ``hh:mm:ss`` as seconds.

    Raises:
        ValueError: It is none of these.
    """
    parts = [float(part) for part in text.split(":")]
    if not 1 <= len(parts) <= 3 or not all(0 <= part < 1e9 for part in parts):
        raise ValueError(f"not a time: {text}")
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds


def cut_stretch(film: Path, *, at_s: float, folder: Path) -> Path:
    """A minute of a film from the keyframe before a time on, its packets as they are.

    Raises:
        MediaError: It cannot be cut.
        SetupError: There is no ffmpeg.
    """
    length_s = probe_media(film).duration_s
    if length_s is not None and at_s >= length_s:
        raise MediaError(
            f"{film} is {length_s:.1f} s long: nothing is there at {at_s:g} s", path=film, hint="choose an earlier time"
        )
    stretch = folder / f"{film.stem}.mkv"
    command = [str(find_ffmpeg().path), "-v", "error", "-ss", str(at_s), "-i", str(film), "-t", str(STRETCH_S)]
    command += ["-map", "0:v:0", "-c", "copy", str(stretch)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ended.returncode or not stretch.exists() or not stretch.stat().st_size:
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        raise MediaError(
            f"no stretch of {film} can be cut at {at_s:g} s: {said[-1] if said else 'nothing is there'}",
            path=film,
            hint="choose a time within the film, or leave --at away",
        )
    return stretch


def write_config(path: Path, config: Config, *, film: str, words: str) -> None:
    """Write a config that runs as it is."""
    given = config.model_dump(mode="json", exclude_defaults=True)
    head = f"# {film}, tuned on {date.today().isoformat()} by tools/tune.py. {words}\n"
    path.write_text(head + dump_yaml({"version": config.version, **given}), encoding="utf-8")


def keep(plan: JobPlan, found: Found, *, folder: Path) -> Path:
    """Keep what was found for later plans.

    Args:
        plan: With the best settings.
        found: What was found.
        folder: Where to.

    Raises:
        OSError: It cannot be written.
    """
    settings = {name: int(value) for name, value in found.best.settings if name in OPEN_VALUES and value is not None}
    kept = Kept(
        settings={name: value for name, value in settings.items() if value > 0},
        date=date.today().isoformat(),
        fps=found.best.fps,
        default_fps=found.base.fps,
    )
    return write_kept(folder, kept, wanted=circumstances(plan))


def first_film(config: Config) -> Path | None:
    """The first film of a config; None for the synthetic one.

    Raises:
        ConfigError: There is none.
        PipelineError: The films cannot be listed.
    """
    jobs = find_jobs(config).jobs
    if not jobs:
        raise ConfigError(("input.paths: there is no film",), hint="name one film, or a folder with one")
    return jobs[0].source


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--budget", type=float, default=180.0, metavar="S", help="seconds in all (default 180)")
    parser.add_argument("--at", type=parse_time, metavar="TIME", help="measure a minute of the film from here on")
    parser.add_argument("--out", type=Path, metavar="F.yaml", help="the config (default tuned-<film>.yaml)")
    parser.add_argument("--encoder", action="store_true", help="a faster preset may be taken too: another file")
    parser.add_argument("--no-keep", action="store_true", help="do not remember the result for later runs")
    parser.add_argument("--forget", action="store_true", help="only remove what is remembered for this film")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Tune, say what was found, write and keep it."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if not arguments.budget > 0:
        parser.error("--budget must be more than 0")
    try:
        return tune(arguments)
    except (PipelineError, EngineError, GraphFailed, OSError) as exc:
        hint = getattr(exc, "hint", "")
        print(f"error: {exc}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)
        return 1


def tune(arguments: argparse.Namespace) -> int:
    """What ``main`` does with right arguments.

    Raises:
        PipelineError, EngineError, GraphFailed: The run cannot be made as the config says.
    """
    started_s = time.perf_counter()
    config = load_config(arguments.config, arguments.overrides)
    film = first_film(config)
    with ExitStack() as stack:
        stretch = film
        if arguments.at is not None:
            if film is None or not film.is_file():
                raise ConfigError(("--at: must be left away for what is not one film file",))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stretch = cut_stretch(film, at_s=arguments.at, folder=folder)
        bench = stack.enter_context(FilmBench(config, stretch))
        name = bench.plan().info.path.name if film is None else film.name
        if arguments.forget:
            return forget(bench.plan())
        spent_s = bench.settle_frames(budget_s=arguments.budget)
        budget_s = arguments.budget - spent_s
        found = search_film(bench, arguments, budget_s=budget_s * (1 - OFFER_SHARE))
        left_s = budget_s - found.spent_s
        offers = offer_precisions(bench, found, budget_s=left_s / 2)
        left_s -= sum(offer.run.seconds for offer in offers[1:])
        offers += [] if arguments.encoder else offer_presets(bench, found, budget_s=left_s)
        best = dict(found.best.settings)
        for offer in offers:
            if offer.is_taken:
                key, _, value = offer.setting.partition("=")
                best[key] = value
        plan, by_hand, frames = bench.plan(best), set_by_hand(config), bench.frame_count
    best_config = with_settings(config, [best], source="tools/tune.py") if best else config
    best_config = best_config.model_copy(update={"input": config.input})
    out = arguments.out or Path(f"tuned-{Path(name).stem}.yaml")
    write_config(out, best_config, film=name, words=result_line(found))
    says_nothing = found.is_cut_short and not found.best.settings
    cache = None if arguments.no_keep or says_nothing else default_folder()
    kept = None if cache is None else keep(plan, found, folder=cache)
    if arguments.json:
        print(json.dumps({"film": name, "frames": frames, **as_json(found, offers=offers)}, indent=2))
    else:
        for line in (*table(found, by_hand=by_hand, film=name, frames=frames), *offer_lines(offers)):
            print(line)
        print(f"\n{result_line(found)}")
    print(f"written to {out}" + (f"; remembered in {kept}" if kept else ""), file=sys.stderr)
    print(f"{time.perf_counter() - started_s:.0f} s", file=sys.stderr)
    return 0


def search_film(bench: FilmBench, arguments: argparse.Namespace, *, budget_s: float) -> Found:
    """Search, and say on standard error how it goes.

    Raises:
        MediaError: The film cannot be run as the config says.
    """

    def report(run: Measured) -> None:
        result = run.refusal or f"{run.fps:.4g} fps" + (", given up" if run.is_abandoned else "")
        print(f"{spell_settings(run.settings)}: {result}", file=sys.stderr, flush=True)

    plan = bench.plan()
    knobs = knobs_of(plan, cores=usable_core_count(), takes_preset=arguments.encoder)
    try:
        return search(bench, knobs, budget_s=budget_s, report=report)
    except ValueError as exc:
        raise MediaError(f"{plan.info.path}: {exc}", path=plan.info.path) from exc


def forget(plan: JobPlan) -> int:
    """Remove what is remembered for a plan's circumstances."""
    folder = default_folder()
    path = None if folder is None else folder / file_name(circumstances(plan))
    is_there = path is not None and path.exists()
    if path is not None:
        path.unlink(missing_ok=True)
    print(f"removed {path}" if is_there else "nothing is remembered for this film, network and machine")
    return 0


if __name__ == "__main__":
    sys.exit(main())

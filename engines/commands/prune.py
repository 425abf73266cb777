"""``engines prune``: remove compiled engines that are not needed any more."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from engines.cache.pruning import PruneLimits
from engines.cache.store import EngineStore
from engines.commands import Output
from engines.commands.engine_words import entry_json, size_text
from engines.errors import EngineError

SUMMARY = "Remove compiled engines by age, size or model, and what is damaged or was left by crashes."

_SECONDS_PER_DAY = 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``engines.commands.Command``."""
    parser.add_argument(
        "--older-than", type=_number, metavar="DAYS", help="remove engines that were not used for this many days"
    )
    parser.add_argument(
        "--max-gb", type=_number, metavar="N", help="remove the longest unused until the rest takes at most N GB"
    )
    parser.add_argument("--model", metavar="M", help="only this model's engines; all of them without another limit")
    parser.add_argument("--all", action="store_true", help="remove all engines and timing caches")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="folder of compiled engines")
    parser.add_argument("--json", action="store_true", help="print the result for programs")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """See ``engines.commands.Command``. Gives 0 also if there was nothing to remove.

    Raises:
        EngineError: ``--all`` was given with a limit that contradicts it.
    """
    if arguments.all and (arguments.older_than is not None or arguments.max_gb is not None):
        raise EngineError(
            "--all removes everything, so --older-than and --max-gb have no place beside it",
            hint="give --all alone, or with --model",
        )
    store = EngineStore(arguments.cache_dir)
    limits = PruneLimits(
        older_than_s=None if arguments.older_than is None else arguments.older_than * _SECONDS_PER_DAY,
        max_bytes=None if arguments.max_gb is None else int(arguments.max_gb * 10**9),
        model=arguments.model,
        everything=arguments.all,
    )
    report = store.prune(limits, dry_run=arguments.dry_run)
    if arguments.json:
        output.put_json(
            {
                "cache_dir": str(store.folder),
                "dry_run": arguments.dry_run,
                "freed_bytes": report.freed_bytes,
                "removed": [entry_json(entry) for entry in report.removed],
                "kept": [entry_json(entry) for entry in report.kept],
            }
        )
        return 0
    verb = "would remove" if arguments.dry_run else "removed"
    for entry in report.removed:
        output.put(f"{verb} {entry.path.name} ({size_text(entry.file_bytes)}, {entry.problem or entry.kind})")
    for entry in report.kept:
        output.put(f"kept {entry.path.name}: somebody is building it")
    output.say(f"{verb} {len(report.removed)} files, {size_text(report.freed_bytes)}, from {store.folder}")
    if limits == PruneLimits():
        output.say("hint: engines in order stay unless --older-than, --max-gb, --model or --all says which go")
    return 0


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value

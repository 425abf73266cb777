"""``engines verify``: check every cached engine as far as this machine can, and say what it cannot."""

from __future__ import annotations

import argparse
from pathlib import Path

from engines.cache.store import EngineStore
from engines.commands import Output
from engines.commands.engine_words import entry_json
from engines.errors import EngineError
from engines.trt.checking import EngineCheck, check_engine

SUMMARY = "Check the cached engines: checksums, versions and, on their GPU, the results against the float32 network."

_WORDS = {
    "ok": "ok",
    "unchecked": "sound, but not run",
    "stale": "stale",
    "wrong": "WRONG",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``engines.commands.Command``."""
    parser.add_argument("--model", metavar="M", help="only this model's engines")
    parser.add_argument("--no-run", action="store_true", help="do not load engines on the GPU")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="folder of compiled engines")
    parser.add_argument("--json", action="store_true", help="print the result for programs")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """See ``engines.commands.Command``. Gives 1 if anything of ours is damaged, does not load or computes wrongly.

    Raises:
        EngineError: The model has no engine in the cache.
    """
    store = EngineStore(arguments.cache_dir)
    results = []
    for entry in store.entries(check_content=True):
        if arguments.model is not None and (entry.key is None or entry.key.model != arguments.model):
            continue
        if entry.kind == "damaged":
            check = EngineCheck(verdict="wrong", remarks=(entry.problem,))
        elif entry.kind == "timing":
            check = EngineCheck(verdict="ok", remarks=())
        elif entry.key is not None:
            if not arguments.json:
                output.say(f"checking {entry.path.name} ...")
            check = check_engine(store, entry.key, runs=not arguments.no_run)
        else:
            continue
        results.append((entry, check))
    if arguments.model is not None and not results:
        raise EngineError(
            f"there is no engine of {arguments.model} in {store.folder}", hint="python -m engines list shows them"
        )
    if arguments.json:
        output.put_json(
            [
                {**entry_json(entry), "verdict": check.verdict, "remarks": check.remarks, "accuracy": check.accuracy}
                for entry, check in results
            ]
        )
    else:
        for entry, check in results:
            output.put(f"{_WORDS[check.verdict]}: {entry.path.name}{_figures(check)}")
            for remark in check.remarks:
                output.put(f"  {remark}")
        _say_summary([check for _, check in results], output, folder=store.folder)
    return 1 if any(check.verdict == "wrong" for _, check in results) else 0


def _figures(check: EngineCheck) -> str:
    if check.accuracy is None:
        return ""
    return f" ({check.accuracy['psnr_film_db']:.1f} dB on film, largest difference {check.accuracy['max_abs']:.2g})"


def _say_summary(checks: list[EngineCheck], output: Output, *, folder: Path) -> None:
    counts = [f"{sum(check.verdict == verdict for check in checks)} {words}" for verdict, words in _WORDS.items()]
    output.say(f"{len(checks)} files in {folder}: {', '.join(counts)}")
    if any(check.verdict == "stale" for check in checks):
        output.say("hint: stale engines are never used; python -m engines prune removes them by age, size or model")

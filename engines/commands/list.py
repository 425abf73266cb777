"""``engines list``: which models are on this machine, and which engines are in the cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engines.cache.listing import CacheEntry
from engines.cache.store import EngineStore
from engines.commands import Output
from engines.commands.engine_words import ENGINE_COLUMNS, engine_row, entry_json, size_text
from engines.commands.table import put_table
from engines.errors import WeightsError
from engines.models import MODELS
from engines.spec import ModelSpec
from engines.weights import find_weights_files, models_dir

SUMMARY = "List the models, where their weights are or come from, and the compiled engines in the cache."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``engines.commands.Command``."""
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="folder of compiled engines")
    parser.add_argument("--json", action="store_true", help="print the lists for programs")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """See ``engines.commands.Command``. Always gives 0: a model that is not here is no error."""
    models = [_describe(model) for model in MODELS.values()]
    store = EngineStore(arguments.cache_dir)
    entries = store.entries()
    if arguments.json:
        output.put_json(
            {
                "models_dir": str(models_dir()),
                "models": models,
                "cache_dir": str(store.folder),
                "entries": [entry_json(entry) for entry in entries],
            }
        )
        return 0
    _put_models(models, output)
    _put_engines(entries, output, folder=store.folder)
    return 0


def _describe(model: ModelSpec) -> dict[str, Any]:
    """A model of the table, its files and whether they are here."""
    files, missing, hint = [], "", ""
    if model.files:
        try:
            files = [str(path) for path in find_weights_files(model)]
        except WeightsError as exc:
            missing, hint = str(exc), exc.hint
    return {
        "name": model.name,
        "scale": model.scale,
        "summary": model.summary,
        "present": not missing,
        "files": files,
        "missing": missing,
        "hint": hint,
        "published": [
            {"name": file.name, "sha256": file.sha256, "url": file.url} for file in (*model.files, *model.denoise_files)
        ],
    }


def _put_models(models: list[dict[str, Any]], output: Output) -> None:
    put_table(
        output,
        columns=("model", "scale", "weights", "good for"),
        rows=[(one["name"], f"x{one['scale']}", _weights_text(one), one["summary"]) for one in models],
    )
    for one in models:
        if not one["present"]:
            output.put("")
            output.put(one["missing"])
            output.put(f"  {one['hint']}")


def _weights_text(model: dict[str, Any]) -> str:
    if not model["present"]:
        return "missing"
    return ", ".join(Path(path).name for path in model["files"]) or "none needed"


def _put_engines(entries: tuple[CacheEntry, ...], output: Output, *, folder: Path) -> None:
    engines = [entry for entry in entries if entry.kind == "engine"]
    others = [entry for entry in entries if entry.kind != "engine"]
    ours = sum(entry.file_bytes for entry in entries if entry.kind != "foreign")
    output.put("")
    output.put(f"{len(engines)} compiled engines in {folder}, {size_text(ours)} with all that belongs to them")
    if engines:
        output.put("")
        put_table(output, columns=ENGINE_COLUMNS, rows=[engine_row(entry) for entry in engines])
    if others:
        words = {
            "timing": "measurements of earlier builds",
            "damaged": "damaged, will be built anew",
            "leftover": "left by a crash; `python -m engines prune` removes it",
            "foreign": "not ours, left alone",
        }
        output.put("")
        put_table(
            output,
            columns=("other file", "size", "what it is"),
            rows=[
                (
                    entry.path.name,
                    size_text(entry.file_bytes),
                    words[entry.kind] + (f": {entry.problem}" if entry.problem else ""),
                )
                for entry in others
            ],
        )

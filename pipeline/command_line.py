"""The verbs of the command line and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline import __version__

Command = Callable[[argparse.Namespace], int]
"""What a verb does; gives the exit code."""


def make_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of all verbs.

    Args:
        commands: What each verb does, by its name; it ends up as ``command`` among the arguments.
    """
    parser = argparse.ArgumentParser(
        prog="nightscale",
        description="Upscale films: frames through a Real-ESRGAN network, everything else copied.",
        epilog="Exit codes: 0 done, 1 some films failed, 2 wrong config, 3 something is missing on this machine, "
        "70 internal error, 130 stopped.",
    )
    parser.add_argument("--version", action="version", version=f"nightscale {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, text: str, *, config: bool) -> None:
        verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        verb.set_defaults(command=commands[name])
        verb.add_argument("-v", "--verbose", action="count", default=0, help="log more to standard error; -vv: all")
        if config:
            verb.add_argument("config", type=Path, metavar="CONFIG", help="YAML file; see configs/example.yaml")
            verb.add_argument(
                "--set",
                dest="overrides",
                action="append",
                default=[],
                metavar="KEY=VALUE",
                help="override one key, as in --set scale.factor=2; can be repeated",
            )
        if name != "schema":
            verb.add_argument("--json", action="store_true", help="write the result as JSON to standard output")

    add("run", "upscale all films of a config, or go on with them", config=True)
    run = verbs.choices["run"]
    run.add_argument(
        "--restart", action="store_true", help="begin all films anew; what earlier runs have begun is moved aside"
    )
    run.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="folder for the run's log, status and report; see output.dir"
    )
    add(
        "check",
        "check a config, this machine, each film and the place of its result",
        config=True,
    )
    add("plan", "say what a run would do, and what it would need", config=True)
    for name, text in (
        ("status", "say how a run is"),
        ("pause", "let a run finish its segment and wait, without the GPU"),
        ("resume", "let a paused run go on"),
        ("stop", "let a run finish its segment and end; started again, it goes on there"),
    ):
        add(name, text, config=False)
        verbs.choices[name].add_argument(
            "place", type=Path, metavar="PLACE", help="the run's folder, its output folder, or its config file"
        )
    add("verify", "compare a result with its source", config=False)
    verify = verbs.choices["verify"]
    verify.add_argument("source", type=Path, metavar="SOURCE", help="the film")
    verify.add_argument("result", type=Path, metavar="RESULT", help="what was made of it: a film or a folder of PNG")
    verify.add_argument("--config", type=Path, help="that of the run: what it promises is compared too")
    verify.add_argument("--full", action="store_true", help="compare all frames, not only a sample")
    add("doctor", "say what this machine has and lacks, and what installs it", config=False)
    add("schema", "write the JSON Schema of the config format", config=False)
    return parser

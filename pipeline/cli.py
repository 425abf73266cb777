"""The command line: verbs that call one function each. Results go to standard output, words to standard error.

Exit codes: 0 done, 1 some films failed, 2 wrong config or command line, 3 the machine lacks something, 70 a defect or a
run that stopped moving, 130 stopped by the user.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.command_line import Command, make_parser
from pipeline.show.explain import ExitCode, exit_code, explain, is_expected

if TYPE_CHECKING:
    from pipeline.config import Config

logger = logging.getLogger(__name__)


def entry() -> None:
    """Run the program: the console script and ``python -m pipeline``."""
    open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        # A path is written as the bytes it has, whatever the locale says: results are read by other programs.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape" if stream is sys.stdout else "backslashreplace")
    sys.exit(main(sys.argv[1:]))


def open_missing_streams() -> None:
    """Give a closed standard stream a place that takes everything.

    A process may be started without them (``2>&-``, some schedulers). The next file it opens would get the descriptor,
    and whatever a library writes to standard error would end up in a film.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the lowest free descriptor, which is the missing stream's own, and stays open as long as we run.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Arguments without the program's name; None: the process's.

    Returns:
        The exit code. Nothing is raised.
    """
    try:
        arguments = make_parser(commands()).parse_args(argv)
    except SystemExit as exc:  # argparse has said why, on the right stream
        return exc.code if isinstance(exc.code, int) else ExitCode.WRONG_CONFIG
    configure_logging(arguments.verbose)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return int(command(arguments))
    except KeyboardInterrupt as exc:
        return complain(exc)
    except Exception as exc:  # noqa: BLE001 - the last line of defence: whatever it is, one clear line and a code
        return complain(exc)


def complain(exc: BaseException) -> int:
    """Write an error to standard error and return its exit code. Tracebacks: of defects always, of others with -vv."""
    for line in explain(exc, encoding=sys.stderr.encoding or "utf-8"):
        say(line)
    logger.log(logging.DEBUG if is_expected(exc) else logging.ERROR, "traceback of that error", exc_info=exc)
    return exit_code(exc)


def say(text: str) -> None:
    """Write a line for people. A closed standard error loses the line, not the run."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        logger.debug("standard error is closed")


def put(text: str) -> None:
    """Write a line of the result to standard output."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Whoever read it has seen enough: that is no failure of what was asked for. Python would complain once more
        # when it flushes at exit, so from here on the descriptor leads nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def configure_logging(verbosity: int) -> None:
    """Send log records to standard error: warnings, with -v what the operator may want, with -vv everything."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    for package in ("pipeline", "engines"):
        logging.getLogger(package).setLevel(level)


def read_config(arguments: argparse.Namespace) -> Config:
    """The config that the command line names."""
    from pipeline.config.load import load_config

    return load_config(arguments.config, arguments.overrides)


def command_run(arguments: argparse.Namespace) -> int:
    """``run``: upscale; print the paths of the finished films."""
    config = read_config(arguments)
    from pipeline import run
    from pipeline.batch import RunOptions

    options = RunOptions(config_path=arguments.config, run_folder=arguments.run_dir, restart=arguments.restart)
    result = run(config, options=options)  # signals are its business while it runs
    if arguments.json:
        put_json(result.as_json())
    else:
        for path in result.outputs:
            put(str(path))
    return int(result.exit_code)


def command_status(arguments: argparse.Namespace) -> int:
    """``status``: a table, or JSON."""
    from dataclasses import asdict

    from pipeline.night.commands import describe_run, locate_run

    folder = locate_run(arguments.place)
    status, lines = describe_run(folder)
    if arguments.json:
        put_json({"run": str(folder), "is_dead": status.is_dead(), **asdict(status)})
    else:
        for line in lines:
            put(line)
    return ExitCode.DONE


def command_pause(arguments: argparse.Namespace) -> int:
    """``pause``: see the verb's help."""
    return ask(arguments, "pause")


def command_resume(arguments: argparse.Namespace) -> int:
    """``resume``: see the verb's help."""
    return ask(arguments, None)


def command_stop(arguments: argparse.Namespace) -> int:
    """``stop``: see the verb's help."""
    return ask(arguments, "stop")


def ask(arguments: argparse.Namespace, request: Literal["pause", "stop"] | None) -> int:
    """Ask a run for something and say that it was asked."""
    from pipeline.night.commands import ask_run, locate_run

    folder = locate_run(arguments.place)
    answer = ask_run(folder, request)
    if arguments.json:
        put_json({"run": str(folder), "answer": answer})
    else:
        put(answer)
    return ExitCode.DONE


def command_check(arguments: argparse.Namespace) -> int:
    """``check``: validate the config, then look at the machine and at each film; go on after a problem."""
    config = read_config(arguments)
    from pipeline.checks import Checked, check_all

    items: list[dict[str, Any]] = []
    codes: list[int] = []
    for checked in chain([Checked(name="config", found=(str(arguments.config),))], check_all(config)):
        if checked.error is None:
            found, *details = checked.found
        else:
            found, details = " ".join(explain(checked.error)), []
            codes.append(complain(checked.error))
        items.append({"name": checked.name, "ok": checked.error is None, "found": found, "details": details})
        if checked.error is None and not arguments.json:
            for line in (f"ok: {checked.name}: {found}", *(f"  {detail}" for detail in details)):
                put(line)
    if arguments.json:
        put_json({"ok": not codes, "items": items})
    return max(codes, default=ExitCode.DONE)


def command_plan(arguments: argparse.Namespace) -> int:
    """``plan``: what each film's job would be; go on after a film that cannot be planned."""
    config = read_config(arguments)
    from pipeline.planned import PlannedFilm, plan_all
    from pipeline.show.build import BuildReporter
    from pipeline.show.plan_words import plan_as_json, plan_lines
    from pipeline.show.progress import open_display

    plans = []
    codes: list[int] = []
    with open_display(config.run.progress, report_every_s=config.run.report_every_s) as display:
        for planned in plan_all(config, listener=BuildReporter(display)):
            if not isinstance(planned, PlannedFilm):
                codes.append(complain(planned))
                continue
            plans.append({**plan_as_json(planned.plan), "engine_fps_measured": planned.pace_fps})
            if not arguments.json:
                for line in plan_lines(planned.plan, pace_fps=planned.pace_fps):
                    put(line)
    if arguments.json:
        put_json({"jobs": plans})
    return max(codes, default=ExitCode.DONE)


def command_verify(arguments: argparse.Namespace) -> int:
    """``verify``: what is wrong with a result, or what was compared."""
    from pipeline.config.load import load_config
    from pipeline.verify.command import verify_files

    config = None if arguments.config is None else load_config(arguments.config)
    verification = verify_files(arguments.source, arguments.result, config=config, is_full=arguments.full)
    if arguments.json:
        put_json(verification.as_json())
    else:
        for line in verification.lines():
            put(line)
    return ExitCode.DONE if verification.is_ok else ExitCode.SOME_FAILED


def command_doctor(arguments: argparse.Namespace) -> int:
    """``doctor``: a table of what is here, what is missing, and what a run would use."""
    from pipeline.doctor import diagnose

    diagnosis = diagnose()
    if arguments.json:
        put_json(diagnosis.as_json())
    else:
        for line in diagnosis.lines():
            put(line)
    return ExitCode.DONE if diagnosis.can_run else ExitCode.WRONG_SETUP


def command_schema(arguments: argparse.Namespace) -> int:  # noqa: ARG001 - all verbs take the same argument
    """``schema``: the config format for editors."""
    from pipeline.config.schema import config_schema

    put_json(config_schema())
    return ExitCode.DONE


def put_json(value: Any) -> None:
    """Write a result for programs to standard output."""
    put(json.dumps(value, indent=2, allow_nan=False))


def commands() -> dict[str, Command]:
    """What each verb does."""
    return {
        "run": command_run,
        "status": command_status,
        "pause": command_pause,
        "resume": command_resume,
        "stop": command_stop,
        "check": command_check,
        "plan": command_plan,
        "verify": command_verify,
        "doctor": command_doctor,
        "schema": command_schema,
    }

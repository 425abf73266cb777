"""The command line ``python -m engines``: weights -> ONNX -> compiled engine, step by step.

Results go to standard output, words to standard error. Exit codes: 0 done, 1 it failed or a check did, 2 wrong command
line, 3 the machine lacks something, 70 a defect, 130 stopped by the user.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import cast

from engines.commands import COMMANDS, Command, Output
from engines.errors import BackendUnavailable, BuildCancelled, EngineError

DONE, FAILED, WRONG_USE, WRONG_SETUP, DEFECT, STOPPED = 0, 1, 2, 3, 70, 130

logger = logging.getLogger(__name__)


def entry() -> None:
    """Run the program."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Arguments without the program's name; None: the process's.

    Returns:
        The exit code. Nothing is raised.
    """
    output = Output(put=_put, say=_say)
    try:
        commands = {verb: cast(Command, importlib.import_module(name)) for verb, name in COMMANDS.items()}
        arguments = make_parser(commands).parse_args(argv)
        logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.WARNING, format="%(message)s")
        return commands[arguments.verb].run(arguments, output)
    except SystemExit as exc:  # argparse's own
        return exc.code if isinstance(exc.code, int) else WRONG_USE
    except BuildCancelled as exc:
        _say(f"stopped: {exc}")
        return STOPPED
    except EngineError as exc:
        _say(f"error: {exc}")
        if exc.hint:
            _say(f"hint: {exc.hint}")
        return WRONG_SETUP if isinstance(exc, BackendUnavailable) else FAILED
    except KeyboardInterrupt:
        _say("stopped")
        return STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has left; nothing is wrong
        return 128 + signal.SIGPIPE
    except Exception:
        logger.exception("this is a defect of the program, not of your input")
        return DEFECT


def make_parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(prog="python -m engines", description="Networks as ONNX and engines.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, command in commands.items():
        sub = verbs.add_parser(verb, help=command.SUMMARY, description=command.SUMMARY)
        sub.add_argument("-v", "--verbose", action="store_true", help="say more, with tracebacks")
        command.add_arguments(sub)
    return parser


def _put(text: str) -> None:
    print(text, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

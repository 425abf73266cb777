"""Everything that has to hold before a change lands, in order: format, lint, types, tests.

    python tools/check_repo.py [--no-tests | --all] [pytest arguments ...]

Stops at the first step that fails and exits with its status.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def steps(pytest_arguments: list[str], *, with_tests: bool) -> list[list[str]]:
    """The command lines to run, each without the Python interpreter in front."""
    commands = [
        ["ruff", "format", "--check", "--quiet", "."],
        ["ruff", "check", "--quiet", "."],
        ["mypy"],
    ]
    if with_tests:
        workers = str(min(8, os.cpu_count() or 1))
        commands.append(["pytest", "-q", "-n", workers, *pytest_arguments])
    return commands


def main(argv: list[str] | None = None) -> int:
    """Run the steps; the first failing one decides the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="the tests marked slow too")
    parser.add_argument("--no-tests", action="store_true", help="only format, lint and types")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.all:
        rest = ["-m", "slow or not slow", *rest]
    for command in steps(rest, with_tests=not arguments.no_tests):
        print("$ python -m " + " ".join(command), flush=True)
        status = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode
        if status != 0:
            print(f"failed: {command[0]} (exit status {status})", flush=True)
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The verbs of ``python -m engines``, one module each; ``engines.cli`` finds them here and turns errors into words."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "list": "engines.commands.list",
        "export": "engines.commands.export",
        "build": "engines.commands.build",
        "inspect": "engines.commands.inspect",
        "verify": "engines.commands.verify",
        "prune": "engines.commands.prune",
    }
)
"""Module by verb, in the order in which help shows them. Read-only."""


class Output:
    """Where a command's words and results go: words to standard error, results to standard output.

    Args:
        put: Writes one line to standard output.
        say: Writes one line to standard error.
    """

    def __init__(self, *, put: Callable[[str], None], say: Callable[[str], None]) -> None:
        self.put = put
        self.say = say

    def put_json(self, value: Any) -> None:
        """Write a result for programs."""
        import json

        self.put(json.dumps(value, indent=2, allow_nan=False))


class Command(Protocol):
    """A module of this package."""

    SUMMARY: str
    """One line for ``--help``, with its full stop."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        ...

    def run(self, arguments: argparse.Namespace, output: Output) -> int:
        """Do it.

        Returns:
            The exit code: 0, or 1 where something that was looked at is not as it should be.

        Raises:
            EngineError: With what is wrong; ``engines.cli`` says it and chooses the exit code.
        """
        ...

"""The user's commands at the end of a film and of the run, with what became of it as JSON on standard input."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import IO, Any

from pipeline.show.wording import safe_text

logger = logging.getLogger(__name__)

TIMEOUT_S = 60.0
"""A hook that takes longer is ended: the night does not wait for it."""

_LOOK_S = 0.05
"""How often it is looked whether a hook has ended: film after film waits for that."""

_OUTPUT_BYTES = 200_000_000
"""What a hook writes is kept in a file without a name, emptied at this length. The last lines of a hook that ends in
the very instant of emptying are lost: so it is far above what a hook says."""

_SHOWN_BYTES = 2_000
"""The end of its output, which is logged."""


def run_hook(
    command: str,
    facts: Mapping[str, Any],
    *,
    timeout_s: float = TIMEOUT_S,
    tick: Callable[[], None] = lambda: None,
) -> str | None:
    """Run a command in the shell. Blocks until it ends; what it left running in the background then goes on.

    Args:
        command: As typed at a prompt. Its output goes to the log.
        facts: JSON-native values for its standard input, which it need not read.
        timeout_s: Longest time that it may take, seconds; then it ends with all that it started.
        tick: Called in this thread while it runs, many times a second.

    Returns:
        What went wrong, in one sentence; None if nothing did. A hook never fails a run.
    """
    with ExitStack() as stack:
        try:
            facts_file = stack.enter_context(tempfile.TemporaryFile())  # a file: nobody has to wait until it is read
            output = stack.enter_context(tempfile.TemporaryFile("a+b"))
            facts_file.write(json.dumps(facts).encode("ascii"))
            facts_file.seek(0)
            process = subprocess.Popen(
                command, shell=True, stdin=facts_file, stdout=output, stderr=output, start_new_session=True
            )
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the command
            return f"the hook {command!r} cannot be started: {getattr(exc, 'strerror', None) or exc}"
        has_ended = _wait(process, output, timeout_s=timeout_s, tick=tick)
        said = _tail(output)
    for line in said:
        logger.info("hook: %s", line)
    last = f": {said[-1]}" if said else ""
    if not has_ended:
        return f"the hook {command!r} was ended after {timeout_s:g} s{last}"
    if process.returncode < 0:
        return f"the hook {command!r} was killed by signal {-process.returncode}{last}"
    if process.returncode > 0:
        return f"the hook {command!r} ended with code {process.returncode}{last}"
    return None


def _wait(process: subprocess.Popen[bytes], output: IO[bytes], *, timeout_s: float, tick: Callable[[], None]) -> bool:
    """Wait for a hook.

    Returns:
        Whether it ended by itself; otherwise its whole group was killed.
    """
    until_s = time.monotonic() + timeout_s
    try:
        while (left_s := until_s - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=min(_LOOK_S, left_s))
                return True
            if os.fstat(output.fileno()).st_size > _OUTPUT_BYTES:
                os.truncate(output.fileno(), 0)
            tick()
        return False
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tail(output: IO[bytes]) -> list[str]:
    """The last lines of an output, safe to show."""
    output.seek(max(0, os.fstat(output.fileno()).st_size - _SHOWN_BYTES))
    text = output.read(_SHOWN_BYTES).decode("utf-8", "backslashreplace")
    return [safe_text(line) for line in text.splitlines() if line.strip()]

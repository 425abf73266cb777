"""The ffmpeg program: finding it, and running it so that it can be fed, watched and killed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.errors import OutputError, SetupError

if TYPE_CHECKING:
    from pipeline.graph.stop import StopToken

_LOGGER = logging.getLogger(__name__)

_MINIMUM_MAJOR = 6
"""FFmpeg 6.0 brought ``-display_rotation`` for inputs."""
_VERSION_TIMEOUT_S = 30.0
"""Printing a version takes milliseconds; a program that hangs is not usable."""
_SAID_LINES = 3
"""ffmpeg's last lines hold the cause; earlier ones are its way there."""
_INSTALL = "pip install imageio-ffmpeg (or: apt install ffmpeg)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FfmpegProgram:
    """An ffmpeg that runs here."""

    path: Path
    version: str
    """As it calls itself, such as ``6.1.1-3ubuntu5`` or ``n7.1``."""


def find_ffmpeg() -> FfmpegProgram:
    """The system's ffmpeg if there is one that is recent enough, else the one that imageio-ffmpeg brings.

    Raises:
        SetupError: There is neither.
    """
    reasons = []
    on_path = shutil.which("ffmpeg")
    if on_path is None:
        reasons.append("there is none on PATH")
    else:
        program = _try_program(Path(on_path))
        if program is not None and _is_recent(program.version):
            return program
        found = program.version if program is not None else "does not run"
        reasons.append(f"{on_path} is too old or broken ({found}; {_MINIMUM_MAJOR}.0 or later is needed)")
    bundled = _find_bundled()
    program = None if bundled is None else _try_program(bundled)
    if program is not None:
        return program
    reasons.append("imageio-ffmpeg has none" if bundled is None else f"{bundled} does not run")
    raise SetupError(f"no ffmpeg program: {' and '.join(reasons)}", missing="ffmpeg", hint=_INSTALL)


def run_ffmpeg(
    program: FfmpegProgram,
    arguments: Sequence[str],
    *,
    output: Path,
    feed: Callable[[IO[bytes]], None] | None = None,
    stop: StopToken | None = None,
) -> None:
    """Run ffmpeg to its end. Blocks until then.

    It runs in a session of its own, so that a Ctrl-C at the terminal reaches this process alone, which decides; a
    process that has a session and no terminal, as a film's own has, keeps it in its group, to be killed with it.

    Args:
        program: From ``find_ffmpeg``.
        arguments: Everything after the program's name.
        output: The file that it writes, for messages.
        feed: Writes its standard input; called once, in this thread. None: it gets none.
        stop: Its ``abort`` kills the program.

    Raises:
        OutputError: The program failed; with its own last words.
        Aborted: ``stop`` was aborted meanwhile.
        Exception: Whatever ``feed`` raises, unless the program's own failure is the reason for it.
    """
    with ExitStack() as stack:
        # a file and not a pipe: nobody has to read it while standard input is written
        said = stack.enter_context(tempfile.TemporaryFile())
        command = [str(program.path), "-hide_banner", "-loglevel", "warning", "-nostats", "-y", *arguments]
        _LOGGER.debug("running %s", command)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=not _is_apart(),
        )
        stack.callback(_end, process)
        if stop is not None:
            stack.enter_context(stop.on_abort(process.kill))
        if feed is not None:
            assert process.stdin is not None
            _feed(process, process.stdin, feed)
        code = process.wait()
        if stop is not None:
            stop.raise_if_aborted()
        lines = _last_lines(said)
        if code != 0:
            raise OutputError(
                f"ffmpeg could not write {output} (exit code {code}): {' | '.join(lines) or 'it said nothing'}",
                path=output,
                hint=_hint(lines, output),
            )
        for line in lines:
            _LOGGER.debug("ffmpeg: %s", line)


def _is_apart() -> bool:
    """Whether this process leads a session without a terminal: nobody signals its group but who means all of it."""
    if os.getsid(0) != os.getpid():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:  # ENXIO: there is none
        return True
    return False


def _feed(process: subprocess.Popen[bytes], stdin: IO[bytes], feed: Callable[[IO[bytes]], None]) -> None:
    """Let ``feed`` write, then close the pipe. If the program stopped reading, its exit code says why."""
    try:
        feed(stdin)
        stdin.close()
    except BrokenPipeError:
        _LOGGER.debug("ffmpeg closed its input early")
        if process.wait() == 0:
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever happened: no process and no pipe stays."""
    if process.poll() is None:
        process.kill()
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            _LOGGER.debug("ffmpeg is gone; what was still buffered for it is dropped")
    process.wait()


def _last_lines(said: IO[bytes]) -> list[str]:
    said.seek(0)
    text = said.read().decode("utf-8", errors="replace")
    lines = [re.sub(r" @ 0x[0-9a-f]+", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line][-_SAID_LINES:]


def _hint(lines: list[str], output: Path) -> str:
    if any("No space left on device" in line for line in lines):
        return f"make room on the disk of {output.parent} and start again"
    return "start again with -v for the whole command; output.container: mkv takes the most kinds of streams"


def _find_bundled() -> Path | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:  # "No ffmpeg exe could be found"
        return None


def _try_program(path: Path) -> FfmpegProgram | None:
    """The program with its version; None if it does not run."""
    try:
        done = subprocess.run(
            [str(path), "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        _LOGGER.debug("%s does not run: %s", path, exc)
        return None
    match = re.match(r"ffmpeg version (\S+)", done.stdout)
    if done.returncode != 0 or match is None:
        _LOGGER.debug("%s -version gave exit code %d and %r", path, done.returncode, done.stdout[:200])
        return None
    return FfmpegProgram(path=path, version=match[1])


def _is_recent(version: str) -> bool:
    """Unnumbered versions are builds of the development branch, which are newer than any number here."""
    match = re.match(r"n?(\d+)\.", version)
    return match is None or int(match[1]) >= _MINIMUM_MAJOR

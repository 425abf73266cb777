"""What another terminal, or another host on the same file system, asks of a run: files in the run's folder.

``pause`` is there as long as the run is to be paused. ``stop`` is taken away by the run when it obeys.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engines.atomic import write_atomic
from pipeline.errors import OutputError

Request = Literal["pause", "stop"]
REQUESTS: Sequence[Request] = ("pause", "stop")


def make_request(folder: Path, request: Request) -> None:
    """Ask something of the run of a folder. Asking again changes nothing.

    Raises:
        OutputError: The folder cannot be written.
    """
    who = f"{socket.gethostname()} process {os.getpid()}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    try:
        path = request_path(folder, request)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, who.encode())
    except OSError as exc:
        raise OutputError(
            f"cannot ask the run in {folder}: {exc.strerror}", path=folder, hint="ask as the user who started the run"
        ) from exc


def withdraw_request(folder: Path, request: Request) -> bool:
    """Ask it no longer.

    Returns:
        Whether it was asked.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        request_path(folder, request).unlink()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise OutputError(
            f"cannot ask the run in {folder}: {exc.strerror}", path=folder, hint="ask as the user who started the run"
        ) from exc
    return True


def list_requests(folder: Path) -> frozenset[Request]:
    """What is asked now; nothing while the folder cannot be read, as on a network folder that is away for a moment."""
    return frozenset(request for request in REQUESTS if _is_made(request_path(folder, request)))


def _is_made(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def request_path(folder: Path, request: Request) -> Path:
    """The file that a request is."""
    return folder / "requests" / request

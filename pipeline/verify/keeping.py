"""What becomes of a result that failed its verification: it is kept, under a name that nobody takes for a result."""

from __future__ import annotations

import shutil
from pathlib import Path

from engines.atomic import fsync_folder
from pipeline.errors import OutputError, VerificationFailed

FAILED_WORDS = ".failed-verification"
"""Between the name and its ending."""


def failed_name(output: Path) -> Path:
    """Where a result goes that failed: ``film.failed-verification.mkv`` beside ``film.mkv``; folders the same way."""
    return output.with_name(f"{output.stem}{FAILED_WORDS}{output.suffix}")


def keep_failed(error: VerificationFailed, finished: Path, *, output: Path) -> VerificationFailed:
    """Move a result that failed beside where it would have gone; an older one that failed is replaced.

    Args:
        error: Why it failed.
        finished: The result in its work folder: a file or a folder of pictures.
        output: The name it does not get.

    Returns:
        The error to raise: the same, and where the result is.

    Raises:
        OutputError: It cannot be moved.
    """
    kept = failed_name(output)
    try:
        if kept.is_dir() and not kept.is_symlink():
            shutil.rmtree(kept)
        finished.replace(kept)
        fsync_folder(kept.parent)
    except OSError as exc:
        raise OutputError(
            f"{error}; it cannot be kept as {kept}: {exc.strerror or exc}", path=kept, hint="check the folder"
        ) from exc
    text = str(error).replace(str(finished), str(output))
    return VerificationFailed(f"{text}; it is kept as {kept.name}", path=kept, hint=error.hint)

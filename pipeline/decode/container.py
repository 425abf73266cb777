"""Opening a media file with libav: every way in which that fails becomes one ``MediaError`` that says why.

What differs between PyAV 18 and 19 for whoever reads a file is settled here.
"""

from __future__ import annotations

import errno
import stat
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.media import MediaInfo

if TYPE_CHECKING:
    from av.container import InputContainer

_ENDS_BYTES = 5_000_000
"""As much as libav reads to find out what a file is (its ``probesize``)."""
NOT_A_FILM_HINT = "check that it is a video file: ffprobe shows what is in it"


def open_media(path: Path) -> InputContainer:
    """Open a local file for demuxing.

    Args:
        path: The file; never a URL or a pattern.

    Returns:
        The open container; the caller closes it.

    Raises:
        UnsupportedMedia: It is not a media file that libav knows.
        MediaError: It does not exist, is a folder, empty, unreadable, or damaged before its first frame.
    """
    import av

    check_readable(path)
    try:
        return open_container(path)
    except av.error.InvalidDataError as exc:
        raise UnsupportedMedia(
            f"{path} is not a media file, or the part that describes it is missing (a cut-off mp4 ends like this)",
            path=path,
            hint=NOT_A_FILM_HINT,
        ) from exc
    except av.error.EOFError as exc:
        raise UnsupportedMedia(
            f"{path} holds no media: the file ends before its first frame", path=path, hint=NOT_A_FILM_HINT
        ) from exc
    except (av.error.FFmpegError, OSError) as exc:
        if exc.errno == errno.EIO and _can_be_read(path):
            # libav's word for a description that is cut off; as a cause, the number would have the job tried again
            raise UnsupportedMedia(
                f"{path} is cut off or broken within the part that describes it", path=path, hint=NOT_A_FILM_HINT
            ) from None
        raise MediaError(f"{path} cannot be opened: {error_text(exc)}", path=path, hint=NOT_A_FILM_HINT) from exc


def _can_be_read(path: Path) -> bool:
    """Whether the disk gives what libav reads when it opens a film: the beginning and the end."""
    try:
        with path.open("rb") as file:
            for place in (0, max(0, path.stat().st_size - _ENDS_BYTES)):
                file.seek(place)
                file.read(_ENDS_BYTES)
    except OSError:
        return False
    return True


def open_container(path: Path) -> InputContainer:
    """Open a local file for demuxing and leave libav's errors as they are.

    Tags in another encoding than UTF-8 do not stop a film: such bytes become surrogates, as in file names, so they can
    be handed on to another program unchanged.

    Raises:
        av.FFmpegError, OSError: It cannot be opened.
    """
    import av
    from av.container import Container

    # PyAV 19 reads tags so without being asked, and no longer takes the argument
    arguments: dict[str, Any] = {"metadata_errors": "surrogateescape"} if hasattr(Container, "metadata_errors") else {}
    # file: keeps libav from reading a colon in a name as a protocol
    container: InputContainer = av.open(f"file:{path}", "r", **arguments)
    return container


def check_readable(path: Path) -> None:
    """Raise ``MediaError`` unless ``path`` is a regular, non-empty file that this user may read."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{path} is a folder, not a film", path=path, hint="name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{path} is not a regular file", path=path, hint="copy its content into a file first")
        if status.st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes)", path=path, hint="copy or download it again")
        with path.open("rb"):
            pass
    except FileNotFoundError as exc:
        raise MediaError(f"{path} does not exist", path=path, hint="check the path") from exc
    except OSError as exc:
        raise MediaError(
            f"{path} cannot be read: {exc.strerror or exc}",
            path=path,
            hint="check who may read the file and its folders",
        ) from exc


def unreadable(info: MediaInfo, error: Exception) -> MediaError:
    """The error for a film that could be read before and no longer can."""
    return MediaError(
        f"{info.path} can no longer be read: {error_text(error)}",
        path=info.path,
        hint="keep the inputs in place while they are upscaled",
    )


def error_text(error: Exception) -> str:
    """libav's or the system's own words for an error, without the path that they repeat."""
    return str(getattr(error, "strerror", None) or error)


def to_fraction(value: Any) -> Fraction:
    """A PyAV rational that is set (``Fraction`` in PyAV 18, ``AVRational`` in 19) as a Fraction."""
    return Fraction(value.numerator, value.denominator)


def exact_fraction(value: Any) -> Fraction | None:
    """A PyAV rational as a positive Fraction; None if it is unset (None in PyAV 18, a false value in 19)."""
    if value is None or not value.denominator or value.numerator <= 0:
        return None
    return to_fraction(value)

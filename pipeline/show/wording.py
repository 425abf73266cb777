"""How figures and foreign text are written for people: spans, counts, and names that a terminal can show safely.

Pure functions on values; nothing here writes anywhere. All displays use them, so that a line in a log and the same line
on a terminal read alike.
"""

from __future__ import annotations

_PLAIN_SPELLING = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{HYPHEN}": "-",
        "\N{MINUS SIGN}": "-",
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{RIGHTWARDS ARROW}": "->",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{NO-BREAK SPACE}": " ",
    }
)
"""What typographic characters become where the stream cannot carry them."""


def safe_text(text: str, *, encoding: str = "utf-8") -> str:
    r"""Make one line that the stream can carry and that cannot steer a terminal.

    File names and stream titles come from outside: they may hold line feeds, escape sequences or bytes that are no
    text.

    Args:
        text: Any text, undecodable bytes as surrogates included.
        encoding: What the stream encodes to.

    Returns:
        ``text`` with every control character, line separator and surrogate written as ``\x1b`` or ``\udcff``, and every
        character that ``encoding`` lacks spelled plainly or written as ``\u2192``. A tab becomes a space.
    """
    line = "".join(
        character
        if character.isprintable() or character == "\N{NO-BREAK SPACE}"
        else " "
        if character == "\t"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(_PLAIN_SPELLING).encode(encoding, "backslashreplace").decode(encoding)
    return line


def format_span(seconds: float) -> str:
    """Write a span as ``0:07``, ``12:34`` or ``1:02:03``; days stay hours (``26:00:00``)."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_rate(fps: float) -> str:
    """Write a measured rate: two decimals below 10 fps, one below 100, none above."""
    decimals = 2 if fps < 9.995 else 1 if fps < 99.95 else 0
    return f"{fps:.{decimals}f} fps"


def format_count(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 frame``, ``2 frames``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_frames(*, done: int, total: int | None) -> str:
    """Write how far a job is: ``125/250 frames (50 %)``; ``125 frames`` where the total is unknown or was too low."""
    if total is None or done > total:
        return format_count(done, "frame")
    share = 100 * done // total if total else 100
    return f"{done}/{format_count(total, 'frame')} ({share} %)"

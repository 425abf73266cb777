"""The program, with a clock on the wall that can be set while it runs. For ``soak.py``.

    python tools/soak_clock.py OFFSET_FILE run CONFIG ...

``OFFSET_FILE`` holds seconds; they are added to what ``pipeline.night.clock`` and ``time.time`` say, from the next
look on. ``datetime.now`` elsewhere stays as it is: setting that too needs the right to set the machine's clock.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path


def main() -> None:
    """Exchange the clock and run the program."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    offset = Path(sys.argv[1])
    true_s = time.time

    def shifted_s() -> float:
        return true_s() + float(offset.read_text(encoding="ascii"))

    from pipeline.cli import entry
    from pipeline.night.clock import Clock

    time.time = shifted_s
    Clock.now = lambda self: datetime.fromtimestamp(shifted_s(), UTC)  # type: ignore[method-assign]  # noqa: ARG005
    sys.argv[:2] = ["nightscale"]
    entry()


if __name__ == "__main__":
    main()

"""Python in a process of its own, for tests that send signals: a library that was loaded for an earlier test may have
signal handlers too, and what happens then is not this program's doing.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program text, dedented, with the tests' helpers importable."""
    prelude = f"import sys\nsys.path[:0] = [{str(ROOT / 'tests')!r}, {str(ROOT)!r}]\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

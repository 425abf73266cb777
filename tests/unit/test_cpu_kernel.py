"""Compilation of kernels where nothing can be cached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("is_writable", [True, False])
def test_kernels_run_with_and_without_a_cache_folder(tmp_path: Path, is_writable: bool) -> None:
    """An installation owned by root and a home that cannot be written must cost compile time, not the run."""
    package = tmp_path / "site"
    package.mkdir()
    shutil.copy(ROOT / "pipeline/cpu/kernel.py", package / "kernel_under_test.py")
    (package / "doubler.py").write_text(
        textwrap.dedent(
            """
            from kernel_under_test import kernel

            @kernel
            def doubled(x):
                return 2 * x
            """
        )
    )
    # A file in the place of each folder that numba would cache in stops every user, root included.
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("XDG_CACHE_HOME", None)
    environment.pop("NUMBA_CACHE_DIR", None)
    if not is_writable:
        (package / "__pycache__").write_text("")
        (tmp_path / "home").write_text("")
    code = "import doubler; print(doubler.doubled(21))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout == "42\n", run.stderr
    assert bool(list(tmp_path.rglob("*.nbi"))) is is_writable

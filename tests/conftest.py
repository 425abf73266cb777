"""For all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator

import pytest

# Test processes run side by side, one for each core: libraries that start a thread for each core and let them spin
# made both many times slower. What a test asks for by name is not touched by this.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure() -> None:
    """Let Ctrl-C reach the tests: a shell's background job starts with it ignored, and its children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what was collected to itself: thousands of tests would be walked through at every collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test logged or printed sendable: file names that are no UTF-8 would end a pytest-xdist worker."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode("utf-8")) for title, text in report.sections
    ]
    return report

"""Tests marked ``gpu`` are skipped only where there is no GPU, and fail there if ``REQUIRE_GPU=1`` demands one."""

from __future__ import annotations

import os

import pytest

from engines.errors import BackendUnavailable
from engines.gpu.cuda import list_devices


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, if nothing demands a GPU."""
    marked = [item for item in items if item.get_closest_marker("gpu") is not None]
    if not marked or os.environ.get("REQUIRE_GPU") == "1":
        return
    try:
        list_devices()
    except BackendUnavailable as exc:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {exc}"))

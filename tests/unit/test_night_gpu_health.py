"""The GPU is watched from outside: what is wrong with it is said once."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.night.gpu_health import GpuHealth


class FakeLibrary:
    """What ``pynvml`` has, as far as it is used."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    class NVMLError_GpuIsLost(NVMLError):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    class NVMLError_FunctionNotFound(NVMLError):
        pass

    def __init__(self, *, gpu_count: int = 1, has_driver: bool = True) -> None:
        self.gpu_count = gpu_count
        self.has_driver = has_driver
        self.is_open = 0
        self.reasons = 0
        self.temperature = 60
        self.error: Exception | None = None

    def nvmlInit(self) -> None:
        if not self.has_driver:
            raise self.NVMLError("Driver Not Loaded")
        self.is_open += 1

    def nvmlShutdown(self) -> None:
        self.is_open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if index >= self.gpu_count:
            raise self.NVMLError("Invalid Argument")
        return ("index", index)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        return ("uuid", uuid)

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        if self.error is not None:
            raise self.error
        return self.temperature

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int:
        return self.reasons


class Watched:
    def __init__(self, library: FakeLibrary, index: int = 0) -> None:
        self.now_s = 0.0
        found = GpuHealth.open(index, clock_s=lambda: self.now_s, library=library)
        assert found is not None
        self.health = found

    def look(self) -> tuple[str, ...]:
        self.now_s += 10.0
        return self.health.look()


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize("reasons", [0x0, 0x1, 0x2, 0x4, 0x10, 0x100])
def test_a_gpu_that_works_or_rests_is_well(reasons: int) -> None:
    library = FakeLibrary()
    library.reasons = reasons
    watched = Watched(library)
    assert [watched.look() for _ in range(3)] == [(), (), ()]
    assert watched.health.summary() == "" and not watched.health.is_lost


@pytest.mark.parametrize(
    ("reasons", "words"),
    [(0x20, "by its driver, because it is too hot"), (0x40, "too hot"), (0x80, "supply"), (0x8, "temperature or")],
)
def test_a_gpu_that_is_slowed_down_is_reported_once_and_summed_up(reasons: int, words: str) -> None:
    library = FakeLibrary()
    watched = Watched(library)
    assert watched.look() == ()
    library.reasons, library.temperature = reasons | 0x4, 91
    (sentence,) = watched.look()
    assert words in sentence and "91 °C" in sentence and sentence.startswith("GPU 0 is slowed down")
    assert watched.look() == ()
    library.reasons = 0
    assert watched.look() == ()
    library.reasons = reasons
    assert watched.look() == ()
    assert watched.health.slow_s == 20.0 and watched.health.summary() == "GPU 0 was slowed down for 0:20"


def test_each_kind_is_said_for_itself() -> None:
    library = FakeLibrary()
    watched = Watched(library)
    library.reasons = 0x20
    assert len(watched.look()) == 1
    library.reasons = 0x20 | 0x40 | 0x8
    assert len(watched.look()) == 2


def test_a_lost_gpu_is_said_once_and_not_asked_again() -> None:
    library = FakeLibrary()
    watched = Watched(library)
    library.error = library.NVMLError_GpuIsLost("GPU is lost")
    (sentence,) = watched.look()
    assert "does not answer any more: GPU is lost" in sentence and watched.health.is_lost
    library.error = None
    library.reasons = 0x40
    assert watched.look() == ()


def test_other_errors_count_as_lost_when_they_stay() -> None:
    library = FakeLibrary()
    watched = Watched(library)
    library.error = library.NVMLError("Unknown Error")
    assert watched.look() == watched.look() == ()
    library.error = None
    assert watched.look() == ()
    library.error = library.NVMLError("Unknown Error")
    assert [len(watched.look()) for _ in range(4)] == [0, 0, 1, 0]


@pytest.mark.parametrize("kind", ["NVMLError_NotSupported", "NVMLError_FunctionNotFound"])
def test_a_gpu_that_does_not_say_is_well(kind: str) -> None:
    library = FakeLibrary()
    watched = Watched(library)
    library.error = getattr(library, kind)("Not Supported")
    assert [watched.look() for _ in range(5)] == [()] * 5


def test_the_library_is_closed_again() -> None:
    library = FakeLibrary()
    with Watched(library).health:
        assert library.is_open == 1
    assert library.is_open == 0
    assert GpuHealth.open(5, library=library) is None and library.is_open == 0


@pytest.mark.parametrize(
    ("visible", "index", "handle"),
    [("2,3", 1, ("index", 3)), ("GPU-abc, 1", 0, ("uuid", "GPU-abc")), ("", 1, ("index", 1))],
)
def test_gpus_are_counted_as_cuda_counts_them(
    monkeypatch: pytest.MonkeyPatch, visible: str, index: int, handle: Any
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = FakeLibrary(gpu_count=4)
    health = Watched(library, index).health
    assert health._handle == handle


@pytest.mark.parametrize("visible", ["MIG-abc", "0", "-1,1"])
def test_what_cannot_be_watched_is_not(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = FakeLibrary()
    assert GpuHealth.open(0 if visible != "0" else 1, library=library) is None and library.is_open == 0


def test_without_a_driver_or_the_package_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GpuHealth.open(0, library=FakeLibrary(has_driver=False)) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuHealth.open(0) is None


def test_newer_packages_may_drop_the_older_name() -> None:
    library = FakeLibrary()
    names = [name for name in dir(library) if name.lower().startswith("nvml") and "Throttle" not in name]
    newer = SimpleNamespace(
        **{name: getattr(library, name) for name in names},
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: 0x40,
    )
    health = GpuHealth.open(0, library=newer)
    assert health is not None and len(health.look()) == 1

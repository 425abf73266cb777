"""The endurance run: what counts as growing, and that nothing does over a few real jobs."""

from __future__ import annotations

import json
import math
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tool_modules import load_tool

from pipeline.errors import OutputError

endurance = load_tool("endurance")
growth = load_tool("growth")

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
JOBS = (
    *(str(ROOT / "configs/demo.yaml"), "--short-frames", "3", "--loop-s", "0.4", "--every-s", "0.1"),
    *("--set", "infer.model=nearest-x2", "--set", "scale.factor=2", "--set", "encode.kind=libx264"),
    *("--set", "encode.preset=ultrafast", "--set", "output.comparison_s=null"),
)


def samples(mib: Any, *, seconds: float = 240, every_s: float = 2, **fields: Any) -> list[Any]:
    """One sample every few seconds, with ``mib(t)`` of host memory and as much of the GPU's."""
    found = []
    for step in range(int(seconds / every_s)):
        t_s = step * every_s
        counts = {"files": 5, "threads": 4, **fields}
        found.append(
            growth.Sample(
                t_s=t_s,
                phase="loop",
                place="between",
                job=step,
                frames=10,
                rss_bytes=int(mib(t_s) * MIB),
                device_bytes=int(mib(t_s) * MIB),
                **{name: count(t_s) if callable(count) else count for name, count in counts.items()},
            )
        )
    return found


def growing(found: list[Any]) -> set[str]:
    return {slope.what for slope in growth.fit_slopes(found) if slope.grows}


def noise(size_mib: float) -> Any:
    rng = random.Random(3)
    return lambda: rng.uniform(-size_mib, size_mib)


def test_what_stays_the_same_does_not_grow() -> None:
    assert growing(samples(lambda t: 500)) == set()


def test_growth_at_the_beginning_is_no_growth() -> None:
    assert growing(samples(lambda t: min(500, 100 + 5 * t))) == set()


def test_noise_is_no_growth() -> None:
    wobble = noise(40)
    assert growing(samples(lambda t: 500 + wobble())) == set()


def test_memory_that_comes_and_goes_with_each_job_is_no_growth() -> None:
    assert growing(samples(lambda t: 500 + 10 * (t % 14))) == set()


def test_what_a_night_can_bear_is_no_growth() -> None:
    assert growing(samples(lambda t: 500 + t / 60, seconds=3600)) == set()


def test_a_slow_leak_under_noise_is_growth() -> None:
    wobble = noise(3)
    assert growing(samples(lambda t: 500 + 6 * t / 60 + wobble(), seconds=480)) == {"rss_bytes", "device_bytes"}


def test_a_leak_that_the_host_would_not_notice_is_growth_on_the_gpu() -> None:
    assert growing(samples(lambda t: 500 + 2 * t / 60)) == {"device_bytes"}


def test_the_slope_and_its_error_are_those_of_least_squares() -> None:
    found = samples(lambda t: 500 + 3 * t / 60 + (1 if (t / 2) % 2 else -1), seconds=480)
    slope = next(one for one in growth.fit_slopes(found) if one.what == "rss_bytes")
    assert slope.bytes_per_min / MIB == pytest.approx(3, abs=0.1)
    # residuals of size 1 at n times every 2 s: sqrt(n / (n - 2) / (2^2 * n * (n^2 - 1) / 12)) per second
    n = slope.samples
    expected = 60 * math.sqrt(n / (n - 2) / (4 * n * (n**2 - 1) / 12))
    assert slope.error_bytes_per_min / MIB == pytest.approx(expected, rel=0.02)


def test_too_few_samples_say_nothing() -> None:
    assert growth.fit_slopes(samples(lambda t: 500 + t, seconds=20)) == []


def test_files_and_threads_may_come_in_the_first_half_only() -> None:
    assert growth.find_leaks(samples(lambda t: 1, files=lambda t: 5 if t < 60 else 8)) == []
    late = growth.find_leaks(samples(lambda t: 1, threads=lambda t: 4 if t < 200 else 5))
    assert [(leak.what, leak.before, leak.after) for leak in late] == [("threads", 4, 5)]


def test_samples_with_and_without_a_gpu_are_drawn(tmp_path: Path) -> None:
    sampler = growth.Sampler(free_device_bytes=lambda: 5, every_s=1)
    sampler.samples.extend(samples(lambda t: 500 + t))
    endurance.plot(sampler, tmp_path / "gpu.png")
    sampler.samples[:] = [replace(sample, device_bytes=None) for sample in sampler.samples]
    endurance.plot(sampler, tmp_path / "host.png")
    heights = [int.from_bytes((tmp_path / name).read_bytes()[20:24], "big") for name in ("gpu.png", "host.png")]
    assert heights[0] > heights[1] > 0  # a panel more


def test_memory_of_the_gpu_counts_from_the_first_look() -> None:
    free = iter([100, 40, 70])
    sampler = growth.Sampler(free_device_bytes=lambda: next(free), every_s=0)
    sampler.between(phase="short", job=1, frames=1)
    sampler.within(phase="short", job=2, frames=1)
    assert [sample.device_bytes for sample in sampler.samples] == [60, 30]


def run(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    out = folder / "result.json"
    code = endurance.main([*JOBS, *options, "--out", str(out)])
    return code, json.loads(out.read_text())


def test_a_few_real_jobs_leave_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plot.png"
    code, found = run(tmp_path, "--minutes", "0.1", "--jobs", "4", "--plot", str(picture))
    assert found["error"] == ""
    assert found["leaks"] == []
    phases = [one["phase"] for one in found["samples"] if one["place"] == "between"]
    assert phases.count("short") == 4
    assert phases.count("loop") >= 1
    assert phases == sorted(phases, reverse=True)
    assert {one["frames"] for one in found["samples"] if one["place"] == "between"} == {3, 10}
    assert picture.read_bytes().startswith(b"\x89PNG")
    # seconds are too short for a verdict on slopes, either way; whatever it is, it is the one that the figures say
    assert code == (1 if any(slope["grows"] for slope in found["slopes"]) else 0 if found["slopes"] else 2)
    assert "jobs:" in capsys.readouterr().out


def test_a_job_that_leaves_threads_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, left = threading.Event(), []
    whole = endurance.run_job

    def leaking(*arguments: Any, **options: Any) -> Any:
        left.append(threading.Thread(target=ended.wait))
        left[-1].start()
        return whole(*arguments, **options)

    monkeypatch.setattr(endurance, "run_job", leaking)
    monkeypatch.setattr(growth, "SETTLE_S", 0.05)
    try:
        code, found = run(tmp_path, "--minutes", "0.08", "--jobs", "2")
    finally:
        ended.set()
        for thread in left:
            thread.join()
    assert code == 1
    assert "threads" in {leak["what"] for leak in found["leaks"]}


def test_a_job_that_fails_ends_the_run_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*arguments: Any, **options: Any) -> Any:
        raise OutputError("the disk is full", path=tmp_path)

    monkeypatch.setattr(endurance, "run_job", failing)
    code, found = run(tmp_path, "--minutes", "1", "--jobs", "4")
    assert code == 2
    assert found["error"] == "the disk is full"
    assert "the disk is full" in capsys.readouterr().err


def test_short_jobs_that_the_time_does_not_allow_are_missed(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--minutes", "0.001", "--jobs", "500")
    assert code == 2
    assert "of 500 short jobs" in found["error"]

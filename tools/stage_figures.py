"""What ``bench_stages.py`` measures, and the ratios of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRate:
    """The engine alone."""

    fps: float
    """Frames per second: of the median call; of the mean where calls run side by side."""
    call_s: tuple[float, ...]
    """Seconds from the end of one call to that of the next, with as many in flight as in the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderUse:
    """What the encoder of one lane did between 10 and 90 % of the frames, as shares of that time; together 1."""

    busy: float
    """Everything but waits for frames: its threads may yet have waited for the processor."""
    starved: float
    """No frame had come."""
    over: float
    """It was through: its part of the film was easier than others'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Frames that went through a graph."""

    frames: int
    seconds: float
    """From the start of the graph's threads to the last committed segment."""
    steady_fps: float | None
    """Frames per second at the encoder between 10 and 90 % of them; None if they are too few to say."""
    cores_busy: float | None = None
    """Cores that the whole process kept busy, in the same time; in all of it where frames are too few to say."""
    encoders: tuple[EncoderUse, ...] = ()
    """Of each lane; empty where frames are too few to say."""
    notes: tuple[str, ...] = field(default=())
    """What the run had to say of itself."""

    @property
    def fps(self) -> float:
        """Frames per second, filling and emptying included."""
        return self.frames / self.seconds

    def use_words(self) -> str:
        """Cores and encoders in a line; empty if there is nothing to say."""
        words = [] if self.cores_busy is None else [f"{self.cores_busy:.1f} cores busy"]
        if self.encoders:
            busy, starved, over = (
                statistics.fmean(getattr(use, name) for use in self.encoders) for name in ("busy", "starved", "over")
            )
            most = f" (the most {max(use.starved for use in self.encoders):.0%})" if len(self.encoders) > 1 else ""
            words.append(f"encoders busy {busy:.0%}, without frames {starved:.0%}{most}, through before {over:.0%}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage alone."""

    name: str
    fps: float
    cpu_ms_per_frame: float
    """All threads of the process."""


@dataclass(slots=True)
class Figures:
    """What was measured; what was left out is empty or None."""

    engine: list[EngineRate] = field(default_factory=list)
    """Before the first run and after each one."""
    runs: list[Flow] = field(default_factory=list)
    encoders: Flow | None = None
    encoder: Flow | None = None
    costs: list[StageCost] = field(default_factory=list)

    @property
    def engine_fps(self) -> float | None:
        """Median of the times that it was measured."""
        return statistics.median(rate.fps for rate in self.engine) if self.engine else None

    def ratios(self) -> dict[str, float]:
        """What the run reaches of the engine, and of the slower one of engine and encoders; what lanes gain.

        ``steady`` ones compare rates without filling and emptying. Each is there if all of it was measured.
        """
        result = {}
        for name, pick in (("", _whole), ("_steady", _steady)):
            encoders, encoder = pick(self.encoders), pick(self.encoder)
            shares, limits = [], []
            for index, flow in enumerate(self.runs if self.engine else ()):
                engine = statistics.mean(rate.fps for rate in self.engine[index : index + 2])
                if (fps := pick(flow)) is None:
                    continue
                shares.append(fps / engine)
                if encoders is not None:
                    limits.append(fps / min(engine, encoders))
            if shares:
                result[f"run_of_engine{name}"] = statistics.median(shares)
            if limits:
                result[f"run_of_slower{name}"] = statistics.median(limits)
            if encoders is not None and encoder is not None:
                result[f"lanes_gain{name}"] = encoders / encoder
        return result


def _whole(flow: Flow | None) -> float | None:
    return None if flow is None else flow.fps


def _steady(flow: Flow | None) -> float | None:
    return None if flow is None else flow.steady_fps

"""The search for the fastest settings: one step at a time from the best so far, what limits it first.

Knows nothing of films. Whoever measures says what each stage took; from that follows the most that a setting can bring
(`upper_fps`, the run with the stages that it concerns made free), and settings that cannot bring more than `WORTH` are
left out. A setting that looks better is measured again beside the best one, in turns; in the end so are all that came
close.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tools.profile_predict import Cost, bound_fps

Value = int | str | None
Settings = tuple[tuple[str, Value], ...]
"""Dotted names and values, sorted; what is not in it is as the config has it."""

WORTH = 0.02
"""A setting that cannot make a run faster by more than this share is not tried (asked for in issue 8)."""
SURE_GAIN = 0.10
"""What is faster by less is measured again: runs of the same thing seldom differ by more on a machine that has other
work too (`tools.profile_whatif.QUIET`)."""
LEAST_GAIN = 0.01
"""What is faster by less is the same."""
CLOSE = 0.05
"""Settings that come as close to the best are measured again in the end."""
CONTENDERS = 3
"""Of these at most, the best and the beginning among them."""
SEARCH_SHARE = 0.75
"""Of the budget, for the search; the rest is for the contenders."""
FINAL_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One setting and the values that it can have."""

    name: str
    values: tuple[Value, ...]
    """From less to more; among them the one that the run begins with."""
    start: int
    """Which of them that is."""
    stages: frozenset[str]
    """Whose time it can shorten."""
    shares_work: bool = False
    """Whether it lets stages work side by side: then only processor and GPU bound what it brings."""
    is_offered: bool = False
    """Whether it changes the picture or the file: then it is measured, but never taken by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run with given settings."""

    settings: Settings
    fps: float
    """0 if it was refused; of an abandoned run, until then."""
    seconds: float
    """What measuring it took, opening the network included."""
    error: float = 0.0
    """Standard error of ``fps``, as a share of it."""
    costs: tuple[Cost, ...] = ()
    """Of the stages; empty if the run was not finished."""
    lanes: int = 1
    cores: float = 1.0
    """That the run could have."""
    limit: str = ""
    """The stage that limits it."""
    peak_bytes: int = 0
    """Of the host's memory, resident."""
    device_peak_bytes: int | None = None
    frame_bytes: float = 0.0
    """Of the result, for each frame."""
    is_abandoned: bool = False
    refusal: str = ""
    """Why it cannot be run; empty if it can."""

    @property
    def is_whole(self) -> bool:
        """Whether it says how fast the settings are."""
        return not self.is_abandoned and not self.refusal


class Bench(Protocol):
    """Whatever measures settings."""

    def measure(self, settings: Settings, *, rival_fps: float | None) -> Measured:
        """Run with these settings.

        Args:
            settings: What differs from the config.
            rival_fps: The run is given up as soon as it is clearly slower than this; None: it is finished.
        """
        ...


@dataclass(slots=True)
class Trial:
    """Settings and all runs with them."""

    settings: Settings
    runs: list[Measured] = field(default_factory=list)

    @property
    def whole(self) -> list[Measured]:
        """Runs that were finished."""
        return [run for run in self.runs if run.is_whole]

    @property
    def fps(self) -> float:
        """Median of the runs that were finished; 0 without any."""
        return statistics.median(run.fps for run in self.whole) if self.whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the search found."""

    best: Trial
    base: Trial
    trials: tuple[Trial, ...]
    """All, in the order in which they were first tried."""
    dropped: Mapping[str, float]
    """Knobs that were not tried, and the most that they could have brought: frames per second."""
    gain: float
    """How much faster the best is than the run as it is, by runs in turns where there was time for them."""
    spent_s: float
    is_cut_short: bool
    """Whether the budget ended before the search did."""


def search(
    bench: Bench, knobs: Sequence[Knob], *, budget_s: float, report: Callable[[Measured], None] | None = None
) -> Found:
    """Search.

    Args:
        bench: Measures.
        knobs: What can be set.
        budget_s: Seconds of ``Measured.seconds`` in all; the first two runs are made whatever they take.
        report: Called with every run.

    Raises:
        ValueError: The run as it is was refused; the text says why.
    """
    return _Search(bench, knobs, budget_s=budget_s, report=report).run()


def upper_fps(run: Measured, knob: Knob) -> float:
    """Frames per second that the run would reach if what a knob concerns took no time; infinite if nobody knows."""
    if not run.costs:
        return float("inf")
    whole, _ = bound_fps(run.costs, lanes=run.lanes, cores=run.cores)
    if knob.shares_work:  # no thread of a stage is in the way, and the processor's and the GPU's work stays
        left: Sequence[Cost] = [replace(cost, alone_s=0.0) for cost in run.costs]
    else:
        left = [cost for cost in run.costs if cost.stage not in knob.stages]
    rest, _ = bound_fps(left, lanes=run.lanes, cores=run.cores)
    return run.fps * max(1.0, rest / whole)


class _Search:
    def __init__(
        self, bench: Bench, knobs: Sequence[Knob], *, budget_s: float, report: Callable[[Measured], None] | None
    ) -> None:
        self._bench = bench
        self._knobs = {knob.name: knob for knob in knobs if len(knob.values) > 1 and not knob.is_offered}
        self._budget_s = budget_s
        self._report = report
        self._trials: dict[Settings, Trial] = {}
        self._spent_s = 0.0
        self._longest_s = 0.0
        self._is_cut_short = False
        self._dropped: dict[str, float] = {}
        self._best = self._trial(())

    def run(self) -> Found:
        base = self._best
        first = self._measure(base, rival_fps=None)
        if not first.is_whole:
            raise ValueError(first.refusal)
        self._measure(base, rival_fps=None)  # the first one also paid for what is done once in a process
        self._longest_s = base.runs[-1].seconds
        while self._round():
            pass
        gain = self._settle(base)
        return Found(
            gain=gain,
            best=self._best,
            base=base,
            trials=tuple(trial for trial in self._trials.values() if trial.runs),
            dropped={name: fps for name, fps in self._dropped.items() if not self._was_tried(name)},
            spent_s=self._spent_s,
            is_cut_short=self._is_cut_short,
        )

    def _round(self) -> bool:
        """Go through all knobs once, the most promising ones first; whether that helped."""
        before, visited = self._best, set[str]()
        while knob := next((knob for knob in self._promising() if knob.name not in visited), None):
            visited.add(knob.name)
            self._climb(knob)
        if self._best is before:
            return self._step_both()
        return True

    def _promising(self) -> Iterator[Knob]:
        """Knobs that can help, those of the stage that limits first, then by how much they can."""
        run = self._best.whole[-1]
        bounds = {name: upper_fps(run, knob) for name, knob in self._knobs.items()}
        order = sorted(self._knobs.values(), key=lambda knob: (run.limit not in knob.stages, -bounds[knob.name]))
        for knob in order:
            if bounds[knob.name] > run.fps * (1 + WORTH):
                yield knob
            else:
                self._dropped[knob.name] = bounds[knob.name]

    def _climb(self, knob: Knob) -> None:
        """Step from value to value while that helps, to more and then to less."""
        for step in (1, -1):
            has_moved = False
            while (place := self._place(knob) + step) in range(len(knob.values)):
                if not self._challenge({knob.name: knob.values[place]}):
                    break
                has_moved = True
            if has_moved:
                return

    def _step_both(self) -> bool:
        """Smaller tiles, more of them in a call: neither alone need help where both together do."""
        tile, batch = self._knobs.get("tile.max_px"), self._knobs.get("infer.batch_tiles")
        if tile is None or batch is None or not {tile.name, batch.name} <= {knob.name for knob in self._promising()}:
            return False
        places = self._place(tile) - 1, self._place(batch) + 1
        if places[0] < 0 or places[1] >= len(batch.values):
            return False
        return self._challenge({tile.name: tile.values[places[0]], batch.name: batch.values[places[1]]})

    def _challenge(self, change: Mapping[str, Value]) -> bool:
        """Try the best settings with a change; whether these are the best now."""
        rival = self._trial(self._changed(change))
        if rival.runs or not self._can_afford(share=SEARCH_SHARE):
            return False
        run = self._measure(rival, rival_fps=self._best.fps)
        gain = run.fps / self._best.fps - 1
        if not run.is_whole or gain <= LEAST_GAIN:
            return False
        if gain <= max(SURE_GAIN, 3 * (run.error + self._best.whole[-1].error)):
            for trial in (self._best, rival):
                if self._can_afford(share=SEARCH_SHARE):
                    self._measure(trial, rival_fps=None)
            if rival.fps <= self._best.fps * (1 + LEAST_GAIN):
                return False
        self._best = rival
        return True

    def _settle(self, base: Trial) -> float:
        """Measure those that came close again, in turns, and take the fastest; the run as it is, if that is as fast.

        Returns:
            What is gained by it.
        """
        close = [trial for trial in self._trials.values() if trial.fps >= self._best.fps * (1 - CLOSE)]
        close.sort(key=lambda trial: -trial.fps)
        contenders = [self._best, *[trial for trial in close if trial is not self._best]][: CONTENDERS - 1]
        contenders += [base] if base not in contenders else []
        if len(contenders) == 1:
            return 0.0
        shares: dict[int, list[float]] = {id(trial): [] for trial in contenders}
        for number in range(FINAL_ROUNDS):
            if self._spent_s + self._longest_s * len(contenders) > self._budget_s:
                self._is_cut_short = self._is_cut_short or number == 0
                break
            turn = contenders if number % 2 == 0 else contenders[::-1]
            fps = {id(trial): self._measure(trial, rival_fps=None).fps for trial in turn}
            for place, value in fps.items():  # of the round's fastest: what slowed the machine slowed all of a round
                shares[place].append(value / max(fps.values()))
        latest = {id(trial): statistics.fmean(shares[id(trial)] or [trial.fps]) for trial in contenders}
        fastest = max(latest.values())
        equal = [trial for trial in contenders if latest[id(trial)] >= fastest * (1 - LEAST_GAIN)]
        self._best = min(equal, key=lambda trial: (trial is not base, -latest[id(trial)]))
        return latest[id(self._best)] / latest[id(base)] - 1

    def _measure(self, trial: Trial, *, rival_fps: float | None) -> Measured:
        run = self._bench.measure(trial.settings, rival_fps=rival_fps)
        trial.runs.append(run)
        self._spent_s += run.seconds
        self._longest_s = max(self._longest_s, run.seconds)
        if self._report is not None:
            self._report(run)
        return run

    def _can_afford(self, *, share: float) -> bool:
        if self._spent_s + self._longest_s <= self._budget_s * share:
            return True
        self._is_cut_short = True
        return False

    def _trial(self, settings: Settings) -> Trial:
        return self._trials.setdefault(settings, Trial(settings))

    def _place(self, knob: Knob) -> int:
        return knob.values.index(dict(self._best.settings).get(knob.name, knob.values[knob.start]))

    def _changed(self, change: Mapping[str, Value]) -> Settings:
        starts = {name: knob.values[knob.start] for name, knob in self._knobs.items()}
        values = dict(self._best.settings) | dict(change)
        return tuple(sorted((name, value) for name, value in values.items() if value != starts[name]))

    def _was_tried(self, name: str) -> bool:
        return any(name in dict(trial.settings) for trial in self._trials.values() if trial.runs)

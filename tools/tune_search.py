"""The search for the fastest settings: one step at a time from the best so far, what limits it first.

Knows nothing of films. Whoever measures says what each stage took; from that follows the most that a setting can bring
(`tools.tune_trials.upper_fps`), and settings that cannot bring more than `WORTH` are left out. A setting that looks
better is measured again beside the best one, in turns; in the end so are all that came close.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from tools.tune_trials import WORTH, Bench, Found, Knob, Measured, Settings, Trial, Value, upper_fps

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
        self._poor: dict[tuple[str, Value], str] = {}
        """Steps that made a run clearly slower, and what limited it: while that is so, they are not tried again."""
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
        """Step from value to value while that helps, to more and then to less.

        A step that neither helps nor hurts is stepped over once: what a setting brings may begin behind it, as where a
        call fills the machine only from so many tiles on.
        """
        for step in (1, -1):
            before = self._best
            while self._step_to(knob, step) or (self._is_level(knob, step) and self._step_to(knob, 2 * step)):
                pass
            if self._best is not before:
                return

    def _step_to(self, knob: Knob, step: int) -> bool:
        """Try a value of a knob so many places from the best one; whether that is the best now."""
        place = self._place(knob) + step
        if place not in range(len(knob.values)):
            return False
        change = {knob.name: knob.values[place]}
        return self._challenge(change) or self._challenge_smaller(change)

    def _is_level(self, knob: Knob, step: int) -> bool:
        """Whether a knob's next value was tried beside the best settings and is about as fast."""
        place = self._place(knob) + step
        if place not in range(len(knob.values)):
            return False
        trial = self._trial(self._changed({knob.name: knob.values[place]}))
        return bool(trial.runs) and trial.runs[-1].is_whole and trial.fps >= self._best.fps * (1 - CLOSE)

    def _challenge_smaller(self, change: Mapping[str, Value]) -> bool:
        """Try a change that was refused once more with smaller tiles, which leave it more memory."""
        tile = self._knobs.get("tile.max_px")
        if tile is None or tile.name in change or self._place(tile) == 0:
            return False
        if not any(run.refusal for run in self._trial(self._changed(change)).runs):
            return False
        return self._challenge({**change, tile.name: tile.values[self._place(tile) - 1]})

    def _step_both(self) -> bool:
        """Half the side and four times as many tiles in a call, or the opposite: each alone need not help."""
        tile, batch = self._knobs.get("tile.max_px"), self._knobs.get("infer.batch_tiles")
        if tile is None or batch is None or not {tile.name, batch.name} <= {knob.name for knob in self._promising()}:
            return False
        for step, more in ((-1, 2), (1, -2)):
            place = self._place(tile) + step
            other = min(max(0, self._place(batch) + more), len(batch.values) - 1)
            if place not in range(len(tile.values)) or other == self._place(batch):
                continue
            if self._challenge({tile.name: tile.values[place], batch.name: batch.values[other]}):
                return True
        return False

    def _challenge(self, change: Mapping[str, Value]) -> bool:
        """Try the best settings with a change; whether these are the best now."""
        rival = self._trial(self._changed(change))
        limit = self._best.whole[-1].limit
        if any(self._poor.get(step) == limit for step in change.items()) and len(change) == 1:
            return False
        if rival.runs or not self._can_afford(share=SEARCH_SHARE):
            return False
        run = self._measure(rival, rival_fps=self._best.fps)
        gain = run.fps / self._best.fps - 1
        if not run.refusal and gain < -SURE_GAIN and len(change) == 1:
            self._poor.update(dict.fromkeys(change.items(), limit))
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

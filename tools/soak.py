"""Runs films on the processor for minutes while everything happens to them that may happen in a night.

    python tools/soak.py [--minutes 30] [--seed N] [--only SCENARIO] [--number N] [--json FILE] [--keep FOLDER]

Each scenario starts ``python -m pipeline`` as a user does, with short segments and without a network, kills it or one
of its processes, damages, fills or removes its files, sets its clock, and so on. Afterwards every result must be the
one of an undisturbed run - every decoded frame, every time, every packet of every stream - or an honest failure, and
no process and no temporary file may be left. Beside them, one run watches a folder for new films all the time; its
memory, files and threads must not grow.

File systems are mounted in a namespace of this tool's own; where there can be none, those scenarios are left out and
said to be (``file-too-large`` is then what comes nearest to a full disk). The machine's clock is not set: the program's
own is exchanged (``soak_clock.py``).

Exit status: 0 all promises kept; 1 one was broken, with the seed and the scenario; 2 nothing could be tried.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from growth import Leak, Sample, Slope, find_leaks, fit_slopes
from soak_runs import Place, SoakFailure, expect
from soak_scenarios import SCENARIOS, Scenario
from soak_scene import Soak
from soak_truth import Fingerprint, fingerprint, make_film
from soak_watched import WatchedFolder

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
"""Where file systems can be mounted without rights, and without anybody else noticing."""
_INSIDE = "NIGHTSCALE_SOAK_INSIDE"


def main(argv: list[str] | None = None) -> int:
    """Go on until the time is over; say what held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long; what has begun is finished (default 30)")
    parser.add_argument("--seed", type=int, default=None, help="of all that is random; by default another each time")
    parser.add_argument("--only", choices=[scenario.name for scenario in SCENARIOS], help="this scenario alone")
    parser.add_argument("--number", type=int, help="with --seed and --only: this one, as a failure names it; once")
    parser.add_argument("--json", type=Path, help="write what was found to a file")
    parser.add_argument("--keep", type=Path, help="folder for the places of scenarios that failed")
    arguments = parser.parse_args(argv)
    if arguments.number is not None and arguments.only is None:
        parser.error("--number needs --only")
    if _INSIDE not in os.environ:
        _enter_namespace()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        night = _Night(Path(folder), seed=seed, keep=arguments.keep)
        night.run(minutes=arguments.minutes, only=arguments.only, number=arguments.number)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(night.as_json(), indent=1) + "\n", encoding="ascii")
    for line in night.table():
        print(line)
    if not night.counts:
        return 2
    return 1 if night.failures else 0


def _enter_namespace() -> None:
    """Start this tool again where it can mount file systems; go on here if that cannot be."""
    environment = {**os.environ, _INSIDE: "can mount"}
    try:
        subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"nothing can be mounted here ({exc}): some scenarios are left out", flush=True)
        os.environ[_INSIDE] = "cannot mount"
        return
    os.execvpe(NAMESPACE[0], [*NAMESPACE, sys.executable, *sys.argv], environment)


class _Night:
    """All scenarios, one after the other.

    Args:
        folder: For films and places.
        seed: Of all that is random.
        keep: Where places of scenarios that failed are moved; None: nowhere.
    """

    def __init__(self, folder: Path, *, seed: int, keep: Path | None) -> None:
        self._folder = folder
        self._seed = seed
        self._keep = keep
        self._library = folder / "library"
        self._truths: dict[str, Fingerprint] = {}
        self._names: list[str] = []
        self._run_s = 0.0
        self._began_s = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.failures: list[dict[str, Any]] = []
        self.samples: list[Sample] = []
        self.left_out: list[str] = []

    def run(self, *, minutes: float, only: str | None, number: int | None) -> None:
        """See the module."""
        _say(f"seed {self._seed}")
        self._make_library()
        known = [scenario for scenario in SCENARIOS if only in (None, scenario.name)]
        scenarios = [scenario for scenario in known if not scenario.needs_mount or os.environ[_INSIDE] == "can mount"]
        self.left_out = [scenario.name for scenario in known if scenario not in scenarios]
        if number is not None:
            for scenario in scenarios[:1]:
                self._try(scenario, number=number)
            return
        with self._watched() as watched:
            until_s = time.monotonic() + 60 * minutes
            count = 0
            order = random.Random(self._seed)
            while time.monotonic() < until_s and scenarios:
                for scenario in order.sample(scenarios, len(scenarios)):
                    if time.monotonic() >= until_s:
                        break
                    self._try(scenario, number=(count := count + 1))
                    watched.feed()

    def _make_library(self) -> None:
        """Films to disturb."""
        self._library.mkdir()
        make_film(self._library / "even.mkv", frame_count=300, height=144, width=256, seed=1)
        make_film(self._library / "uneven.mp4", frame_count=350, height=144, width=256, seed=2, is_even=False)
        make_film(self._library / "other.mkv", frame_count=300, height=144, width=256, seed=3)
        self._names = sorted(path.name for path in self._library.iterdir())

    def _truth(self, name: str) -> Fingerprint:
        """What an undisturbed run makes of a film; found out once."""
        if name not in self._truths:
            film = self._library / name
            folder = self._folder / "undisturbed" / name
            folder.mkdir(parents=True)
            place = Place(folder, (film,))
            program = place.start()
            ending = program.wait()
            expect(ending.code == 0, f"the undisturbed run failed: {ending.err}")
            truth = fingerprint(place.result_of(film))
            expect(truth["frames"] == fingerprint(film)["frames"], f"{name} has lost frames without any disturbance")
            self._truths[name] = truth
            took_s = place.summary(program)["jobs"][0]["elapsed_s"]
            self._run_s = min(took_s, self._run_s or took_s)  # the first one fills the system's cache
            _say(f"{name}: {took_s:.1f} s undisturbed")
        return self._truths[name]

    def _try(self, scenario: Scenario, *, number: int) -> None:
        """One scenario in a fresh place."""
        pick = random.Random(f"{self._seed} {number} {scenario.name}")
        folder = self._folder / f"{number:05d}-{scenario.name}"
        (folder / "films").mkdir(parents=True)
        films = []
        for name in pick.sample(self._names, scenario.film_count):
            films.append(folder / "films" / name)
            shutil.copy2(self._library / name, films[-1])
        place = Place(folder, tuple(films))
        started_s = time.monotonic()
        self.counts[scenario.name] += 1
        try:
            for film in films:
                self._truth(film.name)
            soak = Soak(place=place, random=pick, library=self._library, truth_of=self._truth, run_s=self._run_s)
            scenario.act(soak)
            self.struck[scenario.name] += soak.has_struck
        except (SoakFailure, OSError, subprocess.SubprocessError, KeyError, ValueError) as exc:
            again = f"--seed {self._seed} --only {scenario.name} --number {number}"
            self.failures.append({"scenario": scenario.name, "number": number, "text": f"{type(exc).__name__}: {exc}"})
            _say(f"FAILED: {scenario.name}: {exc}\n  again with: {again}")
            place.end_all()
            if self._keep is not None:
                shutil.copytree(folder, self._keep / folder.name, dirs_exist_ok=True)
        finally:
            place.end_all()
            self.seconds[scenario.name] = self.seconds.get(scenario.name, 0.0) + time.monotonic() - started_s
            subprocess.run(["umount", "-q", str(place.out)], check=False, capture_output=True)
            shutil.rmtree(folder)
        _say(f"{number}: {scenario.name}, {time.monotonic() - started_s:.1f} s")

    @contextmanager
    def _watched(self) -> Iterator[WatchedFolder]:
        """A run that watches a folder, until the end."""
        folder = self._folder / "watched"
        (folder / "films").mkdir(parents=True)
        watched = WatchedFolder(folder, samples=self.samples, began_s=self._began_s)
        try:
            yield watched
            problem = watched.finish()
        except SoakFailure as exc:
            problem = str(exc)
        finally:
            watched.end()
        self.counts["watched-folder"] += 1
        self.struck["watched-folder"] += bool(self.samples)
        if problem:
            self.failures.append({"scenario": "watched-folder", "number": 0, "text": problem})

    @property
    def slopes(self) -> list[Slope]:
        """How the watching run's memory went."""
        slopes: list[Slope] = fit_slopes(self.samples)
        return slopes

    @property
    def leaks(self) -> list[Leak]:
        """What the watching run holds more and more of."""
        leaks: list[Leak] = find_leaks(self.samples)
        return leaks

    def as_json(self) -> Mapping[str, Any]:
        """Everything that was seen."""
        return {
            "seed": self._seed,
            "elapsed_s": time.monotonic() - self._began_s,
            "undisturbed_s": self._run_s,
            "counts": dict(self.counts),
            "struck": dict(self.struck),
            "seconds": self.seconds,
            "left_out": self.left_out,
            "failures": self.failures,
            "slopes": [asdict(slope) | {"grows": slope.grows} for slope in self.slopes],
            "leaks": [asdict(leak) for leak in self.leaks],
            "samples": [asdict(sample) for sample in self.samples],
        }

    def table(self) -> Iterator[str]:
        """What was tried, and what held."""
        broken = Counter(failure["scenario"] for failure in self.failures)
        width = max(map(len, self.counts), default=8)
        yield f"{'scenario':{width}}  count     ok  struck  seconds"
        for name, count in sorted(self.counts.items()):
            held, seconds = count - broken[name], self.seconds.get(name, 0.0)
            yield f"{name:{width}}  {count:5d}  {held:5d}  {self.struck[name]:6d}  {seconds:7.0f}"
        for name in self.left_out:
            yield f"{name:{width}}  left out: nothing can be mounted here"
        if self.samples:
            sizes = [sample.rss_bytes / 2**20 for sample in self.samples]
            yield (
                f"the watching run after {len(sizes)} films: {sizes[-1]:.1f} MiB, {min(sizes):.1f} to {max(sizes):.1f} "
                f"before, {self.samples[-1].files} files, {self.samples[-1].threads} threads"
            )
        for slope in self.slopes:
            yield f"  {slope.bytes_per_min / 2**20:+.3f} MiB per minute in the second half" + ("  GROWS" * slope.grows)
        for failure in self.failures:
            yield f"FAILED (seed {self._seed}, number {failure['number']}) {failure['scenario']}: {failure['text']}"


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

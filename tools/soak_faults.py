"""Damage, full disks and films that change under a run: what may happen to files. For ``soak.py``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from soak_runs import expect, flip_bit, wait_for
from soak_scene import DONE, STOPPED, Soak
from soak_truth import differing_parts, fingerprint


def _damage(soak: Soak, work: Path) -> None:
    """Spoil something in a work folder."""
    journal, pick = work / "journal.jsonl", soak.random
    # what an earlier blow has emptied has no bit to turn
    victims = [path for path in soak.place.segments(soak.film) if path.stat().st_size]
    kinds = ["journal bit", "journal cut", "journal gone", "foreign"]
    kind = pick.choice([*kinds, "bit", "cut", "gone", "grown"] if victims else kinds)
    victim = pick.choice(victims) if victims else journal
    if kind == "bit":
        flip_bit(victim, random_source=pick)
    elif kind == "cut":
        os.truncate(victim, pick.randrange(victim.stat().st_size))
    elif kind == "gone":
        victim.unlink()
    elif kind == "grown":
        victim.write_bytes(victim.read_bytes() + pick.randbytes(100))
    elif kind == "journal bit":
        flip_bit(journal, random_source=pick)
    elif kind == "journal cut":
        os.truncate(journal, pick.randrange(journal.stat().st_size))
    elif kind == "journal gone":
        journal.unlink()
    else:
        (work / pick.choice(["seg-99999.mp4", "seg-00000.part", "notes.txt"])).write_bytes(pick.randbytes(5000))


def damaged(soak: Soak) -> None:
    """Segments and the journal of a film that was begun rot, once to three times."""
    program = soak.place.start()
    wait_for(soak.has_segments(soak.random.randint(2, 20), program), what="segments")
    soak.random.choice([program.kill_all, lambda: program.send(signal.SIGINT)])()
    program.wait(within_s=60)
    soak.place.expect_alone()
    for _ in range(soak.random.randint(1, 3)):
        if soak.place.segments(soak.film) and (soak.place.work_of(soak.film) / "journal.jsonl").stat().st_size:
            soak.has_struck = True
            _damage(soak, soak.place.work_of(soak.film))
            if not (soak.place.work_of(soak.film) / "journal.jsonl").exists():
                break
    soak.run_to_end()


def record_damaged(soak: Soak) -> None:
    """The record of a finished film rots: it counts, or it does not, but never for something else."""
    soak.run_to_end()
    soak.has_struck = True
    (record,) = soak.place.out.glob(".nightscale/finished/*.json")
    flip_bit(record, random_source=soak.random)
    soak.run_to_end(output={"overwrite": True})


def _mount(place: Path, *options: str) -> None:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(place)], check=True)


def _remount(place: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), str(place)], check=True)


def disk_full(soak: Soak) -> None:
    """The results' file system is full; then it gets room. Or the run is stopped instead."""
    kib = soak.random.randint(64, 640)
    _mount(soak.place.out, f"size={kib}k")
    program = soak.place.start()
    wait_for(lambda: program.is_over() or "trying again" in program.words(), what="a full disk")
    soak.has_struck = not program.is_over()
    if not program.is_over() and soak.random.random() < 0.5:
        program.send(signal.SIGINT)
        ending = program.wait(within_s=60)
        expect(ending.code == STOPPED and "disk is full" in ending.err, f"{ending.code}: {ending.err[-1500:]}")
        _remount(soak.place.out, "size=256m")
        soak.run_to_end()
        return
    _remount(soak.place.out, "size=256m")
    ending = soak.expect_honest(program, words=("No space left", "room on the disk"))
    if ending.code != DONE:
        soak.run_to_end()
    else:
        soak.expect_done(program)


def disk_low(soak: Soak) -> None:
    """There is less than ``run.disk_reserve_mb``: it waits, and goes on when there is room."""
    _mount(soak.place.out, "size=64m")
    filler = soak.place.out / ".nightscale" / "filler"
    filler.parent.mkdir()
    program = soak.place.start(run={"disk_reserve_mb": 24})
    soak.some_time(program, longest=0.5)
    filler.write_bytes(bytes(48 << 20))
    wait_for(lambda: program.is_over() or soak.place.state(program) == "disk", what="waiting for room")
    soak.has_struck = not program.is_over()
    if not program.is_over():
        expect(not program.workers(), "a film's process lives while the run waits for room")
    filler.unlink()
    soak.expect_done(program)


def disk_read_only(soak: Soak) -> None:
    """Nothing can be written there: an error that names the place; then it can."""
    _mount(soak.place.out, "size=64m", "ro")
    ending = soak.expect_honest(soak.place.start(), words=("out",))
    soak.has_struck = True
    expect(ending.code != DONE and str(soak.place.out) in ending.err, f"{ending.code}: {ending.err[-1500:]}")
    _remount(soak.place.out, "rw")
    soak.run_to_end()


def file_too_large(soak: Soak) -> None:
    """No file can be longer than a limit (RLIMIT_FSIZE): where nothing can be mounted, this is the full disk."""
    program = soak.place.start(file_bytes=soak.random.randint(4_000, 400_000), run={"max_attempts": 1})
    ending = soak.expect_honest(program, words=("File too large", "too large", "error"))
    if ending.code != DONE:
        soak.has_struck = True
        soak.run_to_end()
    else:
        soak.expect_done(program)


def film_vanishes(soak: Soak) -> None:
    """The film is removed while it is read, and comes back."""
    program = soak.place.start(run={"max_attempts": 1})
    soak.some_time(program)
    soak.film.unlink()
    ending = soak.expect_honest(program, words=("it is gone", "cannot read", "No such file", "does not exist"))
    shutil.copy2(soak.library / soak.film.name, soak.film)
    if ending.code != DONE:
        soak.run_to_end()
    else:
        soak.expect_done(program)


def film_changes(soak: Soak) -> None:
    """Another film gets the name, or is written into the file, while it is read: no mixture of the two is made."""
    other = soak.random.choice(sorted({path.name for path in soak.library.iterdir()} - {soak.film.name}))
    program = soak.place.start(run={"max_attempts": 1}, output={"overwrite": True})
    soak.some_time(program)
    if soak.random.random() < 0.5:
        waiting = soak.film.with_suffix(".waiting")
        shutil.copyfile(soak.library / other, waiting)
        waiting.replace(soak.film)
    else:
        with soak.film.open("r+b") as file:
            content = (soak.library / other).read_bytes()
            file.write(content)
            file.truncate()
    ending = soak.expect_honest(program, words=("was changed", "cannot read", "Invalid data", "error"))
    if ending.code == DONE:
        found = fingerprint(soak.place.result_of(soak.film))
        expect(
            not differing_parts(found, soak.truth_of(soak.film.name))
            or not differing_parts(found, soak.truth_of(other)),
            "the result is neither the one film nor the other",
        )
    program = soak.place.start("--restart", output={"overwrite": True})
    expect(program.wait().code == DONE, f"--restart failed: {program.words()[-1500:]}")
    for aside in soak.place.out.glob("*.old-*"):
        shutil.rmtree(aside)
    soak.expect_done(program, other={soak.film.name: other})

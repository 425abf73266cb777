"""The engine cache between processes: one builds, none sees a half, and being killed at any moment changes nothing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from helpers.engine_cache import PLAN, sample_key, sample_record

from engines.cache.store import EngineStore

ROOT = Path(__file__).resolve().parents[2]
KEY = sample_key()

PRELUDE = """
import json, logging, os, resource, signal, sys, time
from pathlib import Path
from engines.cache.key import EngineKey
from engines.cache.pruning import PruneLimits
from engines.cache.store import EngineStore
from engines.errors import CacheFailed
from helpers.engine_cache import OTHER_PLAN, PLAN, sample_key, sample_record
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
folder = Path(sys.argv[1])
store = EngineStore(folder)
key = sample_key()
"""


def start(code, folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(folder), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


BUILD_ONCE = """
log = Path(sys.argv[2])
stored = store.get(key)
if stored is None:
    with store.lock(key):
        stored = store.get(key)
        if stored is None:
            with log.open("a") as stream:
                stream.write(f"{os.getpid()}\\n")
            time.sleep(0.3)
            stored = store.put(key, plan=PLAN, record=sample_record())
assert stored.plan == PLAN
"""


def test_several_processes_that_want_the_same_engine_build_it_once(tmp_path):
    log = tmp_path / "builds"
    for process in [start(BUILD_ONCE, tmp_path / "cache", log) for _ in range(4)]:
        finish(process)
    assert len(log.read_text().splitlines()) == 1
    assert EngineStore(tmp_path / "cache").get(KEY).plan == PLAN


def test_several_threads_that_want_the_same_engine_build_it_once(tmp_path):
    store, builds = EngineStore(tmp_path), []

    def build():
        with store.lock(KEY):
            if store.get(KEY) is None:
                builds.append(threading.get_ident())
                time.sleep(0.05)
                store.put(KEY, plan=PLAN, record=sample_record())

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert len(list(tmp_path.glob("*.lock"))) == 0


HOLD = """
with store.lock(key):
    print("held", flush=True)
    time.sleep(60)
"""


def test_who_waits_says_once_for_whom(tmp_path, caplog):
    store, other = EngineStore(tmp_path), sample_key(precision="fp32")
    holder = start(HOLD, tmp_path)
    try:
        assert holder.stdout.readline() == "held\n"
        with store.lock(other):  # another engine's build is nobody's concern
            pass
        assert not caplog.records
        timer = threading.Timer(0.3, holder.kill)
        timer.start()
        with caplog.at_level(logging.WARNING), store.lock(KEY):
            pass
        timer.join()
    finally:
        holder.kill()
        holder.communicate()
    assert len(caplog.records) == 1
    assert f"process {holder.pid}" in caplog.text
    assert KEY.file_stem in caplog.text


def test_the_lock_of_a_killed_builder_is_free(tmp_path):
    holder = start(HOLD, tmp_path)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    begin = time.monotonic()
    with EngineStore(tmp_path).lock(KEY):
        pass
    assert time.monotonic() - begin < 5


def test_waiting_for_a_lock_can_be_interrupted(tmp_path):
    waiter_code = """
print("ready", flush=True)
try:
    with store.lock(key):
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with EngineStore(tmp_path).lock(KEY):
        waiter = start(waiter_code, tmp_path)
        assert waiter.stdout.readline() == "ready\n"
        assert "waiting for" in waiter.stderr.readline()
        waiter.send_signal(signal.SIGINT)
        out, _ = finish(waiter)
    assert out == "interrupted\n"


KILL_AT_EVERY_MOMENT = """
# Runs one action again and again in a child that is killed before its n-th call to the file system, for all n.
action, has_old = sys.argv[2], sys.argv[3] == "replacing"
old, new = sample_record(build_s=1.0), sample_record(build_s=2.0)
WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock", "os.truncate", "os.utime"}

def kill_before(count):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in WATCHED:
            seen += 1
            if seen > count:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def act():
    if action == "put":
        store.put(key, plan=OTHER_PLAN, record=new)
    elif action == "accuracy":
        store.record_accuracy(key, {"psnr_film_db": 60.0})
    elif action == "prune":
        store.prune(PruneLimits(everything=True))
    elif action == "discard":
        store.discard(key, reason="a test")

found = []
for count in range(1000):
    for path in folder.iterdir():
        path.unlink()
    if has_old:
        store.put(key, plan=PLAN, record=old)
    child = os.fork()
    if child == 0:
        kill_before(count)
        logging.disable()
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    got = store.get(key)
    found.append(None if got is None else [got.plan == OTHER_PLAN, got.record.build_s, got.record.accuracy])
    store.put(key, plan=PLAN, record=old)  # and the cache goes on working, with nothing left behind
    assert store.get(key).plan == PLAN
    store.prune(PruneLimits())
    names = {path.name for path in folder.iterdir()}
    assert names <= {f"{key.file_stem}.{end}" for end in ("engine", "json")}, names
    if os.WIFEXITED(status):
        break
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("put", None, [True, 2.0, None]),
        ("put", [False, 1.0, None], [True, 2.0, None]),
        ("accuracy", [False, 1.0, None], [False, 1.0, {"psnr_film_db": 60.0}]),
        ("prune", [False, 1.0, None], None),
        ("discard", [False, 1.0, None], None),
    ],
)
def test_being_killed_at_any_moment_leaves_the_old_state_or_the_new(tmp_path, action, before, after):
    folder = tmp_path / "cache"
    folder.mkdir()
    out, err = finish(start(KILL_AT_EVERY_MOMENT, folder, action, "fresh" if before is None else "replacing"))
    found = json.loads(out)
    changes = [state for index, state in enumerate(found) if index == 0 or state != found[index - 1]]
    assert changes == [before, after]
    assert len(found) > 5
    assert err == ""  # what a killed process leaves is no damage


READ_WHILE_REPLACED = """
until = time.monotonic() + 1.5
count = 0
while time.monotonic() < until:
    stored = store.get(key)
    assert stored is not None
    assert (stored.plan == PLAN) == (stored.record.build_s == 1.0)
    count += 1
print(count)
"""

REPLACE_AGAIN_AND_AGAIN = """
until = time.monotonic() + 1.5
while time.monotonic() < until:
    store.put(key, plan=OTHER_PLAN, record=sample_record(build_s=2.0))
    store.put(key, plan=PLAN, record=sample_record(build_s=1.0))
"""


def test_readers_see_whole_engines_while_writers_replace_them(tmp_path):
    EngineStore(tmp_path).put(KEY, plan=PLAN, record=sample_record(build_s=1.0))
    writer = start(REPLACE_AGAIN_AND_AGAIN, tmp_path)
    reader = start(READ_WHILE_REPLACED, tmp_path)
    out, err = finish(reader)
    finish(writer)
    assert int(out) > 10
    assert err == ""


FILE_SIZE_LIMIT = """
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # the plan is longer: its writing fails midway
try:
    store.put(key, plan=PLAN, record=sample_record())
except CacheFailed as exc:
    print(exc)
"""


def test_a_write_that_fails_midway_leaves_nothing(tmp_path):
    out, _ = finish(start(FILE_SIZE_LIMIT, tmp_path))
    assert "File too large" in out
    assert str(tmp_path) in out
    assert list(tmp_path.iterdir()) == []


READ_ONLY = """
store.put(key, plan=PLAN, record=sample_record())
damaged = sample_key(precision="fp32")
path = store.put(damaged, plan=PLAN, record=sample_record()).path
path.write_bytes(b"x")
folder.chmod(0o555)
for ancestor in [folder, *folder.parents][1:3]:
    ancestor.chmod(0o755)
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere: be somebody who may not
stored = store.get(key)
assert stored.plan == PLAN
assert not store.record_accuracy(key, {})
assert store.get(damaged) is None
assert [entry.kind for entry in store.entries()].count("engine") == 1
for act in (
    lambda: store.put(key, plan=PLAN, record=sample_record()),
    lambda: store.lock(key).__enter__(),
    lambda: store.prune(PruneLimits(everything=True)),
    lambda: store.discard(key, reason="a test"),
):
    try:
        act()
    except CacheFailed as exc:
        print(exc)
"""


def test_a_cache_that_may_only_be_read_serves_and_says_what_it_cannot():
    base = Path(tempfile.mkdtemp(prefix="engine-cache-"))  # pytest's own folders may be entered by their owner only
    try:
        out, err = finish(start(READ_ONLY, base / "cache"))
    finally:
        (base / "cache").chmod(0o755)
        shutil.rmtree(base)
    lines = out.splitlines()
    assert len(lines) == 4
    assert all("Permission denied" in line and str(base / "cache") in line for line in lines)
    assert "not used" in err

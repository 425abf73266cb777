"""The engine cache of one process: what is stored comes back whole, what is damaged never does."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from dataclasses import fields, replace

import pytest
from helpers.engine_cache import GPU, INPUT, OTHER_PLAN, PLAN, sample_key, sample_record

import engines.cache.folder
import engines.cache.store
from engines.build_options import BuildOptions
from engines.cache.key import EngineKey
from engines.cache.locks import hold_lock
from engines.cache.pruning import PruneLimits
from engines.cache.record import EngineRecord
from engines.cache.sealed import HEADER_BYTES, seal
from engines.cache.store import EngineStore, default_cache_dir
from engines.cache.timing import TimingScope
from engines.errors import CacheFailed, EngineError

KEY = sample_key()
SCOPE = TimingScope(compiler="tensorrt", compiler_version="10.13.3.9", gpu=GPU)


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "deep" / "engines")


@pytest.fixture
def stored(store):
    return store.put(KEY, plan=PLAN, record=sample_record())


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.INFO)

    def read():
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    return read


def names(store):
    return sorted(path.name for path in store.folder.iterdir())


def test_an_engine_comes_back_as_it_was_stored(store, warnings):
    record = sample_record(notes=("one",), details={"layers": 3}, denoise=0.5, model_path="m.pth", scratch_bytes=7)
    put = store.put(KEY, plan=PLAN, record=record)
    got = store.get(KEY)
    assert got == put
    assert (got.key, got.plan, got.record) == (KEY, PLAN, record)
    assert got.path == store.path_of(KEY)
    assert got.path.name == f"{KEY.file_stem}.engine"
    assert got.path.read_bytes().endswith(PLAN)
    assert warnings() == []


def test_asking_for_an_engine_that_is_not_there_makes_nothing(store, warnings):
    assert store.get(KEY) is None
    assert not store.folder.exists()
    assert warnings() == []


def test_only_the_engine_and_its_description_remain_after_storing(store, stored):
    assert names(store) == sorted([f"{KEY.file_stem}.engine", f"{KEY.file_stem}.json"])


def test_the_description_says_every_field_of_the_key_in_clear(store, stored):
    value = json.loads(stored.path.with_suffix(".json").read_text())
    assert set(value["key"]) == {field.name for field in fields(EngineKey)}
    assert set(value["builds"][0]["record"]) == {field.name for field in fields(EngineRecord)}
    assert value["digest"] == KEY.digest
    assert value["key"]["gpu_name"] == GPU.name
    assert value["key"]["options"]["hardware_compatibility"] == "none"
    assert value["builds"][0]["record"]["driver_version"] == GPU.driver_version


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": replace(GPU, name="NVIDIA GeForce RTX 4080")},
        {"gpu": replace(GPU, compute_capability="9.0")},
        {"gpu": None},
        {"compiler": "tensorrt_rtx"},
        {"compiler_version": "10.13.3.10"},
        {"onnx": b"the same network with other weights"},
        {"inputs": [replace(INPUT, maximum=(1, 3, 128, 128))]},
        {"inputs": [replace(INPUT, optimum=(1, 3, 64, 64))]},
        {"precision": "bf16"},
        {"io_dtype": "float16"},
        {"output_scale": 2},
        {"options": BuildOptions(optimization_level=5)},
        {"options": BuildOptions(workspace_bytes=1 << 30)},
        {"options": BuildOptions(version_compatible=True)},
        {"options": BuildOptions(hardware_compatibility="ampere_plus")},
        {"options": BuildOptions(compute_capabilities=("8.9",))},
        {"plugins": {"libmine.so": b""}},
    ],
    ids="-".join,
)
def test_an_engine_built_from_anything_else_is_never_found(store, stored, changes):
    assert store.get(sample_key(**changes)) is None
    assert store.get(KEY).plan == PLAN


def test_a_driver_update_finds_the_engine_and_its_driver_is_recorded(store, stored):
    again = store.get(sample_key(gpu=replace(GPU, driver_version="999.1")))
    assert again.record.driver_version == GPU.driver_version


def test_storing_again_replaces_plan_and_record(store, stored):
    store.save_attachment(stored, b"kernels", name="runtime")
    store.put(KEY, plan=OTHER_PLAN, record=sample_record(build_s=9.0))
    got = store.get(KEY)
    assert (got.plan, got.record.build_s) == (OTHER_PLAN, 9.0)
    assert names(store) == sorted([f"{KEY.file_stem}.engine", f"{KEY.file_stem}.json"])


@pytest.mark.parametrize("offset", [0, 9, 14, 18, 30, 70, 100, HEADER_BYTES, HEADER_BYTES + 5000])
def test_any_changed_byte_makes_an_engine_damaged(store, stored, offset, warnings):
    content = bytearray(stored.path.read_bytes())
    content[offset] ^= 0x40
    stored.path.write_bytes(content)
    assert store.get(KEY) is None
    assert len(warnings()) == 1
    assert str(stored.path) in warnings()[0]
    assert names(store) == []
    assert store.get(KEY) is None
    assert len(warnings()) == 1


@pytest.mark.parametrize("length", [0, 1, 20, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, -1, +1])
def test_an_engine_of_another_length_is_damaged(store, stored, length, warnings):
    content = stored.path.read_bytes()
    stored.path.write_bytes(content + b"\0" if length == 1 else content[:length])
    assert store.get(KEY) is None
    assert len(warnings()) == 1
    assert names(store) == []


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "missing"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "another version"),
        (b'{"format": 99}', "another version"),
        (b'{"format": 1}', "part of it is missing"),
    ],
)
def test_an_engine_without_a_usable_description_is_damaged(store, stored, content, word, warnings):
    beside = stored.path.with_suffix(".json")
    beside.unlink() if content is None else beside.write_bytes(content)
    assert store.get(KEY) is None
    assert len(warnings()) == 1
    assert word in warnings()[0]
    assert names(store) == []


@pytest.mark.parametrize("name", [field.name for field in fields(EngineRecord)])
def test_a_record_of_another_version_or_type_is_not_read(store, stored, name, warnings):
    beside = stored.path.with_suffix(".json")
    value = json.loads(beside.read_text())
    value["builds"][0]["record"][name] = "five" if name in {"build_s", "denoise", "scratch_bytes"} else 5
    beside.write_text(json.dumps(value))
    assert store.get(KEY) is None
    assert name in warnings()[0]


def test_a_description_changed_by_hand_is_not_believed(store, stored, warnings):
    beside = stored.path.with_suffix(".json")
    beside.write_text(beside.read_text().replace(GPU.name, "NVIDIA H200"))
    assert store.get(KEY) is None
    assert "digest" in warnings()[0]


def test_an_engine_under_another_engines_name_is_not_used(store, stored, warnings):
    other = sample_key(precision="fp32")
    put = store.put(other, plan=OTHER_PLAN, record=sample_record())
    stored.path.replace(put.path)
    assert store.get(other) is None
    assert "another key" in warnings()[0]
    put = store.put(KEY, plan=PLAN, record=sample_record())
    stranger = store.put(other, plan=OTHER_PLAN, record=sample_record()).path.with_suffix(".json")
    stranger.replace(put.path.with_suffix(".json"))
    assert store.get(KEY) is None
    assert "another key" in warnings()[-1]


def test_a_plan_under_the_description_of_another_plan_is_not_used(store, stored, warnings):
    stored.path.write_bytes(seal(OTHER_PLAN, kind="engine", owner_sha256=KEY.digest))
    assert store.get(KEY) is None
    assert "another plan" in warnings()[0]


def test_a_description_left_without_its_engine_is_nothing(store, stored, warnings):
    stored.path.unlink()
    assert store.get(KEY) is None
    assert warnings() == []
    store.put(sample_key(precision="fp32"), plan=PLAN, record=sample_record())
    assert f"{KEY.file_stem}.json" not in names(store)


def test_storing_sweeps_what_a_killed_writer_left(store, stored):
    part = store.folder / f".{KEY.file_stem}.engine.4242.part"
    foreign = store.folder / ".notes.part"
    part.write_bytes(b"half")
    foreign.write_bytes(b"not ours")
    store.put(KEY, plan=PLAN, record=sample_record())
    assert not part.exists()
    assert foreign.exists()


def test_discarding_removes_the_engine_with_one_warning(store, stored, warnings):
    store.save_attachment(stored, b"kernels", name="runtime")
    store.discard(KEY, reason="it was built for another driver")
    assert store.get(KEY) is None
    assert names(store) == []
    assert len(warnings()) == 1
    assert "another driver" in warnings()[0]
    store.discard(KEY, reason="twice")


def test_using_an_engine_is_noted(store, stored):
    os.utime(stored.path, (1000, 1000))
    assert store.entries()[0].last_used_s == 1000
    store.get(KEY)
    assert store.entries()[0].last_used_s > 1_000_000_000


def test_an_engine_is_read_even_if_its_use_cannot_be_noted(store, stored, monkeypatch, warnings):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(engines.cache.store.os, "utime", refuse)
    assert store.get(KEY).plan == PLAN
    assert warnings() == []


def test_accuracy_is_recorded_beside_the_engine(store, stored):
    assert store.record_accuracy(KEY, {"psnr_film_db": 61.5, "psnr_adversarial_db": math.inf, "tiles": [math.nan]})
    assert store.get(KEY).record.accuracy == {
        "psnr_film_db": 61.5,
        "psnr_adversarial_db": "inf",
        "tiles": ["nan"],
    }
    assert store.get(KEY).plan == PLAN


def test_accuracy_belongs_to_the_plan_that_was_measured(store, stored):
    store.record_accuracy(KEY, {"psnr_film_db": 61.5})
    store.put(KEY, plan=OTHER_PLAN, record=sample_record())
    assert store.get(KEY).record.accuracy is None


def test_accuracy_of_an_engine_that_is_gone_is_no_error(store):
    assert not store.record_accuracy(KEY, {"psnr_film_db": 61.5})
    assert store.get(KEY) is None


def test_accuracy_can_be_recorded_while_the_key_is_locked(store, stored):
    with store.lock(KEY):
        assert store.record_accuracy(KEY, {"psnr_film_db": 50.0})
        assert store.get(KEY).record.accuracy is not None


def test_a_timing_cache_comes_back_in_its_scope_only(store):
    assert store.load_timing_cache(SCOPE) is None
    assert store.save_timing_cache(SCOPE, b"measurements")
    assert store.load_timing_cache(SCOPE) == b"measurements"
    assert store.load_timing_cache(replace(SCOPE, workspace_bytes=1 << 20)) is None


def test_a_damaged_timing_cache_is_dropped_with_one_warning(store, warnings):
    store.save_timing_cache(SCOPE, b"measurements")
    path = store.folder / SCOPE.file_name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert store.load_timing_cache(SCOPE) is None
    assert store.load_timing_cache(SCOPE) is None
    assert len(warnings()) == 1
    assert "checksum" in warnings()[0]
    assert not path.exists()


def test_a_timing_cache_of_another_scope_under_this_name_is_dropped(store, warnings):
    store.save_timing_cache(replace(SCOPE, workspace_bytes=1), b"measurements")
    (store.folder / replace(SCOPE, workspace_bytes=1).file_name).replace(store.folder / SCOPE.file_name)
    assert store.load_timing_cache(SCOPE) is None
    assert "another key" in warnings()[0]


def test_an_engine_is_no_timing_cache(store, stored, warnings):
    stored.path.replace(store.folder / SCOPE.file_name)
    assert store.load_timing_cache(SCOPE) is None
    assert "kind engine" in warnings()[0]


def test_attachments_go_with_their_plan(store, stored):
    assert store.load_attachment(stored, name="runtime") is None
    assert store.save_attachment(stored, b"kernels", name="runtime")
    assert store.load_attachment(stored, name="runtime") == b"kernels"
    other = replace(stored, plan=OTHER_PLAN)
    assert store.load_attachment(other, name="runtime") is None


@pytest.mark.parametrize("name", ["engine", "json", "lock", "../x", "a.b", "", "Up"])
def test_attachments_cannot_take_the_names_of_other_files(store, stored, name):
    with pytest.raises(ValueError, match="attachment"):
        store.save_attachment(stored, b"", name=name)


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "nightscale" / "engines" == EngineStore().folder
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert default_cache_dir() == tmp_path / "home" / ".cache" / "nightscale" / "engines"


def full_disk_after(count, monkeypatch):
    """The disk is full from the ``count``-th file on."""
    real, calls = engines.cache.store.write_atomic, []

    def write(path, content):
        calls.append(path)
        if len(calls) > count:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(engines.cache.store, "write_atomic", write)
    monkeypatch.setattr(engines.cache.folder, "write_atomic", write)


@pytest.mark.parametrize("count", [0, 1])
def test_a_full_disk_leaves_nothing_and_names_folder_and_size(store, count, monkeypatch):
    full_disk_after(count, monkeypatch)
    with pytest.raises(CacheFailed, match="No space left") as caught:
        store.put(KEY, plan=PLAN, record=sample_record())
    assert str(store.folder) in str(caught.value)
    assert str(len(PLAN) + HEADER_BYTES) in str(caught.value)
    assert "prune" in caught.value.hint
    assert caught.value.folder == store.folder
    assert isinstance(caught.value, EngineError)
    assert names(store) == []


@pytest.mark.parametrize("count", [0, 1])
def test_a_full_disk_keeps_the_engine_that_was_there(store, stored, count, monkeypatch):
    full_disk_after(count, monkeypatch)
    with pytest.raises(CacheFailed):
        store.put(KEY, plan=OTHER_PLAN, record=sample_record(build_s=9.0))
    assert store.get(KEY) == stored


def test_a_full_disk_costs_measurements_but_no_build(store, monkeypatch, warnings):
    full_disk_after(0, monkeypatch)
    assert not store.save_timing_cache(SCOPE, b"measurements")
    assert len(warnings()) == 1
    assert "No space left" in warnings()[0]


def test_a_full_disk_can_be_pruned(store, stored, monkeypatch):
    def refuse(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("engines.cache.locks.os.write", refuse)
    store.prune(PruneLimits(everything=True))
    assert names(store) == []


def test_without_a_home_the_folder_has_to_be_named(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(engines.cache.store.Path, "home", no_home)
    with pytest.raises(EngineError, match="no home folder"):
        EngineStore()
    assert EngineStore(tmp_path).folder == tmp_path


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    store = EngineStore(tmp_path / "file" / "engines")
    for action in (
        lambda: store.put(KEY, plan=PLAN, record=sample_record()),
        lambda: store.lock(KEY).__enter__(),
        lambda: store.get(KEY),
        store.entries,
    ):
        with pytest.raises(CacheFailed) as caught:
            action()
        assert str(tmp_path / "file" / "engines") in str(caught.value)
        assert "--cache-dir" in caught.value.hint


def test_a_file_system_without_locks_is_named(store, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("engines.cache.locks.fcntl.flock", refuse)
    with pytest.raises(CacheFailed, match="No locks available") as caught, store.lock(KEY):
        pass
    assert "no locks" in caught.value.hint


def test_an_error_while_the_key_is_locked_passes_through_and_frees_it(store):
    with pytest.raises(FileExistsError), store.lock(KEY):
        raise FileExistsError("of the builder, not of the cache")
    with store.lock(KEY):
        pass
    assert names(store) == []


def test_entries_tell_engines_timing_caches_damage_and_foreign_files_apart(store, stored):
    store.save_timing_cache(SCOPE, b"measurements")
    store.save_attachment(stored, b"kernels", name="runtime")
    broken = store.put(sample_key(precision="fp32"), plan=PLAN, record=sample_record())
    broken.path.write_bytes(b"x" * 500)
    (store.folder / "mine.engine").write_bytes(b"from another program")
    (store.folder / "folder").mkdir()
    (store.folder / f".{KEY.file_stem}.engine.1.part").write_bytes(b"")
    (store.folder / f"{KEY.file_stem}.lock").write_bytes(b"")
    kinds = {entry.path.name: entry.kind for entry in store.entries()}
    assert kinds == {
        stored.path.name: "engine",
        broken.path.name: "damaged",
        SCOPE.file_name: "timing",
        "mine.engine": "foreign",
        "folder": "foreign",
        f".{KEY.file_stem}.engine.1.part": "leftover",
    }
    engine = next(entry for entry in store.entries() if entry.kind == "engine")
    assert (engine.key, engine.build.record) == (KEY, stored.record)
    assert engine.file_bytes > len(PLAN) + 2 * HEADER_BYTES
    assert next(entry for entry in store.entries() if entry.kind == "damaged").problem


def test_a_wrong_byte_in_a_plan_is_found_when_contents_are_checked(store, stored):
    store.save_timing_cache(SCOPE, b"measurements")
    for path in (stored.path, store.folder / SCOPE.file_name):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert {entry.kind for entry in store.entries()} == {"engine", "timing"}
    assert [entry.problem for entry in store.entries(check_content=True)] == ["its checksum is wrong"] * 2
    assert len(names(store)) == 3


def test_an_engine_copied_under_another_name_is_damaged(store, stored):
    copy = store.folder / f"other-{'0' * 12}"
    copy.with_name(copy.name + ".engine").write_bytes(stored.path.read_bytes())
    copy.with_name(copy.name + ".json").write_bytes(stored.path.with_suffix(".json").read_bytes())
    assert "another name" in next(entry for entry in store.entries() if entry.kind == "damaged").problem


def test_an_empty_cache_has_no_entries(store):
    assert store.entries() == ()
    assert store.prune(PruneLimits(everything=True)).removed == ()
    assert not store.folder.exists()


@pytest.fixture
def four(store):
    """Engines of two models, used at 100, 200, 300 and 400 seconds, and a foreign file."""
    keys = [sample_key(model=model, precision=precision) for model in ("one", "two") for precision in ("fp16", "fp32")]
    for index, key in enumerate(keys):
        path = store.put(key, plan=PLAN, record=sample_record()).path
        os.utime(path, (100 * (index + 1), 100 * (index + 1)))
    (store.folder / "notes.txt").write_text("mine")
    return keys


def left(store, keys):
    return [index for index, key in enumerate(keys) if store.path_of(key).exists()]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (PruneLimits(), [0, 1, 2, 3]),
        (PruneLimits(older_than_s=250.0), [2, 3]),
        (PruneLimits(model="one"), [2, 3]),
        (PruneLimits(model="on"), [0, 1, 2, 3]),
        (PruneLimits(model="one", older_than_s=350.0), [1, 2, 3]),
        (PruneLimits(max_bytes=0), []),
        (PruneLimits(max_bytes=10**9), [0, 1, 2, 3]),
        (PruneLimits(everything=True), []),
        (PruneLimits(model="two", everything=True), [0, 1]),
        (PruneLimits(model="two", max_bytes=0), [0, 1]),
    ],
    ids=str,
)
def test_pruning_removes_what_the_limits_say_and_no_foreign_file(store, four, limits, expected):
    before = names(store)
    planned = store.prune(limits, dry_run=True, now_s=500.0)
    assert names(store) == before
    done = store.prune(limits, now_s=500.0)
    assert done == planned
    assert left(store, four) == expected
    assert (store.folder / "notes.txt").read_text() == "mine"
    assert len(names(store)) == 2 * len(expected) + 1
    assert (done.freed_bytes > 0) == (len(expected) < 4)


def test_pruning_to_a_size_removes_the_longest_unused_first(store, four):
    each = store.entries()[-1].file_bytes
    store.prune(PruneLimits(max_bytes=2 * each + 20))
    assert left(store, four) == [2, 3]


def test_an_engine_that_is_being_built_is_not_pruned(store, four):
    with store.lock(four[0]):
        for dry_run in (True, False):
            report = store.prune(PruneLimits(everything=True), dry_run=dry_run)
            assert [entry.key for entry in report.kept] == [four[0]]
        assert left(store, four) == [0]


def test_pruning_always_takes_damage_and_leftovers(store, stored):
    broken = store.put(sample_key(precision="fp32"), plan=PLAN, record=sample_record())
    broken.path.write_bytes(b"")
    (store.folder / f".{KEY.file_stem}.engine.1.part").write_bytes(b"")
    (store.folder / f"{KEY.file_stem}.lock").write_bytes(b"process 1")
    (store.folder / "mine.lock").write_bytes(b"")
    assert len(store.prune(PruneLimits()).removed) == 2
    assert names(store) == sorted([stored.path.name, f"{KEY.file_stem}.json", "mine.lock"])


def test_everything_includes_timing_caches(store):
    store.save_timing_cache(SCOPE, b"measurements")
    assert store.prune(PruneLimits(model="one")).removed == ()
    store.prune(PruneLimits(everything=True))
    assert names(store) == []


def test_a_lock_says_who_holds_it_while_it_is_held(tmp_path):
    path = tmp_path / "x.lock"
    with hold_lock(path):
        assert str(os.getpid()) in path.read_text()
    assert not path.exists()

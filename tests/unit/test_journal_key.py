"""Whatever can change a byte of a film refuses by name; what cannot is noted or taken over from the first attempt."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from helpers.config_fields import FieldCase, document_with, field_cases

from pipeline.config.digest import NOT_IN_DIGEST
from pipeline.config.load import make_config
from pipeline.engine import ModelFile
from pipeline.errors import MediaError
from pipeline.frames import ColourTags, SampleFormat
from pipeline.journal import DemandLowered, FileIdentity, RunKey, find_done, pin_plan
from pipeline.journal.facts import EFFECTS, SETTING_EFFECTS, plan_facts
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.seen import SeenChoice, SeenCurve

SETTABLE = [case for case in field_cases() if case.another_value() is not None and case.key != "infer.model"]


def make_plan(folder: Path, **sections: Any) -> JobPlan:
    base: dict[str, Any] = {
        "infer": {"model": "nearest-x2", "backend": "resize"},
        "decode": {"kind": "synthetic", "synthetic": {"height": 90, "width": 160, "frame_count": 100}},
    }
    config = make_config({**base, **sections}, folder=folder)
    return plan_film(config, probe_film(config, None))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> JobPlan:
    return make_plan(tmp_path_factory.mktemp("films"))


def effects(before: RunKey, now: RunKey) -> dict[str, str]:
    return {one.name: one.effect for one in before.differences(now)}


def test_the_same_plan_has_the_same_key_also_when_read_back(plan: JobPlan) -> None:
    key = RunKey.of(plan)
    read = RunKey.from_json(json.loads(json.dumps(key.as_json())))
    assert read == key == RunKey.of(plan)
    assert key.differences(read) == ()


@pytest.mark.parametrize("case", SETTABLE, ids=str)
def test_a_setting_that_changes_a_film_refuses_by_name(plan: JobPlan, case: FieldCase) -> None:
    default: dict[str, Any] = {"input": {"paths": ["film.mkv"]}}
    if ".fit." in case.key:
        default["scale"] = {"fit": {}}
    configs = [
        make_config(document, folder=Path("/films"))
        for document in (default, document_with(case.key, case.another_value()))
    ]
    before, now = (RunKey.of(replace(plan, config=config)) for config in configs)
    found = {name: effect for name, effect in effects(before, now).items() if not name.startswith("plan.")}
    if case.key in NOT_IN_DIGEST:
        assert case.key not in found
    else:
        assert found[case.key] == ("note" if case.key in SETTING_EFFECTS else "refuse")


@pytest.mark.parametrize("name", sorted(set(EFFECTS) | {"infer.backend", "model.files", "code.version"}))
def test_a_fact_of_the_plan_does_what_the_table_says(plan: JobPlan, name: str) -> None:
    key = RunKey.of(plan)
    assert name in key.plan
    changed = replace(key, plan={**key.plan, name: "another"})
    (difference,) = key.differences(changed)
    assert difference.name == f"plan.{name}"
    assert difference.effect == (EFFECTS[name][0] if name in EFFECTS else "refuse")
    assert str(difference).endswith("before, another now")


ENCODE_CHANGES = {
    "height": 1234,
    "width": 1234,
    "format": SampleFormat(matrix="bt709", bit_depth=10),
    "tags": ColourTags(matrix=9),
    "time_base": Fraction(1, 77),
    "average_rate": Fraction(77),
    "sample_aspect": Fraction(4, 3),
    "quality": 3.5,
    "preset": "slow",
    "options": {"a": "1"},
    "threads": 77,
    "mastering_display": "G(1,2)",
    "content_light": "1,2",
}


def test_every_field_of_the_encoder_is_a_fact(plan: JobPlan) -> None:
    names = {field.name for field in fields(plan.encode)} - {"encoder"}
    assert names == set(ENCODE_CHANGES)
    key = RunKey.of(plan)
    for name, value in ENCODE_CHANGES.items():
        changed = RunKey.of(replace(plan, encode=replace(plan.encode, **{name: value})))
        found = effects(key, changed)
        assert found and all(one.startswith(f"plan.encode.{name}") for one in found)
        assert set(found.values()) == {"pin" if name == "threads" else "refuse"}


def test_every_entry_of_the_tables_is_a_fact_or_a_setting_and_says_why(plan: JobPlan) -> None:
    assert set(EFFECTS) <= set(plan_facts(plan))
    assert set(SETTING_EFFECTS) <= {case.key for case in field_cases()}
    for effect, reason in [*EFFECTS.values(), *SETTING_EFFECTS.values()]:
        assert effect in ("pin", "note")
        assert len(reason) > 10


def test_the_weights_count_by_content(plan: JobPlan) -> None:
    files = [replace(plan, model_files=(ModelFile(path=Path("/w"), sha256=sha256),)) for sha256 in ("aa", "bb")]
    assert effects(RunKey.of(files[0]), RunKey.of(files[1])) == {"plan.model.files": "refuse"}
    moved = replace(plan, model_files=(ModelFile(path=Path("/elsewhere"), sha256="aa"),))
    assert effects(RunKey.of(files[0]), RunKey.of(moved)) == {}


def test_hardware_encoders_count_with_their_device(plan: JobPlan) -> None:
    hardware = replace(plan.encode, encoder=replace(plan.encode.encoder, name="other", is_hardware=True))
    one = replace(plan, encode=hardware)
    other = replace(one, backend=replace(one.backend, device="another GPU"))
    assert effects(RunKey.of(one), RunKey.of(other)) == {"plan.encode.device": "refuse", "plan.infer.device": "note"}


def test_refusals_come_first_and_a_value_that_is_not_there_is_said(plan: JobPlan) -> None:
    key = RunKey.of(plan)
    now = replace(key, plan={**key.plan, "infer.device": "b", "zzz": 1}, settings={**key.settings, "new.field": None})
    found = key.differences(now)
    assert [one.effect for one in found] == ["refuse", "refuse", "note"]
    assert str(found[0]) == "new.field: (nothing) before, null now"


def test_what_the_network_sees_is_a_fact_of_the_film(plan: JobPlan) -> None:
    """The config may say ``auto`` both times, and another program, or the film's metadata, decide otherwise."""
    curves = [SeenCurve(family="pq", gamma=3.2, peak_cd_m2=peak) for peak in (1000.0, 4000.0)]
    keys = [RunKey.of(replace(plan, seen=SeenChoice(curve=curve))) for curve in (None, *curves)]
    for before, now in ((keys[0], keys[1]), (keys[1], keys[2])):
        assert effects(before, now) == {"plan.infer.seen": "refuse"}


def test_a_digest_that_differs_for_no_visible_reason_refuses(plan: JobPlan) -> None:
    key = RunKey.of(plan)
    assert effects(key, replace(key, config_digest="00" * 32)) == {"config_digest": "refuse"}


def test_a_film_counts_by_size_time_and_ends(plan: JobPlan, tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(b"x" * 100)
    one = replace(plan, decoder=replace(plan.decoder, kind="libav"), info=replace(plan.info, path=film))
    key = RunKey.of(one)
    assert key.source == FileIdentity.of(film)
    film.write_bytes(b"y" * 101)
    assert {"source.size_bytes", "source.sha256_ends"} <= set(effects(key, RunKey.of(one)))
    assert effects(key, replace(key, source=None)) == dict.fromkeys(
        ("source.size_bytes", "source.mtime_ns", "source.sha256_ends"), "refuse"
    )
    film.unlink()
    with pytest.raises(MediaError, match="cannot read"):
        RunKey.of(one)


def test_a_pinned_plan_has_the_first_ones_tiles_batch_and_threads(tmp_path: Path) -> None:
    """Whatever memory is free now: the later attempt cuts, and encodes, as the first one did."""
    model = {"model": "realesr-animevideov3"}
    first = make_plan(tmp_path, infer=model, tile={"max_px": 64})
    first = replace(first, encode=replace(first.encode, threads=7))
    facts = RunKey.of(first).plan
    pinned = {name: facts[name] for name, (effect, _) in EFFECTS.items() if effect == "pin"}
    later = make_plan(tmp_path, infer=model)
    assert later.grid != first.grid
    assert pin_plan(later, {}) is later
    again = pin_plan(later, pinned)
    assert again.grid == first.grid
    assert again.encode.threads == 7
    assert again.pools == first.pools
    found = {one.effect for one in RunKey.of(first).differences(RunKey.of(again)) if one.name.startswith("plan.")}
    assert not found & {"pin", "refuse"}


def test_a_batch_that_was_lowered_is_pinned_too(plan: JobPlan) -> None:
    facts = RunKey.of(plan).plan
    pinned = {name: facts[name] for name, (effect, _) in EFFECTS.items() if effect == "pin"}
    lowered = pin_plan(plan, {**pinned, "infer.batch_tiles": 3})
    assert lowered.config.infer.batch_tiles == 3
    assert lowered.pool("tiles in").shape[0] == 3


def test_lanes_that_memory_was_not_enough_for_are_not_tried_again(plan: JobPlan, tmp_path: Path) -> None:
    several = replace(
        plan, config=plan.config.model_copy(update={"run": plan.config.run.model_copy(update={"lanes": 2})})
    )
    several = replace(several, segment_frames=10)
    work = tmp_path / "work"
    work.mkdir()
    key = RunKey.of(several)
    find_done(work, key)
    assert pin_plan(several, find_done(work, key).pinned).lanes == 2
    journal = find_done(work, key).journal
    lowered = replace(several, lanes=1)
    journal.append(DemandLowered.of(lowered, from_segment=0, reason="memory ran out"))
    assert pin_plan(several, find_done(work, key).pinned).lanes == 1


def test_a_model_of_ones_own_counts_by_content_and_not_by_its_place(plan: JobPlan) -> None:
    def with_model(path: str, sha256: str) -> RunKey:
        infer = plan.config.infer.model_copy(update={"model": path})
        config = plan.config.model_copy(update={"infer": infer})
        model = replace(plan.model, name=Path(path).stem, path=Path(path))
        return RunKey.of(
            replace(plan, config=config, model=model, model_files=(ModelFile(path=Path(path), sha256=sha256),))
        )

    one = with_model("/a/mine.onnx", "aa")
    assert effects(one, with_model("/b/other.onnx", "aa")) == {}
    assert effects(one, with_model("/a/mine.onnx", "bb")) == {"plan.model.files": "refuse"}

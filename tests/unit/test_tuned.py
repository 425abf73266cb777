"""What tuning found is kept for the same circumstances, and fills in what a config leaves open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import make_config
from pipeline.journal.key import RunKey
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.show.plan_words import choice_lines
from pipeline.tuned import Kept, circumstances, file_name, read_kept, write_kept

SETTINGS = {"tile.max_px": 96, "infer.batch_tiles": 2, "infer.slots": 3, "run.lanes": 2, "encode.threads": 3}
KEPT = Kept(settings=SETTINGS, date="2026-11-23", fps=20.0, default_fps=10.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nightscale" / "tuned"


def plan(tmp_path: Path, **sections: Mapping[str, Any]) -> JobPlan:
    values = {
        "decode": {"kind": "synthetic", "synthetic": {"height": 120, "width": 160}},
        "infer": {"model": "nearest-x2", "backend": "resize", **sections.pop("infer", {})},
        "encode": {"kind": "libx264", **sections.pop("encode", {})},
        "output": {"dir": str(tmp_path), "segment_s": 1},
        **sections,
    }
    config = make_config(values)
    return plan_film(config, probe_film(config, None))


def test_plans_take_what_was_found_and_say_so(tmp_path: Path, folder: Path) -> None:
    bare = plan(tmp_path)
    assert bare.tuned is None
    wanted = circumstances(bare)
    path = write_kept(folder, KEPT, wanted=wanted)
    assert read_kept(path, wanted=wanted) == KEPT
    tuned = plan(tmp_path)
    assert max(tuned.grid.tile_height, tuned.grid.tile_width) <= 96
    assert (tuned.config.infer.batch, tuned.slots, tuned.lanes, tuned.encode.threads) == (2, 3, 2, 3)
    (line,) = (line for line in choice_lines(tuned) if line.startswith("tuning: "))
    assert line.startswith("tuning: tuned on 2026-11-23 by tools/tune.py: tile.max_px 96, infer.batch_tiles 2, ")
    assert circumstances(tuned) == wanted  # so that it is found again
    assert RunKey.of(tuned).config_digest == RunKey.of(bare).config_digest  # what was begun can be gone on with
    assert all(difference.effect != "refuse" for difference in RunKey.of(bare).differences(RunKey.of(tuned)))


def test_what_the_user_sets_wins(tmp_path: Path, folder: Path) -> None:
    write_kept(folder, KEPT, wanted=circumstances(plan(tmp_path)))
    own = plan(tmp_path, infer={"slots": 1, "batch_tiles": 1}, run={"lanes": 1}, encode={"threads": 2})
    assert own.tuned is not None
    assert own.tuned.taken == {"tile.max_px": 96}
    assert (own.slots, own.config.infer.batch, own.lanes, own.encode.threads) == (1, 1, 1, 2)
    assert "as the config says: infer.batch_tiles, infer.slots, run.lanes, encode.threads" in own.tuned.text
    assert plan(tmp_path, run={"tuned": False}).tuned is None


def test_another_film_size_encoder_or_machine_is_another_circumstance(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kept(folder, KEPT, wanted=circumstances(plan(tmp_path)))
    assert plan(tmp_path, encode={"preset": "ultrafast"}).tuned is None
    assert plan(tmp_path, scale={"factor": 1.5}).tuned is None
    monkeypatch.setattr("pipeline.tuned.probe_host", lambda: {"cpu_model": "another", "cpu_count_usable": 2})
    other = plan(tmp_path)
    assert other.tuned is None
    path = folder / file_name(circumstances(other))  # one that was copied here under the right name
    path.write_bytes(next(folder.iterdir()).read_bytes())
    assert plan(tmp_path).tuned is None


def test_a_damaged_file_is_one_line_and_counts_as_absent(tmp_path: Path, folder: Path) -> None:
    bare = plan(tmp_path)
    path = write_kept(folder, KEPT, wanted=circumstances(bare))
    good = json.loads(path.read_text())
    damaged = [
        b"",
        path.read_bytes()[:-20],
        b"\xff\xfe",
        b"[" * 60000,
        b"[1]",
        *(
            json.dumps(good | change).encode()
            for change in (
                {"version": 99},
                {"settings": {"tile.max_px": "large"}},
                {"settings": {"run.lanes": 17}},
                {"settings": {"output.dir": 3}},
                {"settings": {"infer.slots": True}},
                {"fps": None},
            )
        ),
    ]
    for content in damaged:
        path.write_bytes(content)
        found = plan(tmp_path)
        assert found.tuned is not None and not found.tuned.taken
        assert found.tuned.text.startswith(str(path)) and "run tools/tune.py again" in found.tuned.text
        assert "\n" not in found.tuned.text
        assert replace(found, tuned=None) == bare

"""Reading a config file: every problem at once, each with its line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.config_fields import FieldCase, document_with, field_cases

from pipeline.config.load import MAX_CONFIG_BYTES, load_config, make_config, resolved_yaml
from pipeline.config.yaml_text import dump_yaml, parse_yaml
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SETTABLE = [case for case in field_cases() if case.another_value() is not None]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems_of(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return [problem.removeprefix(f"{path}:").strip() for problem in caught.value.problems]


def test_a_file_with_one_film_is_a_config(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "input: {paths: [film.mkv]}\n"))
    assert config.input.paths == (tmp_path / "film.mkv",)
    assert config.output.dir == tmp_path / "out"


def test_paths_start_at_the_file_wherever_the_program_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "films").mkdir()
    write(tmp_path / "films", "input: {paths: [../film.mkv]}\noutput: {dir: big}")
    monkeypatch.chdir(tmp_path)
    config = load_config("films/config.yaml")
    assert config.input.paths[0].is_absolute()
    assert config.input.paths[0].resolve() == tmp_path.resolve() / "film.mkv"
    assert config.output.dir == tmp_path / "films/big"


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "input:\n  paths: [film.mkv, 3]\n"
        "tile:\n  max_px: 64\n  overlap_px: 300000\n  blend: soft\n"
        "infer:\n  modle: x\n  threads: '4'\n"
        "scale: 2\n"
        "runn: {}\n",
    )
    assert problems_of(path, "encode.bit_depth=9") == [
        "2: input.paths[1]: must be a path (got 3)",
        "5: tile.overlap_px: must be auto or a whole number >= 0 and <= 1024 (got 300000)",
        "6: tile.blend: must be linear or cut (got 'soft')",
        "8: infer.modle: unknown key; did you mean infer.model?",
        "9: infer.threads: must be a whole number >= 0 and <= 1024 (got '4')",
        "10: scale: must be a mapping of keys to values (got 2)",
        "11: runn: unknown key; did you mean run?",
        "--set encode.bit_depth: must be source, 8 or 10 (got 9)",
    ]


def test_rules_between_sections_are_reported_beside_wrong_fields(tmp_path: Path) -> None:
    path = write(tmp_path, "output: {name: film}\ninput: {paths: [a.mkv, b.mkv]}\ninfer:\n  threads: -1\n")
    assert problems_of(path) == [
        "1: output.name: must contain {stem} or {folder} when input.paths names several files (got 'film')",
        "4: infer.threads: must be a whole number >= 0 and <= 1024 (got -1)",
    ]


def test_a_rule_is_not_reported_for_a_section_that_is_wrong_already(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {paths: film.mkv}\n")
    assert problems_of(path) == ["1: input.paths: must be a list, each item a path (got 'film.mkv')"]


def test_an_unknown_key_without_a_near_one_lists_the_known(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {paths: [film.mkv]}\nqueues:\n  zzz: 1\n")
    assert problems_of(path) == [
        "3: queues.zzz: unknown key; known here: decoded_frames, stitched_frames, tile_batches, upscaled_batches"
    ]


def test_a_key_given_twice_is_a_problem(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {paths: [film.mkv]}\nscale:\n  factor: 2\n  factor: 3\n")
    assert problems_of(path) == ["4: scale.factor: is given twice, first in line 3"]


def test_a_section_with_all_keys_commented_out_has_its_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "input: {paths: [film.mkv]}\ntile:\n  # max_px: 64\n"))
    assert config.tile.max_px == "auto"


def test_another_version_is_the_only_problem(tmp_path: Path) -> None:
    path = write(tmp_path, "version: 2\nnobody: knows\n")
    assert problems_of(path) == ["1: version: this program reads version 1 of the config format (got 2)"]


@pytest.mark.parametrize("version", ["true", "1.5", "'1'", "null", "[1]"])
def test_a_version_is_a_number(tmp_path: Path, version: str) -> None:
    assert problems_of(write(tmp_path, f"version: {version}\n"))[0].startswith("1: version: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"# only words\n", "the file is empty"),
        (b"film.mkv\n", "must be a mapping of sections such as input: and output: (got 'film.mkv')"),
        (b"- a\n", "must be a mapping of sections such as input: and output: (got a list of 1)"),
        (b"a: \xff\xfe", "not a text file in UTF-8 (byte 3)"),
        (b"#" * (MAX_CONFIG_BYTES + 1), f"larger than {MAX_CONFIG_BYTES} bytes, so not a config file"),
    ],
    ids=["empty", "comment", "text", "list", "bytes", "large"],
)
def test_a_file_that_is_no_config_is_one_problem(tmp_path: Path, content: bytes, problem: str) -> None:
    assert problems_of(write(tmp_path, content)) == [problem]


def test_broken_yaml_names_its_line(tmp_path: Path) -> None:
    problems = problems_of(write(tmp_path, "input:\n  paths: [a\noutput: {}\n"))
    assert len(problems) == 1
    assert problems[0].startswith("3: not valid YAML: ")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, b"\xef\xbb\xbfinput: {paths: [film.mkv]}\n"))
    assert len(config.input.paths) == 1


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "no.yaml") == ["no such file"]
    assert problems_of(tmp_path) == ["is a folder, not a config file"]
    assert problems_of(write(tmp_path, "x") / "below") == ["cannot be read: Not a directory"]


def test_the_hint_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert "configs/example.yaml" in caught.value.hint


@pytest.mark.parametrize("case", SETTABLE, ids=str)
def test_an_override_is_as_good_as_the_file(case: FieldCase) -> None:
    value = case.another_value()
    here = Path.cwd()
    written = make_config(document_with(case.key, value), folder=here)
    override = f"{case.key}={dump_yaml(value, flow=True).removesuffix(chr(10)).removesuffix('...').strip()}"
    assert make_config({"input": {"paths": ["film.mkv"]}}, folder=here, overrides=[override]) == written


def test_paths_start_at_the_config_in_the_file_and_where_the_command_is_typed_in_an_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "films").mkdir()
    path = write(tmp_path / "configs", "input: {paths: [../a.mkv]}\noutput: {dir: out}\n")
    monkeypatch.chdir(tmp_path / "films")
    config = load_config(path)
    assert (config.input.paths, config.output.dir) == ((tmp_path / "a.mkv",), tmp_path / "configs" / "out")
    config = load_config(path, ["input.paths=[b.mkv]", "output.dir=../done"])
    assert (config.input.paths, config.output.dir) == ((tmp_path / "films" / "b.mkv",), tmp_path / "done")


def test_a_model_file_starts_where_paths_start_and_a_models_name_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets").mkdir()
    path = write(tmp_path, "input: {paths: [a.mkv]}\ninfer: {model: mine.onnx, engine: {cache_dir: cache}}\n")
    monkeypatch.chdir(tmp_path / "nets")
    infer = load_config(path).infer
    assert (infer.model, infer.engine.cache_dir) == (str(tmp_path / "mine.onnx"), tmp_path / "cache")
    infer = load_config(path, ["infer.model=mine.pth", "infer.engine.cache_dir=cache"]).infer
    assert (infer.model, infer.engine.cache_dir) == (str(tmp_path / "nets/mine.pth"), tmp_path / "nets/cache")
    assert load_config(path, ["infer.model=RealESRGAN_x4plus"]).infer.model == "RealESRGAN_x4plus"


def test_the_last_override_wins_over_the_file_and_earlier_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {paths: [film.mkv]}\nscale: {factor: 4}\n")
    assert load_config(path, ["scale.factor=2", "scale.factor=3"]).scale.factor == 3
    assert load_config(path, ["scale.factor=", "scale.height=720"]).scale.height == 720
    assert load_config(path, ["scale={width: 640}"]).scale.width == 640
    assert load_config(path, ["encode.options.aq-mode=3"]).encode.options == {"aq-mode": "3"}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("tile.max_px=3", "--set tile.max_px: must be auto or a whole number >= 16 and <= 16384 (got 3)"),
        ("tile.maxpx=64", "--set tile.maxpx: unknown key; did you mean tile.max_px?"),
        ("tile.max_px", "--set tile.max_px: must be written as section.key=value (got 'tile.max_px')"),
        ("=3", "--set : must be written as section.key=value (got '=3')"),
        ("tile..x=3", "--set tile..x: must be written as section.key=value (got 'tile..x=3')"),
        ("version=1", "--set version: cannot be overridden"),
        ("scale.factor.x=1", "--set scale.factor.x: is not a key: factor is 4"),
        ("scale.height=720", "--set scale.height: only one of scale.factor, scale.height, scale.width and scale.fit "
         "can be given (got scale.factor and scale.height)"),
        ("decode.kind=synthetic", "--set decode.kind: input.paths must be empty when decode.kind is synthetic, which "
         "reads no file (got {folder}/film.mkv)"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(tmp_path: Path, override: str, problem: str) -> None:
    path = write(tmp_path, "input: {paths: [film.mkv]}\nscale: {factor: 4}\n")
    assert problems_of(path, override) == [problem.format(folder=tmp_path)]


def test_an_override_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {paths: [film.mkv]}\n")
    assert problems_of(path, "tile.max_px=[")[0].startswith("--set tile.max_px: not valid YAML")


def test_wrong_overrides_do_not_hide_what_is_wrong_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {paths: [film.mkv]}\ndecode: 5\n")
    assert problems_of(path, "decode.threads=1") == [
        "2: decode: must be a mapping of keys to values (got 5)",
        "--set decode.threads: is not a key: decode is 5",
    ]


def test_make_config_leaves_its_argument_alone() -> None:
    document: dict[str, Any] = {"input": {"paths": ["film.mkv"]}, "tile": None}
    make_config(document, overrides=["tile.max_px=64"])
    assert document == {"input": {"paths": ["film.mkv"]}, "tile": None}


@pytest.mark.parametrize("case", SETTABLE, ids=str)
def test_the_resolved_config_is_a_config_that_is_equal(case: FieldCase, tmp_path: Path) -> None:
    config = make_config(document_with(case.key, case.another_value()), folder=Path("/films"))
    assert load_config(write(tmp_path, resolved_yaml(config))) == config


@pytest.mark.parametrize("text", ["1e3", "0o17", "null", "off", "a: b", "#", "é", " x ", "{stem}", "'", "2024-01-01"])
def test_the_resolved_config_keeps_text_that_looks_like_something_else(text: str, tmp_path: Path) -> None:
    config = make_config(
        {"input": {"paths": [f"{text}.mkv"]}, "infer": {"model": text}, "encode": {"options": {text: text}}},
        folder=Path("/films"),
    )
    assert load_config(write(tmp_path, resolved_yaml(config))) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_config(path).version == 1


def test_the_example_shows_every_key_at_its_default() -> None:
    example = parse_yaml((ROOT / "configs/example.yaml").read_text()).value
    assert example["input"].pop("paths") == ["film.mkv"]
    assert make_config({**example, "input": {"paths": ["film.mkv"]}}) == make_config({"input": {"paths": ["film.mkv"]}})
    shown = {f"{section}.{key}" for section, keys in example.items() if isinstance(keys, dict) for key in keys}
    assert shown >= {case.key for case in field_cases() if case.key.count(".") == 1} - {"input.paths"}


OVERRIDE = "input:\n  paths: [film.mkv]\n  overrides:\n    - match: '*.avi'\n      set:\n        {}\n"


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("encode.qualty: 20", "encode.qualty: unknown key; did you mean encode.quality?"),
        ("encode.quality: high", "encode.quality: must be a number >= 0 and <= 100 or null (got 'high')"),
        ("encodr.quality: 20", "encodr.quality: encodr: unknown key; did you mean encode?"),
        ("input.order: size", "input.order: cannot be set for some films: it holds for the run as a whole"),
        ("run.lanes: 2", "run.lanes: cannot be set for some films: it holds for the run as a whole"),
        ("version: 1", "version: cannot be set for some films: it holds for the run as a whole"),
        ("encode: {}", "encode: must be a key such as encode.quality"),
        ("encode..quality: 1", "encode..quality: must be a key such as encode.quality"),
        (
            "encode.quality.x: 1",
            "encode.quality.x: encode.quality: must be a number >= 0 and <= 100 or null (got a mapping)",
        ),
        ("encode.codec.x: 1", "encode.codec.x: is not a key: codec has no keys"),
        ("tile.overlap_px: 300", None),
        ("encode.options.crf: 20", None),
        ("scale.fit.height: 720", None),
    ],
)
def test_what_an_override_sets_is_checked_when_the_config_is_loaded(
    tmp_path: Path, setting: str, problem: str | None
) -> None:
    path = write(tmp_path, OVERRIDE.format(setting))
    if problem is None:
        assert len(load_config(path).input.overrides) == 1
    else:
        assert problems_of(path) == [f"6: input.overrides[0].set.{problem}"]


def test_a_rule_that_an_override_breaks_is_reported_at_the_override(tmp_path: Path) -> None:
    path = write(tmp_path, OVERRIDE.format("scale.factor: 2") + "scale: {height: 720}\n")
    (problem,) = problems_of(path)
    assert problem.startswith("6: input.overrides[0].set.scale.factor: ")
    assert "scale.height" in problem


def test_an_override_without_match_or_with_a_wrong_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "input:\n  paths: [a.mkv]\n  overrides:\n    - mtach: x\n      set: {}\n    - 3\n")
    assert problems_of(path) == [
        "4: input.overrides[0].mtach: unknown key; did you mean input.overrides[0].match?",
        "6: input.overrides[1]: must be a mapping of keys to values (got 3)",
    ]
    path = write(tmp_path, "input:\n  paths: [a.mkv]\n  overrides:\n    - match: x\n    - set: {encode.quality: 1}\n")
    assert problems_of(path) == [
        "4: input.overrides[0].set: must be given",
        "5: input.overrides[1].match: must be given",
    ]


def test_the_paths_that_an_override_sets_start_where_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "configs", OVERRIDE.format("output.dir: here") + "        infer.model: x4.pth\n")
    (override,) = load_config(path).input.overrides
    assert override.set == {
        "output.dir": str(tmp_path / "configs/here"),
        "infer.model": str(tmp_path / "configs/x4.pth"),
    }
    (override,) = load_config(path, ["input.overrides=[{match: x, set: {output.dir: here}}]"]).input.overrides
    assert override.set == {"output.dir": str(tmp_path / "here")}


def test_what_an_override_of_an_override_sets_is_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {paths: [film.mkv]}\n")
    assert problems_of(path, "input.overrides=[{match: x, set: {encode.qualty: 1}}]") == [
        "--set input.overrides[0].set.encode.qualty: unknown key; did you mean encode.quality?"
    ]


def test_overrides_in_a_folder_that_is_no_text_are_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    path = write(folder, OVERRIDE.format("encode.quality: 20"))
    (problem,) = problems_of(path)
    assert problem.endswith("overrides need folders whose names are text in UTF-8")


def test_the_path_of_a_list_starts_where_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    path = write(tmp_path / "configs", "input: {paths: ['@films.txt', '@~/films.txt', './@film.mkv']}\n")
    assert [str(entry) for entry in load_config(path).input.paths] == [
        f"@{tmp_path}/configs/films.txt",
        "@/home/someone/films.txt",
        f"{tmp_path}/configs/@film.mkv",
    ]
    assert str(load_config(path, ["input.paths=['@films.txt']"]).input.paths[0]) == f"@{tmp_path}/films.txt"

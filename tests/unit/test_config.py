"""What the config models promise, field by field and between fields."""

from __future__ import annotations

import math
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from helpers.config_fields import FieldCase, document_with, field_cases
from pydantic import ValidationError

from engines.build_options import BuildOptions
from pipeline.config import Config, EngineSection, InputSection, OutputSection, ScaleSection, TileSection
from pipeline.config.load import make_config
from pipeline.errors import ConfigError

FOLDER = Path("/films")
CASES = field_cases()
NUMERIC = [case for case in CASES if any(o.get("type") in {"integer", "number"} for o in case.options)]
FREE_TEXT_KEYS = {"infer.model", "encode.preset"}
"""Any text is right here: the tables of models and encoders decide."""


def make(document: dict[str, Any]) -> Config:
    return make_config(document, folder=FOLDER)


def value_at(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def problems_of(document: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        make(document)
    return caught.value.problems


def test_the_models_have_fields_to_check() -> None:
    assert len(CASES) > 40
    assert len(NUMERIC) > 15


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_field_takes_an_allowed_value(case: FieldCase) -> None:
    value = case.another_value()
    if value is None:
        assert "const" in case.schema
        return
    default = make({"input": {"paths": ["film.mkv"]}, "scale": {"fit": {} if ".fit." in case.key else None}})
    assert value_at(make(document_with(case.key, value)), case.key) != value_at(default, case.key)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("wrong", [{"x": [1]}, [[1]], "\0nonsense/"], ids=["mapping", "list", "text"])
def test_every_field_refuses_the_wrong_type_and_names_itself(case: FieldCase, wrong: Any) -> None:
    if case.key in FREE_TEXT_KEYS and isinstance(wrong, str):
        return
    problems = problems_of(document_with(case.key, wrong))
    assert len(problems) == 1
    assert problems[0].startswith(f"config: {case.key}")


@pytest.mark.parametrize("case", NUMERIC, ids=str)
def test_every_number_has_bounds_that_hold(case: FieldCase) -> None:
    for option in case.options:
        if option.get("type") not in {"integer", "number"} or case.key == "version":
            continue
        low, high = option.get("minimum", option.get("exclusiveMinimum")), option["maximum"]
        assert low is not None
        step = 1 if option["type"] == "integer" else 1e-6
        refused = [low - step, high + step] + ([low] if "exclusiveMinimum" in option else [])
        allowed = [high] + ([low] if "minimum" in option else [low + step])
        for value in refused:
            assert f"{case.key}: " in problems_of(document_with(case.key, value))[0]
        for value in allowed:
            assert float(value_at(make(document_with(case.key, value)), case.key)) == value


@pytest.mark.parametrize("case", NUMERIC, ids=str)
@pytest.mark.parametrize("wrong", [True, "4", math.nan, math.inf], ids=str)
def test_a_number_is_neither_text_nor_a_truth_value_nor_infinite(case: FieldCase, wrong: Any) -> None:
    if case.key in {"decode.synthetic.rate", "input.image_rate"} and wrong == "4":
        return  # a rate may be a ratio in quotes
    assert case.key in problems_of(document_with(case.key, wrong))[0]


def test_defaults_are_those_of_an_almost_empty_file() -> None:
    config = make({"input": {"paths": ["film.mkv"]}})
    assert config.model_dump(exclude={"input", "output"}) == Config.model_construct().model_dump(
        exclude={"input", "output"}
    )
    assert config.infer.model == "realesr-animevideov3"


def test_the_default_model_is_the_engines() -> None:
    from engines import DEFAULT_MODEL

    assert make({"input": {"paths": ["film.mkv"]}}).infer.model == DEFAULT_MODEL


def test_choices_are_those_of_the_tables() -> None:
    """A backend or an encoder that the config cannot name is not there, and the other way round."""
    from engines import BACKENDS
    from pipeline.encode.table import ENCODERS

    choices = {case.key: case.schema for case in CASES}
    assert set(choices["infer.backend"]["enum"]) == {"auto", *BACKENDS}
    assert set(choices["encode.kind"]["enum"]) == {"auto", None, *ENCODERS}


def test_a_config_cannot_be_changed() -> None:
    config = make({"input": {"paths": ["film.mkv"]}})
    with pytest.raises(ValidationError):
        config.tile.max_px = 128  # type: ignore[misc]


def test_a_config_can_be_made_in_python() -> None:
    config = Config(input=InputSection(paths=(Path("film.mkv"),)), tile=TileSection(max_px=128))
    assert config.tile.max_px == 128
    assert config.output.dir == Path("out")


def test_paths_start_at_the_folder_and_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    config = make({"input": {"paths": ["a.mkv", "/b.mkv", "~/c.mkv"]}})
    assert config.input.paths == (Path("/films/a.mkv"), Path("/b.mkv"), Path("/home/someone/c.mkv"))
    assert config.output.dir == Path("/films/out")


def test_a_model_is_a_name_of_the_table_or_a_file_that_starts_at_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    cases = {
        "RealESRGAN_x4plus": "RealESRGAN_x4plus",
        "4x-mine.pth": "/films/4x-mine.pth",
        "MINE.ONNX": "/films/MINE.ONNX",
        "../nets/mine": "/nets/mine",
        "/nets/mine.safetensors": "/nets/mine.safetensors",
        "~/mine.bin": "/home/someone/mine.bin",
    }
    for written, meant in cases.items():
        assert make({"input": {"paths": ["film.mkv"]}, "infer": {"model": written}}).infer.model == meant


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda:1", "gpu.0", "CUDAExecutionProvider", "HETERO:GPU,CPU"])
def test_a_device_is_the_backends_word(device: str) -> None:
    assert make({"input": {"paths": ["film.mkv"]}, "infer": {"device": device}}).infer.device == device


@pytest.mark.parametrize("device", ["the gpu", "0", "cuda\n", "-cpu"])
def test_a_device_that_cannot_be_one_is_refused_with_examples(device: str) -> None:
    (problem,) = problems_of({"input": {"paths": ["film.mkv"]}, "infer": {"device": device}})
    assert problem.startswith("config: infer.device: must be a device such as auto, cpu, cuda")


def test_engine_options_reach_the_compiler_one_to_one() -> None:
    """Every option of the compiler that a run can use has a key of its name, and nothing is lost on the way."""
    written = {
        "dynamic": True, "min_px": 32, "opt_px": 256, "max_px": 300, "workspace_mb": 5, "optimization_level": 4,
        "max_aux_streams": 2, "version_compatible": True, "hardware_compatibility": "ampere_plus",
        "timing_cache": False, "cuda_graph": False, "cache_dir": "engines",
    }  # fmt: skip
    engine = make({"input": {"paths": ["film.mkv"]}, "infer": {"engine": written}}).infer.engine
    meant = {**written, "workspace_bytes": 5 * 2**20, "cache_dir": FOLDER / "engines", "compute_capabilities": ()}
    del meant["workspace_mb"]
    assert asdict(engine.build_options()) == meant
    assert EngineSection().build_options() == BuildOptions()
    assert set(EngineSection.model_fields) == set(written)


def test_a_home_that_nobody_has_is_an_error() -> None:
    problems = problems_of({"input": {"paths": ["~nobody-has-this-name/a.mkv"]}})
    assert problems == (
        "config: input.paths[0]: the home folder that ~ stands for is unknown (got '~nobody-has-this-name/a.mkv')",
    )


@pytest.mark.parametrize(
    ("written", "rate"),
    [(24, Fraction(24)), (23.976, Fraction(2997, 125)), ("24000/1001", Fraction(24000, 1001)), ("50", Fraction(50))],
)
def test_a_rate_is_exact(written: Any, rate: Fraction) -> None:
    config = make(document_with("decode.synthetic.rate", written))
    assert config.decode.synthetic.rate == rate


@pytest.mark.parametrize("written", [0, -1, "1/0", "24/", "1e3", "1e999999999", 1001, "0/1", "twenty", "1.5/2"])
def test_a_rate_that_is_none_is_refused(written: Any) -> None:
    (problem,) = problems_of(document_with("decode.synthetic.rate", written))
    assert "decode.synthetic.rate: must be a number >= 0.01" in problem


def test_words_that_yaml_reads_as_something_else_are_understood() -> None:
    config = make({"input": {"paths": ["film.mkv"]}, "encode": {"kind": None, "chroma": 420, "options": {"crf": 20}}})
    assert (config.encode.kind, config.encode.chroma) == ("null", "420")
    assert config.encode.options == {"crf": "20"}


@pytest.mark.parametrize("size", [{"factor": 2}, {"height": 720}, {"width": 1280}, {"fit": {"height": 720}}, {}])
def test_one_way_of_saying_the_size_is_enough(size: dict[str, Any]) -> None:
    assert isinstance(make({"input": {"paths": ["film.mkv"]}, "scale": size}).scale, ScaleSection)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"scale": {"factor": 2, "height": 720}}, ("scale.height: ", "scale.factor")),
        ({"scale": {"width": 720, "fit": {}}}, ("scale.fit: ", "scale.width")),
        ({"tile": {"max_px": 64, "overlap_px": 32}}, ("tile.overlap_px: ", "tile.max_px is 64")),
        ({"infer": {"engine": {"min_px": 600}}}, ("infer.engine.opt_px: ", "infer.engine.min_px")),
        ({"infer": {"engine": {"max_px": 256}}}, ("got 512", "infer.engine.max_px")),
        ({"input": {"paths": []}}, ("input.paths: ", "decode.kind")),
        ({"decode": {"kind": "synthetic"}}, ("input.paths: ", "decode.kind")),
        ({"input": {"paths": ["a.mkv", "a.mkv"]}}, ("input.paths[1]: ", "once")),
        ({"input": {"paths": ["a.mkv", "b.mkv"]}, "output": {"name": "film"}}, ("output.name: ", "input.paths")),
        ({"input": {"paths": ["a.mkv", "b.mkv"]}, "output": {"name": "{{stem}}"}}, ("output.name: ", "input.paths")),
    ],
)
def test_a_broken_rule_names_both_keys(document: dict[str, Any], words: tuple[str, str]) -> None:
    problems = problems_of({"input": {"paths": ["film.mkv"]}, **document})
    assert len(problems) == 1
    assert all(word in problems[0] for word in words)


def test_the_synthetic_film_needs_no_input() -> None:
    assert make({"decode": {"kind": "synthetic"}}).input.paths == ()


@pytest.mark.parametrize(
    "name", ["{stem}", "{stem}_{height}x{width}", "{stem} ({model} {factor})", "a{{b}}", "{folder}-{stem}.{suffix}"]
)
def test_an_output_name_is_a_template(name: str) -> None:
    config = make({"input": {"paths": ["film.mkv"]}, "output": {"name": name}})
    filled = config.output.format_name(source=Path("show/film.mp4"), height=720, width=1280, model="net/v2", factor=2.0)
    assert filled == name.replace("{{", "{").replace("}}", "}").replace("{stem}", "film").replace(
        "{height}", "720"
    ).replace("{width}", "1280").replace("{model}", "net_v2").replace("{factor}", "2").replace(
        "{suffix}", "mp4"
    ).replace("{folder}", "show")


@pytest.mark.parametrize(
    "name", ["{foo}", "{stem", "{}", "{stem!r}", "{stem:>99}", "{stem.parent}", "a/b", "..\\b", "", "}"]
)
def test_an_output_name_that_cannot_be_filled_is_refused(name: str) -> None:
    assert "output.name: " in problems_of({"input": {"paths": ["film.mkv"]}, "output": {"name": name}})[0]


def test_a_stem_with_braces_is_taken_as_it_is() -> None:
    assert (
        OutputSection(name="{stem}").format_name(source=Path("{x}.mkv"), height=1, width=1, model="m", factor=1.5)
        == "{x}"
    )


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("run.hours", "25:00-07:00", "must be times from 00:00 to 24:00 (got '25:00-07:00')"),
        ("run.hours", "at night", "must be spans such as 23:00-07:00, with commas between them (got 'at night')"),
        ("run.on_job_done", "  ", "must be a command for the shell (got '  ')"),
        ("run.max_attempts", 0, "must be a whole number >= 1 and <= 100 (got 0)"),
        ("input.suffixes", [], "must name at least one suffix"),
        ("input.suffixes", ["mkv"], "must be a suffix with its dot, such as .mkv (got 'mkv')"),
    ],
)
def test_what_a_night_is_told_is_checked_with_the_config(key: str, value: Any, problem: str) -> None:
    (found,) = problems_of(document_with(key, value))
    assert found.startswith(f"config: {key}")
    assert found.endswith(f": {problem}")


def test_suffixes_are_the_same_in_capital_letters() -> None:
    assert make(document_with("input.suffixes", [".MKV", ".Dav"])).input.suffixes == (".mkv", ".dav")


def test_who_watches_has_something_to_watch() -> None:
    problems = problems_of({"decode": {"kind": "synthetic"}, "input": {"watch": True}})
    assert problems == ("config: input.watch: must be false when decode.kind is synthetic, which reads no file",)

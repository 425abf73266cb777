"""The digest changes with every field that can change a film, and with no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.config_fields import FieldCase, document_with, field_cases

from pipeline.config import Config
from pipeline.config.digest import NOT_IN_DIGEST, config_digest, list_fields
from pipeline.config.load import make_config

SETTABLE = [case for case in field_cases() if case.another_value() is not None]


def make(document: dict[str, Any]) -> Config:
    return make_config(document, folder=Path("/films"))


@pytest.mark.parametrize("case", SETTABLE, ids=str)
def test_a_field_counts_unless_it_is_listed_with_a_reason(case: FieldCase) -> None:
    default: dict[str, Any] = {"input": {"paths": ["film.mkv"]}}
    if ".fit." in case.key:
        default["scale"] = {"fit": {}}
    changed = config_digest(make(document_with(case.key, case.another_value()))) != config_digest(make(default))
    assert changed == (case.key not in NOT_IN_DIGEST)


def test_fields_that_do_not_count_exist_and_say_why() -> None:
    keys = {case.key for case in field_cases()}
    assert set(NOT_IN_DIGEST) <= keys
    assert all(len(reason) > 10 for reason in NOT_IN_DIGEST.values())


def test_a_field_left_out_and_its_default_are_the_same() -> None:
    bare = make({"input": {"paths": ["film.mkv"]}})
    spelled = make({"input": {"paths": ["film.mkv"]}, "tile": {"max_px": "auto"}, "run": {}})
    assert config_digest(bare) == config_digest(spelled)


def test_the_order_of_encoder_options_does_not_count() -> None:
    one = make(document_with("encode.options", {"a": "1", "b": "2"}))
    other = make(document_with("encode.options", {"b": "2", "a": "1"}))
    assert config_digest(one) == config_digest(other)


def test_the_digest_is_a_sha256_of_what_is_done_not_of_the_film() -> None:
    digest = config_digest(make({"input": {"paths": ["film.mkv"]}}))
    assert len(digest) == 64
    assert int(digest, 16) >= 0
    assert digest == config_digest(make({"input": {"paths": ["other.mkv"]}}))


def test_a_model_file_counts_by_its_content_and_not_by_its_place() -> None:
    here = make(document_with("infer.model", "mine.onnx"))
    there = make(document_with("infer.model", "/elsewhere/other.onnx"))
    assert config_digest(here) != config_digest(there)
    assert config_digest(here, model_files=["aa"]) == config_digest(there, model_files=["aa"])
    assert config_digest(here, model_files=["aa"]) != config_digest(here, model_files=["bb"])


def test_a_model_of_the_table_counts_by_name_and_content() -> None:
    """The same weights in another of its published files, or denoised by another sibling, are another film."""
    one, other = (make(document_with("infer.model", name)) for name in ("nearest-x2", "nearest-x4"))
    assert config_digest(one, model_files=[]) != config_digest(other, model_files=[])
    assert config_digest(one, model_files=["aa"]) != config_digest(one, model_files=["aa", "bb"])


def test_all_fields_are_listed_once() -> None:
    keys = [key for key, _ in list_fields(make({"input": {"paths": ["film.mkv"]}, "scale": {"fit": {}}}))]
    assert sorted(keys) == sorted(case.key for case in field_cases())


def test_a_path_that_is_no_text_has_a_digest() -> None:
    config = make({"input": {"paths": ["film.mkv"]}})
    odd = config.model_copy(update={"output": config.output.model_copy(update={"dir": Path("/films/\udcff")})})
    assert config_digest(odd) == config_digest(config)

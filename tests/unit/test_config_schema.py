"""What is generated from the config models is up to date, and the models are documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.config_fields import field_cases

from pipeline.config.schema import config_schema
from tools import check_config_docs, make_schema


def test_the_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_schema.main(["--check"]) == 0, f"run tools/make_schema.py: {capsys.readouterr().out}"


def test_a_stale_file_is_found_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_schema.main(["--folder", str(tmp_path)]) == 0
    assert make_schema.main(["--folder", str(tmp_path), "--check"]) == 0
    (tmp_path / "schema.json").write_text("{}")
    assert make_schema.main(["--folder", str(tmp_path), "--check"]) == 1
    assert "schema.json: is out of date" in capsys.readouterr().out
    assert (tmp_path / "schema.json").read_text() == "{}"


def test_the_schema_describes_every_key_and_allows_no_other() -> None:
    schema = config_schema()
    sections: list[dict[str, Any]] = [schema, *schema["$defs"].values()]
    assert all(section["additionalProperties"] is False for section in sections)
    fields = [field for section in sections for field in section["properties"].values()]
    assert all(len(field["description"]) > 5 for field in fields)
    assert len(fields) >= len(field_cases())


def test_the_models_are_documented() -> None:
    assert check_config_docs.main([]) == 0


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ('wait_s: float = 1.0\n    """Seconds."""', "has no constraint on float"),
        ('name: str | None = None\n    """A name."""', "has no constraint on str"),
        ('names: tuple[Annotated[str, Field(min_length=1)], ...]\n    """Names."""', "has no default"),
        ("on: bool = True", "has no docstring"),
        ('wait: Annotated[float, Field(gt=0)] = 1.0\n    """How long."""', "has no unit"),
        ('jobs: Auto | ThreadCount = 1\n    """How many."""', "has no unit"),
    ],
)
def test_a_field_that_lacks_something_is_found(field: str, problem: str) -> None:
    source = f'class Wait(Section):\n    """Waiting."""\n\n    {field}\n'
    problems = check_config_docs.check_source(source, file_name="x.py")
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_section_without_docstring_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.py"
    path.write_text('class Wait(Section):\n    on: bool = True\n    """Whether."""\n')
    assert check_config_docs.main([str(path)]) == 1
    assert capsys.readouterr().out == "x.py:1: Wait has no docstring\n"

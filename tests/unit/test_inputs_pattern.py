"""Patterns of paths fit what a shell's would."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inputs.pattern import PathPattern, end_pattern, has_magic, split_pattern


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*.mkv", "a.mkv", True),
        ("*.mkv", "b/a.mkv", False),
        ("*.mkv", "a.MKV", False),
        ("*/a.mkv", "b/a.mkv", True),
        ("**/a.mkv", "a.mkv", True),
        ("**/a.mkv", "b/c/a.mkv", True),
        ("b/**/a.mkv", "b/a.mkv", True),
        ("b/**/a.mkv", "c/b/a.mkv", False),
        ("b/**", "b/c/d.mkv", True),
        ("**/**/x", "x", True),
        ("s?[12]/*", "s01/x", True),
        ("s?[!12]/*", "s01/x", False),
        ("a**b", "axb", True),
        ("*", "a\nb", True),
    ],
)
def test_a_pattern_fits_as_in_a_shell(pattern: str, path: str, fits: bool) -> None:
    assert PathPattern.of(Path(pattern).parts).fits(Path(path).parts) == fits


@given(
    st.lists(st.sampled_from(["**", "*", "a", "b*", "?"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "bc"]), min_size=1, max_size=4),
)
def test_step_by_step_is_the_same_as_trying_all_depths(pattern: list[str], path: list[str]) -> None:
    def fits(names: list[str], rest: list[str]) -> bool:
        if not names:
            return not rest
        if names[0] == "**":
            return any(fits(names[1:], rest[skipped:]) for skipped in range(len(rest) + 1))
        return bool(rest) and bool(PathPattern.of(names[:1]).fits(rest[:1])) and fits(names[1:], rest[1:])

    assert PathPattern.of(pattern).fits(path) == fits(pattern, path)


@given(st.lists(st.sampled_from(["**", "*", "a", "b"]), min_size=1, max_size=4), st.lists(st.sampled_from("abc")))
def test_a_folder_that_is_not_looked_into_holds_nothing_that_fits(pattern: list[str], path: list[str]) -> None:
    compiled = PathPattern.of(pattern)
    places = compiled.start
    for depth, name in enumerate(path[:-1]):
        places = compiled.step(places, name)
        if not compiled.goes_on(places):
            assert not compiled.fits(path), depth
            return


def test_a_pattern_of_ends_fits_wherever_the_folder_is() -> None:
    path = Path("/films/show/Season 1/01.avi").parts
    assert all(end_pattern(text).fits(path) for text in ("*.avi", "Season 1/*", "show/**", "Season ?/0*.avi"))
    assert not any(end_pattern(text).fits(path) for text in ("*.mkv", "show/*", "eason 1/*", "Season 1"))


def test_a_pattern_starts_in_the_folder_before_its_first_magic() -> None:
    assert split_pattern(Path("/films/a*/b/*.mkv")) == (Path("/films"), ("a*", "b", "*.mkv"))
    assert has_magic(Path("/a/[x].mkv"))
    assert not has_magic(Path("/a/x.mkv"))


def test_a_pattern_finds_what_the_standard_library_finds(tmp_path: Path) -> None:
    for name in ("a/x.mkv", "a/b/y.mkv", "c/z.mkv", "w.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    for pattern in ("**/*.mkv", "*/*.mkv", "a/**/*.mkv", "*", "**/b/*"):
        expected = {Path(name) for name in glob.glob(pattern, root_dir=tmp_path, recursive=True)}  # noqa: PTH207
        expected = {name for name in expected if (tmp_path / name).is_file()}
        assert {path for path in files if PathPattern.of(Path(pattern).parts).fits(path.parts)} == expected

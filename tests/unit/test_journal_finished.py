"""An output is finished if it, its film and its settings are what they were; otherwise it is said which is not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import MediaError, OutputError
from pipeline.journal import FileIdentity, FinishedRecord, check_finished, check_unchanged, remember_finished
from pipeline.journal.identity import END_BYTES

ODD_NAMES = [
    "with space.mkv",
    "quote'\"\\.mkv",
    "new\nline.mkv",
    "\udcff\udcfe.mkv",
    "ü" * 120 + ".mkv",
    "x" * 246 + ".mkv",
    "sub/folder/film.mkv",
    "-rf",
]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"a film")
    return path


def finish(root: Path, source: Path | None, *, name: str = "film.mkv", digest: str = "digest") -> Path:
    output = root / name
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(b"a larger film")
    record = FinishedRecord.now(
        root=root,
        output=output,
        source=source,
        source_identity=None if source is None else FileIdentity.of(source),
        config_digest=digest,
        frames=10,
    )
    remember_finished(root, record)
    return output


def ask(root: Path, output: Path, source: Path | None, *, digest: str = "digest"):
    return check_finished(root, output=output, source=source, config_digest=digest)


@pytest.mark.parametrize("name", ["film.mkv", *ODD_NAMES])
def test_what_was_finished_is_finished_whatever_it_is_called(tmp_path: Path, film: Path, name: str) -> None:
    root = tmp_path / "out"
    output = finish(root, film, name=name)
    check = ask(root, output, film)
    assert check.is_finished and check.reason.startswith("finished at 20")
    assert len(list((root / ".nightscale/finished").iterdir())) == 1
    assert not ask(root, root / "other.mkv", film).is_finished


def test_a_computed_film_has_no_source(tmp_path: Path, film: Path) -> None:
    output = finish(tmp_path, None)
    assert ask(tmp_path, output, None).is_finished
    assert ask(tmp_path, output, film).reason == "it was made from another source"


def test_all_results_may_be_moved_together(tmp_path: Path, film: Path) -> None:
    finish(tmp_path / "out", film)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert ask(tmp_path / "moved", tmp_path / "moved" / "film.mkv", film).is_finished


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda film, output: output.unlink(), "the output is not the one that was finished: it is gone"),
        (lambda film, output: output.write_bytes(b"x"), "it has 1 bytes, not 13"),
        (lambda film, output: os.utime(output, ns=(0, 7)), "the output .* changed at another time"),
        (lambda film, output: film.unlink(), "the source .* it is gone"),
        (lambda film, output: film.write_bytes(b"xy"), "the source .* it has 2 bytes, not 6"),
        (lambda film, output: os.utime(film, ns=(0, 7)), "the source .* changed at another time"),
    ],
)
def test_what_changed_is_said(tmp_path: Path, film: Path, harm, reason: str) -> None:
    output = finish(tmp_path / "out", film)
    harm(film, output)
    check = ask(tmp_path / "out", output, film)
    assert not check.is_finished
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(check.reason)


def test_other_settings_are_said(tmp_path: Path, film: Path) -> None:
    output = finish(tmp_path, film)
    assert ask(tmp_path, output, film, digest="7").reason == "it was made with other settings"


def test_a_later_run_replaces_the_record(tmp_path: Path, film: Path) -> None:
    finish(tmp_path, film)
    output = finish(tmp_path, film, digest="later")
    assert ask(tmp_path, output, film, digest="later").is_finished
    assert not ask(tmp_path, output, film).is_finished


def test_a_record_cut_or_rotten_anywhere_never_makes_another_file_finished(tmp_path: Path, film: Path) -> None:
    """Whatever happens to the record, it never speaks for another output, and never raises."""
    output = finish(tmp_path, film)
    (path,) = (tmp_path / ".nightscale/finished").iterdir()
    whole = path.read_bytes()
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        check = ask(tmp_path, output, film)
        assert not check.is_finished and "cannot be used" in check.reason
    output.write_bytes(b"another film")
    for offset in range(len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        assert not ask(tmp_path, output, film).is_finished


def test_a_record_of_another_format_or_output_counts_as_none(tmp_path: Path, film: Path) -> None:
    output = finish(tmp_path, film)
    (path,) = (tmp_path / ".nightscale/finished").iterdir()
    text = path.read_text()
    path.write_text(text.replace('"version": 1', '"version": 2'))
    assert "format 2" in ask(tmp_path, output, film).reason
    path.write_text(text.replace("film.mkv", "other.mkv"))
    assert "about other.mkv" in ask(tmp_path, output, film).reason


def test_a_record_that_cannot_be_written_is_an_output_error(tmp_path: Path, film: Path) -> None:
    (tmp_path / ".nightscale").write_bytes(b"a file in the way")
    with pytest.raises(OutputError, match=r"\.nightscale"):
        finish(tmp_path, film)
    assert not ask(tmp_path, tmp_path / "film.mkv", film).is_finished


def pictures(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index in range(5):
        (folder / f"{index}.png").write_bytes(b"picture %d" % index)
    return folder


def test_a_folder_of_pictures_is_finished_while_all_of_them_are_there(tmp_path: Path, film: Path) -> None:
    folder = pictures(tmp_path / "out" / "film")
    record = FinishedRecord.now(
        root=tmp_path / "out",
        output=folder,
        source=film,
        source_identity=FileIdentity.of(film),
        config_digest="d",
        frames=5,
    )
    remember_finished(tmp_path / "out", record)
    assert ask(tmp_path / "out", folder, film, digest="d").is_finished
    (folder / "2.png").rename(folder / "7.png")
    assert "its content is another" in ask(tmp_path / "out", folder, film, digest="d").reason
    (folder / "7.png").unlink()
    assert "bytes" in ask(tmp_path / "out", folder, film, digest="d").reason


@pytest.mark.parametrize("size", [0, 1, END_BYTES - 1, END_BYTES, END_BYTES + 1, 2 * END_BYTES, 3 * END_BYTES])
def test_both_ends_of_a_file_count(tmp_path: Path, size: int) -> None:
    path = tmp_path / "film"
    path.write_bytes(bytes(size))
    os.utime(path, ns=(7, 7))
    before = FileIdentity.of(path)
    assert before == FileIdentity.of(path)
    assert before.changes(path) == ()
    for offset in {0, size // 3, size - 1} if size else set():
        content = bytearray(size)
        content[offset] = 1
        path.write_bytes(content)
        os.utime(path, ns=(7, 7))
        is_at_an_end = offset < END_BYTES or offset >= size - END_BYTES
        assert (FileIdentity.of(path) != before) == is_at_an_end
        assert before.changes(path) == (("its content is another",) if is_at_an_end else ())


def test_an_identity_survives_json_and_names(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff film\n")
    path.write_bytes(b"x")
    identity = FileIdentity.of(path)
    assert FileIdentity.from_json(identity.as_json()) == identity
    moved = path.rename(tmp_path / "moved")
    assert FileIdentity.of(moved) == identity
    link = tmp_path / "link"
    link.symlink_to(moved)
    assert FileIdentity.of(link) == identity


def test_a_film_that_was_replaced_while_it_was_read_is_detected(film: Path) -> None:
    identity = FileIdentity.of(film)
    check_unchanged(film, identity=identity)
    film.with_name("other").write_bytes(b"b film")
    film.with_name("other").replace(film)
    os.utime(film, ns=(identity.mtime_ns, identity.mtime_ns))
    with pytest.raises(MediaError, match="changed while it was read: its content is another"):
        check_unchanged(film, identity=identity)
    film.unlink()
    with pytest.raises(MediaError, match="it is gone"):
        check_unchanged(film, identity=identity)


def test_what_is_no_file_has_no_identity(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a regular file"):
        FileIdentity.of(tmp_path / "pipe")
    with pytest.raises(MediaError, match="cannot read"):
        FileIdentity.of(tmp_path / "missing")
    identity = FileIdentity(size_bytes=1, mtime_ns=1, sha256_ends="")
    assert "not a regular file" in replace(identity).changes(tmp_path / "pipe")[0]

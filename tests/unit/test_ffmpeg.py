"""Finding and running the ffmpeg program."""

import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from pipeline.assembly import ffmpeg
from pipeline.assembly.ffmpeg import FfmpegProgram, find_ffmpeg, run_ffmpeg
from pipeline.errors import OutputError, SetupError
from pipeline.graph.channel import Aborted
from pipeline.graph.stop import StopToken


def make_program(folder: Path, *, says: str, code: int = 0) -> Path:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


class TestFinding:
    def test_the_systems_own_comes_first(self, tmp_path, monkeypatch):
        path = make_program(tmp_path, says="ffmpeg version 6.1.1-3ubuntu5 Copyright")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_ffmpeg() == FfmpegProgram(path=path, version="6.1.1-3ubuntu5")

    @pytest.mark.parametrize("version", ["n7.1", "N-118000-g1234", "2025-01-01-git-abc"])
    def test_unusual_version_names_are_taken(self, tmp_path, monkeypatch, version):
        make_program(tmp_path, says=f"ffmpeg version {version} Copyright")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_ffmpeg().version == version

    @pytest.mark.parametrize(
        ("says", "code"), [("ffmpeg version 4.4.2 Copyright", 0), ("not ffmpeg at all", 0), ("ffmpeg version 7.0 C", 1)]
    )
    def test_one_that_is_old_or_broken_is_passed_over(self, tmp_path, monkeypatch, says, code):
        make_program(tmp_path, says=says, code=code)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", imageio_ffmpeg.get_ffmpeg_exe())
        assert find_ffmpeg().path != tmp_path / "ffmpeg"

    def test_none_at_all_is_an_error_with_the_command_that_helps(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(ffmpeg, "_find_bundled", lambda: None)
        with pytest.raises(SetupError, match="no ffmpeg program") as caught:
            find_ffmpeg()
        assert caught.value.missing == "ffmpeg"
        assert "pip install imageio-ffmpeg" in caught.value.hint


def python(code: str, tmp_path: Path) -> FfmpegProgram:
    """A stand-in program that runs Python code and ignores its arguments."""
    path = tmp_path / "program"
    path.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
    path.chmod(0o755)
    return FfmpegProgram(path=path, version="0")


class TestRunning:
    def test_what_is_fed_arrives(self, tmp_path):
        program = python(
            f"import sys, pathlib; pathlib.Path({str(tmp_path / 'got')!r}).write_bytes(sys.stdin.buffer.read())",
            tmp_path,
        )
        content = bytes(range(256)) * 4096  # more than a pipe holds
        run_ffmpeg(program, [], output=tmp_path / "out", feed=lambda pipe: pipe.write(content))
        assert (tmp_path / "got").read_bytes() == content

    def test_a_failure_is_told_with_the_last_words(self, tmp_path):
        """However much it said before."""
        code = (
            "import sys; print('noise\\n' * 100000, file=sys.stderr); print('the cause', file=sys.stderr); sys.exit(3)"
        )
        with pytest.raises(OutputError, match=r"exit code 3.*the cause"):
            run_ffmpeg(python(code, tmp_path), [], output=tmp_path / "out")

    def test_a_full_disk_gets_its_own_hint(self, tmp_path):
        code = "import sys; sys.exit('av_interleaved_write_frame(): No space left on device')"
        with pytest.raises(OutputError) as caught:
            run_ffmpeg(python(code, tmp_path), [], output=tmp_path / "out")
        assert "make room" in caught.value.hint

    def test_a_program_that_stops_reading_is_judged_by_its_exit_code(self, tmp_path):
        code = "import sys; sys.exit('cannot go on')"
        with pytest.raises(OutputError, match="cannot go on"):
            run_ffmpeg(
                python(code, tmp_path), [], output=tmp_path / "out", feed=lambda pipe: pipe.write(bytes(10_000_000))
            )

    def test_a_program_that_ends_well_without_reading_all_has_not_done_its_work(self, tmp_path):
        with pytest.raises(BrokenPipeError):
            run_ffmpeg(
                python("pass", tmp_path), [], output=tmp_path / "out", feed=lambda pipe: pipe.write(bytes(10_000_000))
            )

    def test_an_error_while_feeding_ends_the_program(self, tmp_path):
        def feed(pipe):
            raise KeyError("segment")

        with pytest.raises(KeyError, match="segment"):
            run_ffmpeg(python("import sys; sys.stdin.read()", tmp_path), [], output=tmp_path / "out", feed=feed)

    def test_an_abort_kills_it(self, tmp_path):
        """Also while the pipe to it is full."""
        stop = StopToken()

        def feed(pipe):
            stop.abort()
            pipe.write(bytes(10_000_000))

        with pytest.raises(Aborted):
            run_ffmpeg(
                python("import time; time.sleep(60)", tmp_path), [], output=tmp_path / "out", feed=feed, stop=stop
            )

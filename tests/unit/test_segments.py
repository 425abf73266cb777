"""Segments: a partition of the film, each whole and checked before it has its name."""

from fractions import Fraction

import pytest
from helpers.pictures import make_frame, make_frames, make_spec, write_segments
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import OutputError
from pipeline.segments import (
    SegmentWriter,
    check_segment,
    frames_per_segment,
    is_segment_start,
    plan_segments,
    sweep_unfinished,
)


@given(frame_count=st.integers(0, 5000), segment_frames=st.integers(1, 700))
def test_segments_partition_the_film(frame_count, segment_frames):
    """Every frame lies in exactly one segment, in order; only the last may be shorter."""
    segments = plan_segments(frame_count, segment_frames=segment_frames)
    assert [index for segment in segments for index in range(segment.start, segment.stop)] == list(range(frame_count))
    assert [segment.index for segment in segments] == list(range(len(segments)))
    assert all(segment.stop - segment.start == segment_frames for segment in segments[:-1])
    assert all(is_segment_start(segment.start, segment_frames=segment_frames) for segment in segments)


@pytest.mark.parametrize(
    ("segment_s", "rate", "expected"),
    [(60.0, Fraction(24000, 1001), 1439), (60.0, Fraction(25), 1500), (0.001, Fraction(25), 1), (2.0, None, 50)],
)
def test_segment_length_in_frames(segment_s, rate, expected):
    """At least the length asked for, never zero frames, also where the rate is unknown."""
    assert frames_per_segment(segment_s, average_rate=rate) == expected


@pytest.mark.parametrize(("frame_count", "segment_frames"), [(-1, 5), (5, 0)])
def test_nonsense_is_refused(frame_count, segment_frames):
    with pytest.raises(ValueError, match="cannot cut"):
        plan_segments(frame_count, segment_frames=segment_frames)


class TestWriting:
    PTS = (5, 9, 20, 30, 31, 50, 70)

    def test_segments_are_whole_and_named_in_order(self, tmp_path):
        segments = write_segments(tmp_path, self.PTS, make_spec("libx264"), segment_frames=3)
        assert [(segment.start, segment.stop, segment.pts) for segment in segments] == [
            (0, 3, (5, 9, 20)),
            (3, 6, (30, 31, 50)),
            (6, 7, (70,)),
        ]
        assert [segment.path for segment in segments] == [tmp_path / f"seg-{index:05d}.mp4" for index in range(3)]
        assert [segment.bytes for segment in segments] == [segment.path.stat().st_size for segment in segments]
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_segment_is_on_disk_as_soon_as_its_last_frame_is_written(self, tmp_path):
        """The callback sees it before the next frame comes; resume builds on that."""
        seen = []
        spec = make_spec("libx264")
        with SegmentWriter(tmp_path, spec, segment_frames=3, committed=seen.append) as writer:
            returned = [writer.write(frame) for frame in make_frames(self.PTS, spec)]
            assert [segment is not None for segment in returned] == [False, False, True, False, False, True, False]
            assert seen == [segment for segment in returned if segment] == list(writer.segments)
            assert all(segment.path.exists() for segment in seen)

    @pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "ffv1", "prores_ks", "png"])
    def test_bits_do_not_depend_on_where_a_run_began(self, tmp_path, encoder):
        """A run that starts with the second segment writes the same file for it."""
        spec = make_spec(encoder)
        whole, resumed = tmp_path / "whole", tmp_path / "resumed"
        whole.mkdir()
        resumed.mkdir()
        first = write_segments(whole, self.PTS, spec, segment_frames=3)
        with SegmentWriter(resumed, spec, segment_frames=3, first_frame=3) as writer:
            for frame in list(make_frames(self.PTS, spec))[3:]:
                writer.write(frame)
            later = writer.finish()
        assert [segment.index for segment in later] == [1, 2]
        for one, other in zip(first[1:], later, strict=True):
            assert one.path.read_bytes() == other.path.read_bytes()
            assert (one.start, one.stop, one.pts) == (other.start, other.stop, other.pts)

    def test_a_lane_writes_some_segments_and_leaves_out_others(self, tmp_path):
        """Each has the bits that it has in a run of all."""
        spec = make_spec("libx264")
        whole, lane = tmp_path / "whole", tmp_path / "lane"
        whole.mkdir()
        lane.mkdir()
        every = write_segments(whole, self.PTS, spec, segment_frames=2)
        with SegmentWriter(lane, spec, segment_frames=2, skips=True) as writer:
            for frame in make_frames(self.PTS, spec):
                if frame.stamp.index not in (0, 1, 4, 5):
                    writer.write(frame)
            some = writer.finish()
        assert [(segment.index, segment.start, segment.stop) for segment in some] == [(1, 2, 4), (3, 6, 7)]
        for segment in some:
            assert segment.path.read_bytes() == every[segment.index].path.read_bytes()
            assert segment.pts == every[segment.index].pts

    @pytest.mark.parametrize(("skips", "wanted"), [(False, (0, 1, 2, 3, 6)), (True, (0, 1, 2, 6)), (True, (1, 2))])
    def test_no_frame_is_left_out_within_a_segment(self, tmp_path, skips, wanted):
        spec = make_spec("libx264")
        frames = list(make_frames(self.PTS, spec))
        with SegmentWriter(tmp_path, spec, segment_frames=2, skips=skips) as writer:
            *good, bad = (frames[index] for index in wanted)
            if wanted[0] == 0:
                for frame in good:
                    writer.write(frame)
            else:
                bad = good[0]
            with pytest.raises(ValueError, match=f"frame {bad.stamp.index} came where"):
                writer.write(bad)

    def test_an_abort_keeps_whole_segments_and_nothing_else(self, tmp_path):
        spec = make_spec("libx264")
        with pytest.raises(RuntimeError, match="abort"), SegmentWriter(tmp_path, spec, segment_frames=3) as writer:
            for frame in make_frames(list(self.PTS[:5]), spec):
                writer.write(frame)
            raise RuntimeError("abort")
        assert [path.name for path in tmp_path.iterdir()] == ["seg-00000.mp4"]

    def test_leaving_without_finish_commits_nothing_more(self, tmp_path):
        """Only finish() means that the film is over."""
        spec = make_spec("libx264")
        with SegmentWriter(tmp_path, spec, segment_frames=30) as writer:
            for frame in make_frames(self.PTS, spec):
                writer.write(frame)
        assert list(tmp_path.iterdir()) == []

    def test_no_frames_make_no_segments(self, tmp_path):
        with SegmentWriter(tmp_path, make_spec("libx264"), segment_frames=3) as writer:
            assert writer.finish() == ()
        assert list(tmp_path.iterdir()) == []

    def test_the_null_encoder_counts_and_writes_nothing(self, tmp_path):
        segments = write_segments(tmp_path, self.PTS, make_spec("null"), segment_frames=3)
        assert [segment.frame_count for segment in segments] == [3, 3, 1]
        assert [segment.path for segment in segments] == [None, None, None]
        assert list(tmp_path.iterdir()) == []

    def test_a_frame_out_of_order_is_refused(self, tmp_path):
        spec = make_spec("libx264")
        with SegmentWriter(tmp_path, spec, segment_frames=3) as writer:
            writer.write(make_frame(0, pts=0, format=spec.format))
            with pytest.raises(ValueError, match="frame 2 came where frame 1"):
                writer.write(make_frame(2, pts=5, format=spec.format))

    def test_starting_inside_a_segment_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="frame 4 does not start"):
            SegmentWriter(tmp_path, make_spec("libx264"), segment_frames=3, first_frame=4)

    def test_a_full_disk_names_the_segment_and_leaves_the_whole_ones(self, tmp_path):
        spec = make_spec("ffv1", height=240, width=320)
        (tmp_path / "seg-00001.mp4.part").symlink_to("/dev/full")
        with (
            pytest.raises(OutputError, match=r"seg-00001\.mp4\.part.*No space left"),
            SegmentWriter(tmp_path, spec, segment_frames=3) as writer,
        ):
            for frame in make_frames(self.PTS, spec):
                writer.write(frame)
        assert [path.name for path in tmp_path.iterdir()] == ["seg-00000.mp4"]

    def test_a_commit_that_fails_is_one_error_and_leaves_no_part(self, tmp_path):
        """Here the final name is taken by a folder."""
        (tmp_path / "seg-00000.mp4").mkdir()
        spec = make_spec("libx264")
        with (
            pytest.raises(OutputError, match="cannot commit"),
            SegmentWriter(tmp_path, spec, segment_frames=3) as writer,
        ):
            for frame in make_frames(self.PTS, spec):
                writer.write(frame)
        assert [path.name for path in tmp_path.iterdir()] == ["seg-00000.mp4"]


class TestChecking:
    @pytest.fixture
    def segment(self, tmp_path):
        return write_segments(tmp_path, [3, 8, 20, 21], make_spec("libx264"), segment_frames=4)[0]

    def check(self, segment, pts):
        check_segment(segment.path, pts=pts, time_base=make_spec("libx264").time_base)

    def test_what_was_written_passes(self, segment):
        self.check(segment, [3, 8, 20, 21])

    @pytest.mark.parametrize("pts", [[3, 8, 20], [3, 8, 20, 21, 30]])
    def test_a_wrong_count_is_found(self, segment, pts):
        with pytest.raises(OutputError, match=f"holds 4 pictures of {len(pts)}"):
            self.check(segment, pts)

    def test_a_wrong_time_is_found(self, segment):
        with pytest.raises(OutputError, match="picture 2 has pts 20, not 19"):
            self.check(segment, [3, 8, 19, 21])

    @pytest.mark.parametrize("fraction", [0.0, 0.5, 0.95])
    def test_a_truncated_file_is_found(self, segment, fraction):
        content = segment.path.read_bytes()
        segment.path.write_bytes(content[: int(len(content) * fraction)])
        with pytest.raises(OutputError, match=r"seg-00000\.mp4"):
            self.check(segment, [3, 8, 20, 21])


def test_leftovers_of_a_killed_run_are_swept(tmp_path):
    """Parts go; whole segments and other files stay."""
    for name in ("seg-00000.mp4", "seg-00001.mp4.part", "notes.part"):
        (tmp_path / name).touch()
    sweep_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.part", "seg-00000.mp4"]

"""Frames that are read by number are those of a pass from the beginning, wherever reading begins."""

import numpy as np
import pytest
from helpers.field_films import write_interlaced
from helpers.media import read_counter, write_counter_video

from pipeline.config.models import DecodeSection
from pipeline.decode import open_decoder
from pipeline.decode.deinterlace_plan import plan_fields
from pipeline.probe import probe_media
from pipeline.verify.check import source_index
from pipeline.verify.reading import DecodedFrames


@pytest.mark.parametrize("wanted", [(0, 1, 30, 31, 58, 59), (45,), (3, 4, 5, 59), tuple(range(60))])
def test_frames_are_found_by_number(tmp_path, wanted):
    path = write_counter_video(tmp_path / "f.mkv", frames=60, b_frames=2, keyframe_interval=10)
    info = probe_media(path)
    index = source_index(info, deinterlacing=None, threads=1)
    with open_decoder("libav", info, threads=1, index=index) as decoder:
        reader = DecodedFrames(decoder, index=index)
        assert [read_counter(reader.frame(number)) for number in wanted] == list(wanted)
        assert reader.frame(60) is None
        assert reader.finish() is None


@pytest.mark.parametrize("rate", ["frame", "field"])
def test_frames_made_of_fields_are_found_by_number(tmp_path, rate):
    """By field there are two of each of the film's frames, whose entry points count the film's own."""
    info = probe_media(write_interlaced(tmp_path / "f.mkv", frames=120))
    fields = plan_fields(DecodeSection(deinterlace="bwdif", deinterlace_rate=rate), info, findings=None)
    index = source_index(fields.info, deinterlacing=fields.deinterlacing, threads=1)
    count = 120 if rate == "field" else 60
    wanted = (0, 1, count // 2, count // 2 + 1, count - 3, count - 1)
    with (
        open_decoder("libav", fields.info, threads=1, deinterlacing=fields.deinterlacing) as decoder,
        open_decoder("libav", fields.info, threads=1, deinterlacing=fields.deinterlacing, index=index) as jumping,
    ):
        every = [frame.planes[0].copy() for frame in decoder.frames()]
        reader = DecodedFrames(jumping, index=index)
        for number in wanted:
            assert np.array_equal(reader.frame(number).planes[0], every[number]), number
    assert len(every) == count

"""Encoders that copy a picture themselves get ours uncopied: with the same bits, and done with it when they return."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.pictures import make_frame, make_spec

from pipeline.encode import ENCODERS, EncodeSpec
from pipeline.encode.libav import LibavEncoder
from pipeline.frames import Frame
from pipeline.stages import planes_in

FRAMES = 30
LENDING = sorted(name for name, encoder in ENCODERS.items() if encoder.copies_input)


def packed(frame: Frame) -> Frame:
    """A frame with its planes one behind the other in one buffer, as stages make them."""
    buffer = np.empty(frame.format.frame_bytes(height=frame.height, width=frame.width), dtype=np.uint8)
    planes = planes_in(buffer, frame.format, height=frame.height, width=frame.width)
    for target, source in zip(planes, frame.planes, strict=True):
        target[...] = source
    return replace(frame, planes=planes)


def encode(path: Path, spec: EncodeSpec, *, spoil: bool, reversed_rows: bool = False) -> tuple[str, list[int]]:
    """Digest of the file, and the planes that were lent while each picture was made."""
    lent = []
    encoder = LibavEncoder(path, spec)
    pictures: Any = encoder._pictures
    make = pictures.make

    def watched(frame: Frame) -> Any:
        picture = make(frame)
        lent.append(pictures.lent_count)
        return picture

    pictures.make = watched
    try:
        for index in range(FRAMES):
            frame = packed(make_frame(index, pts=640 * index, format=spec.format, height=spec.height, width=spec.width))
            if reversed_rows:
                frame = replace(frame, planes=tuple(plane[::-1].copy()[::-1] for plane in frame.planes))
            encoder.write(frame)
            assert pictures.lent_count == 0
            if spoil:
                for plane in frame.planes:
                    plane[...] = 0
        encoder.finish()
    finally:
        encoder.close()
    return hashlib.sha256(path.read_bytes()).hexdigest(), lent


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", LENDING)
def test_a_frame_may_be_overwritten_as_soon_as_it_was_written(
    tmp_path: Path, name: str, threads: int, bit_depth: int
) -> None:
    """Sizes that are no multiple of a vector register, so that rows are read to their ends only."""
    spec = make_spec(name, bit_depth=bit_depth, height=90, width=146, threads=threads)
    copying = replace(spec, encoder=replace(spec.encoder, copies_input=False))
    expected, lent = encode(tmp_path / "copied", copying, spoil=False)
    assert set(lent) == {0}
    found, lent = encode(tmp_path / "lent", spec, spoil=True)
    assert set(lent) == {3}
    assert found == expected


def test_planes_that_libav_cannot_be_told_of_are_copied(tmp_path: Path) -> None:
    spec = make_spec("libx264", height=64, width=64)
    expected, _ = encode(tmp_path / "lent", spec, spoil=False)
    found, lent = encode(tmp_path / "copied", spec, spoil=True, reversed_rows=True)
    assert set(lent) == {0}
    assert found == expected


def test_an_encoder_that_goes_on_reading_is_a_defect_and_not_a_spoilt_film(tmp_path: Path) -> None:
    """Were an encoder declared to copy that does not, the first frame that it holds would end the run."""
    spec = make_spec("libx264", height=64, width=64)
    encoder = LibavEncoder(tmp_path / "x.part", spec)
    pictures: Any = encoder._pictures
    make, kept = pictures.make, []
    pictures.make = lambda frame: kept.append(make(frame)) or kept[-1]
    frame = make_frame(0, pts=0, format=spec.format, height=64, width=64)
    with pytest.raises(RuntimeError, match="libx264 still reads"):
        encoder.write(frame)
    kept.clear()
    encoder.close()

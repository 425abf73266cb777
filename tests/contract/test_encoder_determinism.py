"""The same frames give the same bits, whatever else the process did before."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from helpers.pictures import make_frame, make_spec

from pipeline.encode import open_encoder

FRAMES = 20
HEIGHT, WIDTH = 180, 320


def stir_heap(rng: random.Random) -> list[bytes]:
    """Memory with other content at other places than before: what reads memory it never wrote will show."""
    return [rng.randbytes(rng.randrange(1_000, 2_000_000)) for _ in range(4)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "ffv1", "prores_ks", "png"])
def test_bits_depend_on_the_frames_alone(tmp_path: Path, encoder: str, threads: int) -> None:
    spec = make_spec(encoder, height=HEIGHT, width=WIDTH, threads=threads)
    frames = [
        make_frame(index, pts=640 * index, format=spec.format, height=HEIGHT, width=WIDTH) for index in range(FRAMES)
    ]
    rng = random.Random(7)
    digests = set()
    held = []
    for attempt in range(6):
        path = tmp_path / f"{attempt}.part"
        writer = open_encoder(path, spec)
        for frame in frames:
            writer.write(frame)
        writer.finish()
        writer.close()
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        held.append(stir_heap(rng))
        del held[:-1]
    assert len(digests) == 1

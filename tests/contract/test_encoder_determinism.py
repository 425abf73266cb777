"""The same frames give the same bits, whatever else the process did before."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.pictures import make_frame, make_spec

from pipeline.encode import ENCODERS, EncodeSpec, open_encoder
from pipeline.encode.options import build_options

FRAMES = 20
HEIGHT, WIDTH = 180, 320


def stir_heap(rng: random.Random) -> list[bytes]:
    """Memory with other content at other places than before: what reads memory it never wrote will show."""
    return [rng.randbytes(rng.randrange(1_000, 2_000_000)) for _ in range(4)]


def write(path: Path, spec: EncodeSpec) -> None:
    """Encode the same frames as ever."""
    writer = open_encoder(path, spec)
    for index in range(FRAMES):
        writer.write(make_frame(index, pts=640 * index, format=spec.format, height=HEIGHT, width=WIDTH))
    writer.finish()
    writer.close()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "ffv1", "prores_ks", "png"])
def test_bits_depend_on_the_frames_alone(tmp_path: Path, encoder: str, threads: int) -> None:
    spec = make_spec(encoder, height=HEIGHT, width=WIDTH, threads=threads)
    rng = random.Random(7)
    digests = set()
    held = []
    for attempt in range(6):
        path = tmp_path / f"{attempt}.part"
        write(path, spec)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        held.append(stir_heap(rng))
        del held[:-1]
    assert len(digests) == 1


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("preset", ENCODERS["libx264"].avx512_presets)
def test_avx512_where_it_is_allowed_gives_the_bits_of_avx2(tmp_path: Path, preset: str, threads: int) -> None:
    spec = make_spec("libx264", height=HEIGHT, width=WIDTH, threads=threads, preset=preset)
    without = replace(spec, encoder=replace(spec.encoder, avx512_presets=()))
    digests = set()
    for attempt, one in enumerate((spec, without, spec)):
        path = tmp_path / f"{attempt}.part"
        write(path, one)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("preset", "options", "is_left_out"),
    [
        ("superfast", {}, False),
        ("veryfast", {}, True),
        (None, {}, True),
        ("superfast", {"x264-params": "mbtree=1"}, True),
        ("superfast", {"mbtree": "1"}, True),
    ],
)
def test_avx512_is_left_out_where_trees_are_computed_or_might_be(
    monkeypatch: pytest.MonkeyPatch, preset: str | None, options: dict[str, str], is_left_out: bool
) -> None:
    monkeypatch.setattr("pipeline.encode.options.cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    params = build_options(make_spec("libx264", preset=preset, options=options)).get("x264-params", "")
    assert ("asm=" in params) == is_left_out

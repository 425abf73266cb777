"""Runs rows of the media table and says in what a result is not what it must be."""

from __future__ import annotations

from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from helpers.media_dump import Facts, Times, describe_film, differences
from helpers.media_row import ADTS, Row
from helpers.runs import merged
from helpers.table_material import Material
from numpy.typing import NDArray

EXACT = Fraction(1, 1_000_000_000)
"""Tick of times that were worked out, not read."""
FAST: dict[str, Any] = {"encode": {"kind": "libx264", "preset": "ultrafast", "threads": 1}}


def sections_of(row: Row) -> dict[str, Any]:
    """What the config says for a row: fast encoding, on one thread."""
    sections = merged(FAST, row.sections)
    if sections["encode"]["kind"] not in {"libx264", "libx265"}:
        del sections["encode"]["preset"]
    return sections


def make_source(row: Row, material: Material, folder: Path) -> Path:
    """The row's film."""
    path = folder / row.file
    row.make(material, path)
    return path


def promised(row: Row, source: Path, *, scale: int) -> Facts:
    """What must be said of the result: what is said of the source, with its picture larger and its guesses spoken out.

    A film of this size whose matrix and range are not given is BT.601 and limited: that is how players show it.
    """
    facts = describe_film(source)
    if row.times is not None:
        facts["picture times"] = Times(row.times, EXACT)
    facts["height"], facts["width"] = scale * facts["height"], scale * facts["width"]
    facts["matrix"] = 6 if facts["matrix"] == 2 else facts["matrix"]
    facts["range"] = facts["range"] or 1
    return facts


def broken_promises(row: Row, source: Path, result: Path, *, scale: int) -> list[str]:
    """Every difference between a result and its source that the row does not give a reason for, in words."""
    wanted, found = promised(row, source, scale=scale), describe_film(result)
    broken = []
    for name, (before, after) in differences(wanted, found).items():
        change = next((change for change in row.changes if fnmatchcase(name, change.what)), None)
        if change is None or (change.becomes is not None and change.becomes != after):
            broken.append(f"{name}: {before} became {after}")
    broken += _compare_recoded_sound(row, source, result)
    return broken


def _compare_recoded_sound(row: Row, source: Path, result: Path) -> list[str]:
    """Where packets may differ: behind ADTS headers lies the result's packet; in another form are the same samples."""
    if not any(change.what == "audio * packets" for change in row.changes):
        return []
    if ADTS not in row.changes:
        same = len(_samples(source)) and np.array_equal(_samples(source), _samples(result))
        return [] if same else ["the sound has other samples"]
    before, after = _sounds(source), _sounds(result)
    if [len(packets) for packets in before] != [len(packets) for packets in after]:
        return [f"sound packets: {[len(packets) for packets in before]} became {[len(packets) for packets in after]}"]
    pairs = [pair for old, new in zip(before, after, strict=True) for pair in zip(old, new, strict=True)]
    return [] if all(old.endswith(new) for old, new in pairs) else ["sound packets hold something else"]


def _samples(path: Path) -> NDArray[np.int64]:
    """Samples of the first sound track as they would be with 32 bits."""
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray().ravel() for frame in container.decode(container.streams.audio[0])]
    return np.concatenate([block.astype(np.int64) << 32 - 8 * block.itemsize for block in blocks])


def _sounds(path: Path) -> list[list[bytes]]:
    found: dict[int, list[bytes]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux(list(container.streams.audio)):
            if packet.size:
                found.setdefault(packet.stream.index, []).append(bytes(packet))
    return [found[index] for index in sorted(found)]

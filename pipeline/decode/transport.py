"""Where an MPEG transport stream lacks packets: by its grid, its error flags and its counters."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

PACKET_BYTES = 188
_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""(bytes from packet to packet, where the packet begins): plain; with Blu-ray's time stamps; with parity behind."""
_SYNC = 0x47
_TRIED_PACKETS, _FEWEST_PACKETS = 16, 3
"""Packets by which the layout is found: most of them must begin as packets do, for the beginning may be damaged too."""
_NULL_PID = 0x1FFF
_CHUNK_PACKETS = 1 << 16
"""Packets looked at together: 12 MiB, for the arrays of one look."""


def transport_layout(file: BinaryIO) -> tuple[int, int] | None:
    """How the packets of a transport stream lie.

    Args:
        file: At any place; left at another.

    Returns:
        Bytes from packet to packet, and those before the first one; None if it is no transport stream.
    """
    file.seek(0)
    head = file.read(_TRIED_PACKETS * PACKET_BYTES)
    for step, start in _LAYOUTS:
        firsts = head[start::step]
        if len(firsts) >= _FEWEST_PACKETS and 2 * firsts.count(_SYNC) > len(firsts):
            return step, start
    return None


def broken_transport_offset(path: Path) -> int | None:
    """Where packets of a transport stream are damaged or missing.

    Reads the whole file: for files under suspicion. Source: ISO/IEC 13818-1 2.4.3.2 and 2.4.3.3 (sync byte, error
    indicator, continuity counter) and 2.4.3.5 (discontinuity indicator).

    Returns:
        Bytes from the start of the file to the first packet that does not follow on the one before it; None if all do,
        or if it is no transport stream at its beginning.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        layout = transport_layout(file)
        if layout is None:
            return None
        step, start = layout
        counters: dict[int, int] = {}
        file.seek(0)
        offset = 0
        while chunk := file.read(step * _CHUNK_PACKETS):
            rows = np.frombuffer(chunk, dtype=np.uint8, count=len(chunk) // step * step).reshape(-1, step)[:, start:]
            row = _first_break(rows, counters)
            if row is not None:
                return offset + row * step
            offset += len(chunk)
    return None


def _first_break(packets: NDArray[np.uint8], counters: dict[int, int]) -> int | None:
    """Row of the first packet that is out of order.

    Args:
        packets: (n, >= 188) uint8.
        counters: The latest counter of each kind of packet, brought up to date.
    """
    is_bad = (packets[:, 0] != _SYNC) | (packets[:, 1] & 0x80 != 0)
    kinds = (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]
    has_payload = packets[:, 3] & 0x10 != 0
    may_jump = (packets[:, 3] & 0x20 != 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 != 0)
    numbers = packets[:, 3].astype(np.int64) & 0x0F
    for kind in np.unique(kinds[has_payload & ~is_bad]):
        if kind == _NULL_PID:
            continue
        rows = np.flatnonzero((kinds == kind) & has_payload & ~is_bad)
        before = np.concatenate(([counters.get(int(kind), (numbers[rows[0]] - 1) % 16)], numbers[rows[:-1]]))
        # a packet may be sent twice
        is_bad[rows] |= ~np.isin((numbers[rows] - before) % 16, (0, 1)) & ~may_jump[rows]
        counters[int(kind)] = int(numbers[rows[-1]])
    found = np.flatnonzero(is_bad)
    return int(found[0]) if len(found) else None

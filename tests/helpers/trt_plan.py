"""What the TensorRT double reads and needs: an engine as bytes, and somewhere to run. See ``helpers.trt_double``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAGIC = b"doubleTRT"
HEADER_BYTES = 64


class TrtMisuse(AssertionError):
    """The code under test did what is undefined behaviour with the real library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an engine of the double consists of, beside the graph."""

    library: str
    version: str
    compute_capabilities: tuple[str, ...]
    input: str
    output: str
    dtype: str
    scale: int
    build: int = 0
    """Two builds of the same network are never the same bytes."""
    profile: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    def pack(self, onnx: bytes) -> bytes:
        """The bytes of the engine: magic, length of everything, description, graph."""
        text = json.dumps(asdict(self)).encode()
        size = HEADER_BYTES + 4 + len(text) + len(onnx)
        header = MAGIC + f" {size} {self.library} {self.version} {','.join(self.compute_capabilities)}".encode()
        return header.ljust(HEADER_BYTES, b"\0") + len(text).to_bytes(4, "little") + text + onnx

    @classmethod
    def unpack(cls, content: bytes) -> tuple[Plan, bytes]:
        """The reverse of ``pack``."""
        count = int.from_bytes(content[HEADER_BYTES : HEADER_BYTES + 4], "little")
        stop = HEADER_BYTES + 4 + count
        fields = json.loads(content[HEADER_BYTES + 4 : stop])
        fields["profile"] = tuple(tuple(shape) for shape in fields["profile"])
        fields["compute_capabilities"] = tuple(fields["compute_capabilities"])
        return cls(**fields), content[stop:]


class Launcher(Protocol):
    """Where kernels run: what the double needs of a GPU."""

    compute_capability: tuple[int, int]

    def enqueue(
        self,
        handle: int,
        run: Callable[[], None],
        *,
        name: str,
        reads: tuple[tuple[int, int], ...],
        writes: tuple[tuple[int, int], ...],
    ) -> None:
        """Put a kernel into a stream; ``reads`` and ``writes`` are (address, bytes)."""
        ...

    def bytes_at(self, pointer: int, count: int) -> NDArray[np.uint8]:
        """Memory, while a kernel runs."""
        ...

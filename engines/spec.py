"""What a model is and what a compiled engine of it accepts. Data only: no weights, no library, no numbers to tune."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Architecture = Literal["srvgg", "rrdb", "nearest"]
Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One entry of the model table: an architecture, its sizes and where its weights come from."""

    name: str
    """Name used in configs, as in the official releases."""
    architecture: Architecture
    """``srvgg`` (SRVGGNetCompact), ``rrdb`` (RRDBNet) or ``nearest`` (no weights; for tests)."""
    scale: int
    """Enlargement of the network itself, per side."""
    features: int = 64
    """Channels of the trunk."""
    blocks: int = 0
    """SRVGG: convolutions between the first and the last. RRDB: residual-in-residual dense blocks."""
    growth: int = 0
    """RRDB: channels that each convolution of a dense block adds."""
    weights_file: str = ""
    """File name inside the weights package; empty for models without weights."""
    weights_sha256: str = ""
    """SHA-256 of that file, lower-case hex."""
    receptive_px: int = 0
    """Input pixels on each side that one output pixel can depend on (sum of the convolutions' radii)."""
    overlap_px: int = 0
    """Input pixels that neighbouring tiles should share at least, so that no seam is visible; even.
    Measured: ``tools/bench_seams.py``, figures in ``engines/README.md``."""
    output_scales: tuple[int, ...] = ()
    """Enlargements that a runner can be opened for, ascending; the last one is ``scale``."""
    activation_bytes_per_px: int = 0
    """Peak memory of the activations per input pixel in fp32, bytes; an upper bound used by ``plan``."""
    flop_per_px: int = 0
    """Arithmetic per input pixel: 2 x multiply-adds of all convolutions."""
    summary: str = ""
    """One line for lists: what the model is good for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """What an opened runner accepts and gives. Tiles are planar RGB, C-contiguous, nominally in [0, 1]."""

    model: ModelSpec
    """The network that runs."""
    backend: str
    """Name in the backend table."""
    device: str
    """Where it runs, in words for the start line: ``CPU``, ``NVIDIA H200`` ..."""
    precision: Precision
    """Arithmetic of the network; the input and output arrays have ``io_dtype`` whatever this is."""
    batch: int
    """Tiles per call."""
    height: int
    """Tile height, input pixels."""
    width: int
    """Tile width, input pixels."""
    scale: int
    """Enlargement from input to output array. Smaller than ``model.scale`` where a downscale is folded into the
    network's last convolution."""
    io_dtype: Literal["float32", "float16"] = "float32"
    """dtype of both arrays."""
    slots: int = 1
    """Inferences that may be in flight at once; the caller keeps that many buffers alive."""
    notes: tuple[str, ...] = field(default=())
    """Choices made while opening that a user should know, one sentence each."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(N, 3, H, W) of the input array."""
        return (self.batch, 3, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, 3, s*H, s*W) of the output array."""
        return (self.batch, 3, self.height * self.scale, self.width * self.scale)

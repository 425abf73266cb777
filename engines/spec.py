"""What a model is and what a compiled engine of it accepts. Data only: no weights, no library, no numbers to tune."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Architecture = Literal["srvgg", "rrdb", "nearest", "onnx", "spandrel"]
Precision = Literal["fp32", "fp16", "bf16", "fp8"]
FloatType = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One published file that holds a model's weights."""

    name: str
    """File name as published."""
    sha256: str
    """SHA-256 of the whole file, lower-case hex."""
    url: str = ""
    """Official address; empty for a file of the installed weights package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One entry of the model table: an architecture, its sizes and where its weights come from."""

    name: str
    """Name used in configs, as in the official releases."""
    architecture: Architecture
    """``srvgg`` (SRVGGNetCompact), ``rrdb`` (RRDBNet), ``nearest`` (no weights; for tests), ``onnx`` (the user's ONNX
    file) or ``spandrel`` (another network that spandrel loads from the user's file)."""
    scale: int
    """Enlargement of the network itself, per side."""
    features: int = 64
    """Channels of the trunk."""
    blocks: int = 0
    """SRVGG: convolutions between the first and the last. RRDB: residual-in-residual dense blocks."""
    growth: int = 0
    """RRDB: channels that each convolution of a dense block adds."""
    unshuffle: int = 1
    """RRDB: input pixels per side that are folded into channels before the first convolution (x2plus: 2)."""
    size_multiple: int = 1
    """What the sides of a tile must be divisible by, input pixels."""
    min_px: int = 1
    """Shortest side of a tile that the network takes, input pixels."""
    fixed_batch: int | None = None
    """The only number of tiles per call that the network takes; None if it takes any."""
    fixed_height: int | None = None
    """The only height of a tile that it takes, input pixels; None if any will do that fits the two above."""
    fixed_width: int | None = None
    """The same for the width."""
    files: tuple[WeightFile, ...] = ()
    """Published files that hold the weights, any one of which will do, in the order in which they are looked for.
    Empty for models without weights and for the user's own files."""
    denoise_files: tuple[WeightFile, ...] = ()
    """The same for the sibling with which ``denoise`` interpolates; empty if the model has none."""
    denoise: float | None = None
    """Share of this model's weights in the mix with its sibling's, [0, 1]: 1 denoises fully, 0 keeps the noise.
    None for models without a sibling."""
    path: Path | None = None
    """The user's own file; None for models of the table."""
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
    io_dtype: FloatType = "float32"
    """dtype of both arrays."""
    takes_device_arrays: bool = False
    """Whether ``infer`` also takes arrays in the memory of the GPU it runs on (objects with
    ``__cuda_array_interface__``), ordered by the caller's stream. Host arrays are taken by every runner."""
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

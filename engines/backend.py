"""What a backend is to the rest of the package: it says whether it can run a model here, and opens runners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from engines.runner import Runner
from engines.spec import ModelSpec, Precision, RunnerSpec

PrecisionRequest = Literal["auto", "fp32", "fp16", "bf16"]
"""``auto`` leaves the choice to the backend: the fastest precision that the device has natively."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendChoice:
    """Which backend will run a model, and why."""

    backend: str
    """Name in the backend table."""
    precision: Precision
    """Arithmetic of the network."""
    device: str
    """Where it runs, in words."""
    reason: str
    """One sentence for the start line: why this backend and this precision."""
    slots: int = 1
    """Inferences that a runner of it keeps in flight by default."""
    streams: int = 1
    """Of these, how many compute at once, each with activations of its own."""
    activation_share: float = 1.0
    """Memory of the activations as a share of ``ModelSpec.activation_bytes_per_px``, which is for fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerRequest:
    """What a runner is to be opened for; already checked and resolved."""

    model: ModelSpec
    precision: Precision
    batch: int
    """Tiles per call, >= 1."""
    height: int
    """Tile height in input pixels, >= 1."""
    width: int
    """Tile width in input pixels, >= 1."""
    output_scale: int
    """Enlargement; the model's own or one that folds into it."""
    device: str
    """From the backend's choice."""
    threads: int = 0
    """CPU threads; 0 lets the backend use all cores."""
    slots: int = 1
    """Inferences in flight, >= 1."""
    weights_source: Path | None = None
    """Weight file or folder; None is the installed package."""

    def runner_spec(self, backend: str, *, slots: int = 1) -> RunnerSpec:
        """What a runner opened for this request accepts and gives.

        Args:
            backend: Name in the backend table.
            slots: Inferences that it takes at once.
        """
        return RunnerSpec(
            model=self.model,
            backend=backend,
            device=self.device,
            precision=self.precision,
            batch=self.batch,
            height=self.height,
            width=self.width,
            scale=self.output_scale,
            slots=slots,
        )


class Backend(Protocol):
    """One way to execute networks. Stateless; constructed without arguments; its constructor imports its library."""

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest) -> BackendChoice:
        """Say in which precision and where the model would run.

        Raises:
            BackendUnavailable: The library or the device is not there.
            UnsupportedModel: It cannot run this model.
            UnsupportedPrecision: It cannot compute in this precision here.
        """
        ...

    def open(self, request: RunnerRequest) -> Runner:
        """Load and compile the model for one shape.

        Raises:
            WeightsError: The weights are missing or damaged.
            UnsupportedShape: The shape or the enlargement is not possible.
            InferenceFailed: The library refused the model.
        """
        ...

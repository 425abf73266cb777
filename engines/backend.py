"""What a backend is to the rest of the package: it says whether it can run a model here, and opens runners."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from engines.build_options import BuildListener, BuildOptions
from engines.networks import GraphOptions, Network
from engines.runner import Runner
from engines.spec import FloatType, ModelSpec, Precision, RunnerSpec

PrecisionRequest = Literal["auto", "fp32", "fp16", "bf16", "fp8"]
"""``auto`` leaves the choice to the backend: the fastest precision that the device has natively."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A backend that would have been preferred, and why it was not taken."""

    backend: str
    """Name in the backend table."""
    device: str
    """Where it would have run: the device asked of it."""
    reason: str
    """One sentence: what is missing or failed."""
    hint: str = ""
    """What would make it usable, in one line; empty if nothing would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendChoice:
    """Which backend will run a model, and why."""

    backend: str
    """Name in the backend table."""
    precision: Precision
    """Arithmetic of the network."""
    device: str
    """Where it runs, in words: the processor's or the GPU's name."""
    device_id: str
    """The same for the backend: ``cpu``, ``cuda:0``, ``gpu.1`` or an execution provider's name; a resolved
    ``infer.device``."""
    reason: str
    """One sentence for the start line: why this backend and this precision."""
    slots: int = 1
    """Inferences that a runner of it keeps in flight by default."""
    streams: int = 1
    """Of these, how many compute at once, each with activations of its own."""
    activation_share: float = 1.0
    """Memory of the activations as a share of ``ModelSpec.activation_bytes_per_px``, which is for fp32. 0 where they
    lie in the GPU's own memory."""
    device_memory_bytes: int | None = None
    """Free memory of the GPU that it runs on, when it was chosen; None on the processor and where nobody can say."""
    compiles_engines: bool = False
    """Whether opening a runner compiles an engine ahead of time as ``BuildOptions`` say, which can take minutes."""
    passed_over: tuple[PassedOver, ...] = ()
    """With ``auto``: the better ones that cannot work here, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerRequest:
    """What a runner is to be opened for; already checked and resolved."""

    network: Network
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
    """From the backend's choice, in words."""
    device_id: str
    """From the backend's choice."""
    threads: int = 0
    """CPU threads; 0 lets the backend use all cores."""
    slots: int = 1
    """Inferences in flight, >= 1."""
    io_dtype: FloatType = "float32"
    """Type of the arrays that the runner takes and gives."""
    build: BuildOptions = field(default_factory=BuildOptions)
    """For backends that compile engines ahead of time."""
    listener: BuildListener | None = None
    """Hears of a long build."""

    @property
    def model(self) -> ModelSpec:
        """The network's model."""
        return self.network.spec

    def graph_options(self, precision: Precision) -> GraphOptions:
        """The network at this request's sizes, in a precision of the backend's choice."""
        return GraphOptions(
            precision=precision,
            io_dtype=self.io_dtype,
            batch=self.batch,
            height=self.height,
            width=self.width,
            output_scale=self.output_scale,
        )

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
            io_dtype=self.io_dtype,
            slots=slots,
        )


class Backend(Protocol):
    """One way to execute networks. Stateless; constructed without arguments; its constructor imports its library."""

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest, device: str = "auto") -> BackendChoice:
        """Say in which precision and where the model would run.

        Args:
            model: The network.
            precision: The arithmetic asked for.
            device: ``auto``, or a device in the backend's words, in any case: ``cpu``, ``gpu``, ``cuda``, ``cuda:1``,
                an execution provider of onnxruntime.

        Raises:
            BackendUnavailable: The library or the device is not there, or the backend knows no such device.
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

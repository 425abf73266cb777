"""How an engine is to be compiled: what a user can choose, checked. Knows no compiler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from engines.errors import EngineError

HardwareCompatibility = Literal["none", "ampere_plus", "same_compute_capability"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Options of backends that compile engines ahead of time; the others ignore them."""

    dynamic: bool = False
    """Compile for a range of tile sizes instead of the one size asked for."""
    min_px: int = 16
    """Dynamic: shortest side, input pixels."""
    opt_px: int = 512
    """Dynamic: side that the engine is tuned for, input pixels."""
    max_px: int = 640
    """Dynamic: longest side, input pixels. The engine's memory grows with it."""
    workspace_bytes: int | None = None
    """Most scratch memory that one layer may take while it is tuned; None leaves it to the compiler."""
    optimization_level: int | None = None
    """0 (fast build) to 5 (exhaustive); None is the compiler's default, 3."""
    max_aux_streams: int | None = None
    """Streams that the engine may use beside the caller's; None leaves it to the compiler."""
    version_compatible: bool = False
    """TensorRT: an engine that newer versions load too; slower."""
    hardware_compatibility: HardwareCompatibility = "none"
    """TensorRT: an engine that other GPUs load too; slower."""
    compute_capabilities: tuple[str, ...] = ()
    """TensorRT for RTX: GPUs to compile for, such as ``8.9``; empty is the GPU here."""
    timing_cache: bool = True
    """TensorRT: reuse the measurements of earlier builds on this GPU."""
    cuda_graph: bool = True
    """Replay the whole engine as one CUDA graph where its addresses stay the same."""
    cache_dir: Path | None = None
    """Folder of compiled engines; None is the user's cache folder."""

    def check(self) -> None:
        """Check the options against each other.

        Raises:
            EngineError: A value is out of range, or min, opt and max are not in order; both are named.
        """
        if not 1 <= self.min_px <= self.opt_px <= self.max_px:
            raise EngineError(
                f"a profile needs 1 <= min <= opt <= max, not min {self.min_px}, opt {self.opt_px}, max {self.max_px}",
                hint="give the three sides in ascending order",
            )
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise EngineError(f"optimization_level must be 0 to 5, not {self.optimization_level}")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise EngineError(f"workspace must be at least 1 byte, not {self.workspace_bytes}")
        if self.max_aux_streams is not None and self.max_aux_streams < 0:
            raise EngineError(f"max_aux_streams must be 0 or more, not {self.max_aux_streams}")


class BuildListener(Protocol):
    """Hears how a build goes on; called from threads of the compiler."""

    def begin(self, text: str) -> None:
        """A build begins; ``text`` names what is built and for what, in words."""
        ...

    def progress(self, *, phase: str, share: float) -> bool:
        """The build got on.

        Args:
            phase: What the compiler is doing, in its own words.
            share: Estimated part that is done, [0, 1], never decreasing.

        Returns:
            False to cancel.
        """
        ...

    def end(self) -> None:
        """The build ended, well or not. Called exactly once for each ``begin``."""
        ...

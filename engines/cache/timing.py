"""Whose measurements a timing cache holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from engines.cache.key import DIGEST_CHARACTERS, Compiler, GpuIdentity, safe_text


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingScope:
    """Where the measurements of a timing cache are valid.

    Source: NVIDIA TensorRT documentation, "Timing Cache": a cache holds for one device, CUDA version, TensorRT version
    and the builder options that change which kernels exist; the workspace limit decides which of them are tried.
    """

    compiler: Compiler
    """Which library measured."""
    compiler_version: str
    """Its full version."""
    gpu: GpuIdentity
    """Where it measured."""
    workspace_bytes: int | None = None
    """Limit of scratch memory during the build; None is the compiler's own."""

    @property
    def digest(self) -> str:
        """SHA-256 over all that matters, lower-case hex: of the driver only the release branch does."""
        parts = (
            self.compiler,
            self.compiler_version,
            self.gpu.name,
            self.gpu.compute_capability,
            self.gpu.driver_version.split(".")[0],
            self.workspace_bytes,
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """``<compiler>-<version>-<gpu>-<workspace>-<digest[:12]>.timing`` in safe characters."""
        workspace = "default" if self.workspace_bytes is None else f"{self.workspace_bytes}B"
        words = (self.compiler, self.compiler_version, self.gpu.name, f"sm{self.gpu.compute_capability}", workspace)
        return "-".join((*(safe_text(word) for word in words), self.digest[:DIGEST_CHARACTERS])) + ".timing"

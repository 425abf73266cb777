"""One film of a run, as it was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One film to upscale, with the config that holds for it."""

    source: Path | None
    """The film, absolute; None for a synthetic one."""
    config: Config
    """The run's, with the overrides that match this film; ``output.dir`` is the folder of its own result."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.source.name if self.source is not None else "synthetic film"

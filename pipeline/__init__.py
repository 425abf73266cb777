"""Video upscaling as a graph of threads joined by bounded channels; see README.md beside this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.config.digest import config_digest
from pipeline.config.load import load_config, make_config, resolved_yaml
from pipeline.errors import (
    ConfigError,
    DamagedMedia,
    GraphFailed,
    MediaError,
    OutputError,
    PipelineError,
    SetupError,
    StallError,
    UnsupportedMedia,
    VerificationFailed,
)

if TYPE_CHECKING:
    from pipeline.results import BatchResult
    from pipeline.show.progress import Display

__all__ = [
    "__version__",
    "Config",
    "config_digest",
    "ConfigError",
    "DamagedMedia",
    "GraphFailed",
    "load_config",
    "make_config",
    "MediaError",
    "OutputError",
    "PipelineError",
    "resolved_yaml",
    "run",
    "SetupError",
    "StallError",
    "UnsupportedMedia",
    "VerificationFailed",
]

__version__ = "0.1.0"


def run(config: Config, *, display: Display | None = None) -> BatchResult:
    """Upscale all films of a config.

    Args:
        config: What to do; from `load_config` or `make_config`.
        display: Where progress is shown, not yet entered; None: as ``config.run.progress`` says, on standard error.

    Returns:
        What became of each film. A film that failed is in the result; it raises nothing.

    Raises:
        PipelineError: Nothing could be started at all.
        engines.EngineError: The network cannot run here.
    """
    from pipeline.batch import run_batch
    from pipeline.show.progress import open_display

    if display is None:
        display = open_display(config.run.progress, report_every_s=config.run.report_every_s)
    with display:
        return run_batch(config, display=display)

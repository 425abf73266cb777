"""Video upscaling as a graph of threads joined by bounded channels; see README.md beside this file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.batch import RunOptions
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

_HOMES = {
    "Config": "pipeline.config",
    "config_digest": "pipeline.config.digest",
    "ConfigError": "pipeline.errors",
    "DamagedMedia": "pipeline.errors",
    "GraphFailed": "pipeline.errors",
    "load_config": "pipeline.config.load",
    "make_config": "pipeline.config.load",
    "MediaError": "pipeline.errors",
    "OutputError": "pipeline.errors",
    "PipelineError": "pipeline.errors",
    "resolved_yaml": "pipeline.config.load",
    "SetupError": "pipeline.errors",
    "StallError": "pipeline.errors",
    "UnsupportedMedia": "pipeline.errors",
    "VerificationFailed": "pipeline.errors",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: ``pipeline status`` needs little of this package."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def run(config: Config, *, display: Display | None = None, options: RunOptions | None = None) -> BatchResult:
    """Upscale all films of a config.

    Args:
        config: What to do; from `load_config` or `make_config`.
        options: What a command line may say beside it.
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
        return run_batch(config, display=display, options=options)

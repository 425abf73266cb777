"""The config of a run: its models, how it is read, its schema and its digest."""

from pipeline.config.infer import EngineSection, InferSection
from pipeline.config.models import (
    Config,
    DecodeSection,
    EncodeSection,
    InputSection,
    OutputSection,
    QueueSection,
    RunSection,
    ScaleSection,
    SyntheticSection,
    TileSection,
)

__all__ = [
    "Config",
    "DecodeSection",
    "EncodeSection",
    "EngineSection",
    "InferSection",
    "InputSection",
    "OutputSection",
    "QueueSection",
    "RunSection",
    "ScaleSection",
    "SyntheticSection",
    "TileSection",
]

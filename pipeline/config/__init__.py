"""The config of a run: its models, how it is read, its schema and its digest."""

from pipeline.config.models import (
    Config,
    DecodeSection,
    EncodeSection,
    InferSection,
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
    "InferSection",
    "InputSection",
    "OutputSection",
    "QueueSection",
    "RunSection",
    "ScaleSection",
    "SyntheticSection",
    "TileSection",
]

"""The config of a run: its models, how it is read, its schema and its digest."""

from pipeline.config.infer import EngineSection, InferSection
from pipeline.config.inputs import InputSection, OverrideSection
from pipeline.config.models import (
    Config,
    DecodeSection,
    EncodeSection,
    ScaleSection,
    SyntheticSection,
    TileSection,
)
from pipeline.config.outputs import OutputSection
from pipeline.config.run import QueueSection, RunSection

__all__ = [
    "Config",
    "DecodeSection",
    "EncodeSection",
    "EngineSection",
    "InferSection",
    "InputSection",
    "OutputSection",
    "OverrideSection",
    "QueueSection",
    "RunSection",
    "ScaleSection",
    "SyntheticSection",
    "TileSection",
]

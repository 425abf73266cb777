"""What a tool puts around a run to measure it: a record of the threads, another GPU, decoder or stages.

A job has none of it. Tools hand their own to ``upscale_film``, so that what they measure is the real run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pipeline.decode.base import Decoder
from pipeline.graph.stage import Stage
from pipeline.graph.tracing import Tracer

if TYPE_CHECKING:
    from pipeline.wiring import GpuOpener

DecoderOpener: TypeAlias = Callable[[], AbstractContextManager[Decoder]]
"""Opens the decoder of a lane, in its thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """Whatever is None changes nothing."""

    tracer: Tracer | None = None
    """Gets a record of every graph of the run."""
    open_gpu: GpuOpener | None = None
    """Opens the GPU of a run whose frames are on one."""
    wrap_decoder: Callable[[DecoderOpener], DecoderOpener] | None = None
    """Gives what opens a lane's decoder, from what would open it."""
    wrap_stages: Callable[[Sequence[Stage], int], Sequence[Stage]] | None = None
    """Gives the stages of a lane, from its own and its number. They must have the same names, and pass on what the own
    source and sink are to know of the film."""

    def decoder(self, opener: DecoderOpener) -> DecoderOpener:
        """What opens a lane's decoder."""
        return opener if self.wrap_decoder is None else self.wrap_decoder(opener)

    def stages(self, lanes: Sequence[Sequence[Stage]]) -> list[Sequence[Stage]]:
        """The stages of all lanes."""
        if self.wrap_stages is None:
            return list(lanes)
        return [self.wrap_stages(stages, lane) for lane, stages in enumerate(lanes)]

"""Says before anything is opened whether the engine knows all of a network."""

from __future__ import annotations

from functools import cache

from engines.cudnn.graph import read_graph
from engines.cudnn.plan import plan_network
from engines.networks import GraphOptions, load_network
from engines.spec import ModelSpec

KNOWN = frozenset({"srvgg", "rrdb"})
"""Architectures whose graphs this package writes itself; all of them are known."""

_SIDE_PX = 32


@cache  # the same file gives the same answer, and a process asks several times
def check_supported(model: ModelSpec) -> None:
    """Plan a network at a small size.

    Raises:
        UnsupportedModel: It has an operator that the engine does not know; it is named.
        EngineError: It cannot be read or written as ONNX.
    """
    if model.architecture in KNOWN:
        return
    height, width = trial_size(model)
    graph = load_network(model).graph(
        GraphOptions(precision="fp16", batch=model.fixed_batch or 1, height=height, width=width)
    )
    plan_network(read_graph(graph))


def trial_size(model: ModelSpec) -> tuple[int, int]:
    """Height and width of a small tile that the network takes."""
    side = max(_SIDE_PX, model.min_px)
    side += -side % model.size_multiple
    return model.fixed_height or side, model.fixed_width or side

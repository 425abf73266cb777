"""Which layers a convolution takes along, and what ends a network."""

from __future__ import annotations

from dataclasses import dataclass

from engines.cudnn.layers import (
    ActivationLayer,
    AddLayer,
    ConvLayer,
    EnlargeLayer,
    ImageLayer,
    LayerGraph,
    ScaleLayer,
    ShuffleLayer,
    UnshuffleLayer,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A convolution and the layers that it takes along."""

    conv: int
    """Layer of the convolution."""
    members: tuple[int, ...]
    """Layers that it takes along, in order."""

    @property
    def end(self) -> int:
        """The layer whose value is stored."""
        return self.members[-1] if self.members else self.conv


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What ends the network, all of it optional: a pixel shuffle, then the addition of the enlarged input."""

    source: int
    """Layer that it begins with."""
    factor: int
    """Of the shuffle; 1 without."""
    has_base: bool
    """Whether the input is added."""
    members: frozenset[int]
    """Layers that it stands for."""


def find_finish(graph: LayerGraph) -> Finish:
    """The shuffle, and the addition of the enlarged input, that end the network."""
    layers, output = graph.layers, graph.output
    members: set[int] = set()
    source, has_base = output, False
    if isinstance(layers[output], AddLayer):
        for base, other in (layers[output].sources, layers[output].sources[::-1]):
            scale = _image_scale(graph, base)
            if scale is not None and scale == _shuffle_of(graph, other):
                members |= {output, base} - {0}
                source, has_base = other, True
    factor = _shuffle_of(graph, source)
    if factor > 1:
        members.add(source)
        source = layers[source].sources[0]
    return Finish(source=source, factor=factor, has_base=has_base, members=frozenset(members))


def _image_scale(graph: LayerGraph, index: int) -> int | None:
    """How much larger than the input a picture is that repeats its pixels; None if it is another picture."""
    layer = graph.layers[index]
    if isinstance(layer, ImageLayer):
        return 1
    if isinstance(layer, EnlargeLayer) and layer.sources == (0,) and len(graph.readers()[index]) == 1:
        return layer.factor
    return None


def _shuffle_of(graph: LayerGraph, index: int) -> int:
    layer = graph.layers[index]
    return layer.factor if isinstance(layer, ShuffleLayer) else 1


def find_chains(graph: LayerGraph, *, finish: Finish) -> dict[int, Chain]:
    """What each convolution takes along, by the layer whose value is stored.

    Later ones choose first: what they are added to is there already.
    """
    layers, readers = graph.layers, graph.readers()
    claimed: set[int] = set()
    chains = {}
    for conv in range(len(layers) - 1, -1, -1):
        if not isinstance(layers[conv], ConvLayer):
            continue
        members: list[int] = []
        value = conv
        while len(readers[value]) == 1:
            following = readers[value][0]
            if following in claimed | finish.members or not _can_take(graph, following, value=value):
                break
            members.append(following)
            value = following
        claimed.update(members)
        chain = Chain(conv=conv, members=tuple(members))
        chains[chain.end] = chain
    return chains


def _can_take(graph: LayerGraph, index: int, *, value: int) -> bool:
    layer = graph.layers[index]
    if isinstance(layer, AddLayer):
        other = layer.sources[1] if layer.sources[0] == value else layer.sources[0]
        return not isinstance(graph.layers[other], ImageLayer | UnshuffleLayer | ShuffleLayer)
    return isinstance(layer, ActivationLayer | ScaleLayer)

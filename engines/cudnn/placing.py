"""Which buffer, and which channels of it, each stored value has."""

from __future__ import annotations

from collections.abc import Iterator

from engines.cudnn.layers import ConcatLayer, LayerGraph
from engines.cudnn.steps import CHANNEL_MULTIPLE, Buffer, Slice
from engines.errors import UnsupportedModel


class Placing:
    """Gives values their places; what is concatenated lies side by side.

    Args:
        graph: The network.
        stored: Layers whose values are written to memory.
        doubled: Of these, such as have two numbers for each value, side by side in two runs of channels.

    Raises:
        UnsupportedModel: A value would have to lie in two places, or beside others with channels that do not fit.
    """

    def __init__(self, graph: LayerGraph, *, stored: frozenset[int], doubled: frozenset[int] = frozenset()) -> None:
        self._graph = graph
        self._stored = stored
        self._doubled = doubled
        self._buffers: list[Buffer] = []
        self._places: dict[int, Slice] = {}
        self._wide_places: dict[int, Slice] = {}
        joins = [index for index, layer in enumerate(graph.layers) if isinstance(layer, ConcatLayer)]
        for index in sorted(joins, key=lambda one: -graph.layers[one].channels):  # the widest holds the others
            self._place_joined(index)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """All buffers that were given out."""
        return tuple(self._buffers)

    def slice(self, index: int) -> Slice:
        """Where a value is in float16; a place is made for one that has none yet."""
        if index not in self._places:
            if index not in self._stored:
                layer = self._graph.layers[index]
                raise UnsupportedModel(
                    f"backend cudnn cannot read the result of {layer.name}, which it does not store",
                    hint="choose another backend for this model, such as torch or onnxruntime",
                )
            self._places[index] = self._new(index)
        return self._places[index]

    def wide_slice(self, index: int) -> Slice:
        """Where a value is in float32."""
        if index not in self._wide_places:
            self._wide_places[index] = self._new(index, is_wide=True)
        return self._wide_places[index]

    def _new(self, index: int, *, is_wide: bool = False) -> Slice:
        layer = self._graph.layers[index]
        numbers = layer.channels * (2 if index in self._doubled else 1)
        channels = -(-numbers // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE
        self._buffers.append(
            Buffer(
                name=layer.name,
                channels=channels,
                height=layer.height,
                width=layer.width,
                dtype="float32" if is_wide else "float16",
            )
        )
        return Slice(buffer=len(self._buffers) - 1, first=0, channels=channels)

    def _place_joined(self, index: int) -> None:
        parts = list(self._parts(index))
        for part in parts:
            if part not in self._stored or self._graph.layers[part].channels % CHANNEL_MULTIPLE:
                raise self._error(index, part)
        if parts[0] not in self._places:
            whole = self._new(index)
            first = 0
            for part in parts:
                if part in self._places:
                    raise self._error(index, part)
                channels = self._graph.layers[part].channels
                self._places[part] = Slice(buffer=whole.buffer, first=first, channels=channels)
                first += channels
            self._places[index] = whole
            return
        start = self._places[parts[0]]
        first = start.first
        for part in parts:
            place = self._places.get(part)
            if place is None or (place.buffer, place.first) != (start.buffer, first):
                raise self._error(index, part)
            first += place.channels
        self._places[index] = Slice(buffer=start.buffer, first=start.first, channels=self._graph.layers[index].channels)

    def _parts(self, index: int) -> Iterator[int]:
        """What a concatenation joins, concatenations within it resolved."""
        for source in self._graph.layers[index].sources:
            if isinstance(self._graph.layers[source], ConcatLayer):
                yield from self._parts(source)
            else:
                yield source

    def _error(self, index: int, part: int) -> UnsupportedModel:
        joined, one = self._graph.layers[index], self._graph.layers[part]
        return UnsupportedModel(
            f"backend cudnn cannot run Concat {joined.name}: {one.name} ({one.channels} channels) cannot lie "
            "beside the others without a copy",
            hint="choose another backend for this model, such as torch or onnxruntime",
        )

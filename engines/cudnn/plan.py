"""Turns a network's layers into few steps.

A convolution takes along every activation, factor and addition that alone reads its result. A concatenation is never
run: what it joins is stored side by side, as slices of one buffer, where it is made. An enlargement is folded into the
convolutions that read it, or run, as `PlanOptions` say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engines.cudnn.chains import Chain, find_chains, find_finish
from engines.cudnn.layers import (
    ActivationLayer,
    AddLayer,
    ConcatLayer,
    ConvLayer,
    EnlargeLayer,
    ImageLayer,
    Layer,
    LayerGraph,
    ScaleLayer,
    UnshuffleLayer,
)
from engines.cudnn.phases import split_phases
from engines.cudnn.placing import Placing
from engines.cudnn.steps import (
    CHANNEL_MULTIPLE,
    Activate,
    AddStored,
    Array,
    ConvStep,
    EnlargeStep,
    Epilogue,
    FinishStep,
    Multiply,
    PackStep,
    Plan,
    Slice,
    Step,
)
from engines.errors import UnsupportedModel

_HINT = "choose another backend for this model, such as torch or onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Choices that change speed, or the last bits, but not what is computed."""

    fold_enlargements: bool = False
    """Convolve small pictures once per phase instead of their enlargement. cuDNN 9.19 writes the phases to wrong places
    (see NOTES.md), so that it needs kernels of another maker."""
    wide_sums: bool = False
    """Keep sums in float32 that the graph keeps in float32."""


def plan_network(graph: LayerGraph, *, options: PlanOptions | None = None) -> Plan:
    """Plan a network.

    Raises:
        UnsupportedModel: It has a layer where no step can take it along; the layer is named.
    """
    return _Planner(graph, options or PlanOptions()).plan()


class _Planner:
    def __init__(self, graph: LayerGraph, options: PlanOptions) -> None:
        self._graph = graph
        self._options = options
        self._readers = graph.readers()
        self._finish = find_finish(graph)
        self._chains = find_chains(graph, finish=self._finish)
        self._claimed = {member for chain in self._chains.values() for member in chain.members}
        self._folded = {index for index in range(len(graph.layers)) if self._is_folded(index)}
        self._packed = frozenset(
            index
            for index, layer in enumerate(graph.layers)
            if isinstance(layer, ImageLayer | UnshuffleLayer) and self._is_packed(index)
        )
        self._placing = Placing(graph, stored=self._stored(), doubled=self._packed)

    def plan(self) -> Plan:
        graph = self._graph
        steps: list[Step] = []
        for index, layer in enumerate(graph.layers):
            if index in self._chains:
                steps.extend(self._conv_steps(self._chains[index]))
            elif isinstance(layer, ConvLayer) or index in self._claimed | self._finish.members | self._folded:
                continue
            elif isinstance(layer, ImageLayer | UnshuffleLayer):
                steps.extend(self._pack_steps(index))
            elif isinstance(layer, EnlargeLayer):
                source = self._placing.slice(layer.sources[0])
                steps.append(
                    EnlargeStep(name=layer.name, source=source, target=self._placing.slice(index), factor=layer.factor)
                )
            elif not isinstance(layer, ConcatLayer):
                raise _unsupported(layer, "on its own")
        result = graph.layers[graph.output]
        finish = self._finish
        steps.append(
            FinishStep(
                name=result.name,
                source=self._placing.slice(finish.source),
                factor=finish.factor,
                colours=result.channels,
                has_base=finish.has_base,
            )
        )
        image = graph.layers[0]
        return Plan(
            batch=graph.batch,
            channels=image.channels,
            height=image.height,
            width=image.width,
            output_shape=(graph.batch, result.channels, result.height, result.width),
            buffers=self._placing.buffers,
            steps=tuple(steps),
        )

    def _is_folded(self, index: int) -> bool:
        layer, layers = self._graph.layers[index], self._graph.layers
        return (
            self._options.fold_enlargements
            and isinstance(layer, EnlargeLayer)
            and index not in self._finish.members
            and not isinstance(layers[layer.sources[0]], ImageLayer | EnlargeLayer)
            and all(isinstance(layers[reader], ConvLayer) for reader in self._readers[index])
        )

    def _stored(self) -> frozenset[int]:
        """Layers whose values are written to memory."""
        enlarged = {index for index, layer in enumerate(self._graph.layers) if isinstance(layer, EnlargeLayer)}
        return self._packed | frozenset(self._chains) | (enlarged - self._folded - self._finish.members)

    def _is_packed(self, index: int) -> bool:
        return any(isinstance(self._graph.layers[reader], ConvLayer) for reader in self._readers[index])

    def _pack_steps(self, index: int) -> list[Step]:
        layer = self._graph.layers[index]
        if isinstance(layer, UnshuffleLayer) and layer.sources != (0,):
            raise _unsupported(layer, "of anything but the input")
        known = (ConvLayer, UnshuffleLayer)
        for reader in self._readers[index]:
            if not isinstance(self._graph.layers[reader], known) and reader not in self._finish.members:
                raise _unsupported(self._graph.layers[reader], "of the input")
        if index not in self._packed:
            return []
        factor = layer.factor if isinstance(layer, UnshuffleLayer) else 1
        return [PackStep(name=layer.name, target=self._placing.slice(index), factor=factor)]

    def _conv_steps(self, chain: Chain) -> list[Step]:
        layers = self._graph.layers
        layer = layers[chain.conv]
        assert isinstance(layer, ConvLayer)
        source_index, factor = layer.sources[0], 1
        if source_index in self._folded:
            enlarge = layers[source_index]
            assert isinstance(enlarge, EnlargeLayer)
            source_index, factor = enlarge.sources[0], enlarge.factor
        source = self._placing.slice(source_index)
        needs_wide, needs_narrow = self._types_read(chain.end)
        target = self._placing.slice(chain.end) if needs_narrow else None
        wide_target = self._placing.wide_slice(chain.end) if needs_wide else None
        outputs = _padded(layer.channels)
        kernel = layer.kernel
        if source_index in self._packed:
            kernel = np.concatenate((kernel, kernel), axis=1)
        kernel = _pad(_pad(kernel, 0, outputs), 1, source.channels)
        epilogue = self._epilogue(chain, outputs=outputs)
        factor_of_all = 1.0
        if epilogue and isinstance(epilogue[0], Multiply):  # of weights instead of pixels
            factor_of_all = epilogue[0].factor
            epilogue = epilogue[1:]
        kernel = (kernel * np.float32(factor_of_all)).astype(np.float32)
        whole = ConvStep(
            name=layer.name,
            source=source,
            kernel=kernel,
            bias=_pad(layer.bias * np.float32(factor_of_all), 0, outputs),
            pad_before=(kernel.shape[2] // 2,) * 2,
            pad_after=(kernel.shape[3] // 2,) * 2,
            epilogue=epilogue,
            target=target,
            wide_target=wide_target,
            height=layer.height,
            width=layer.width,
        )
        if factor == 1:
            return [whole]
        return [
            replace(
                whole,
                name=f"{layer.name}.{phase.row}{phase.column}",
                kernel=phase.kernel,
                pad_before=phase.pad_before,
                pad_after=phase.pad_after,
                epilogue=tuple(
                    AddStored(value=_phase_of(one.value, phase.row, phase.column, factor))
                    if isinstance(one, AddStored)
                    else one
                    for one in whole.epilogue
                ),
                target=_phase_of(target, phase.row, phase.column, factor) if target else None,
                wide_target=_phase_of(wide_target, phase.row, phase.column, factor) if wide_target else None,
                height=layer.height // factor,
                width=layer.width // factor,
            )
            for phase in split_phases(kernel, factor=factor)
        ]

    def _types_read(self, index: int) -> tuple[bool, bool]:
        """Whether a value is read in float32, and whether in float16."""
        readers = [self._graph.layers[reader] for reader in self._readers[index]]
        wide = [self._is_wide(index) and isinstance(reader, AddLayer) and reader.is_wide for reader in readers]
        return any(wide), not all(wide) or not wide

    def _is_wide(self, index: int) -> bool:
        layer = self._graph.layers[index]
        return self._options.wide_sums and isinstance(layer, AddLayer) and layer.is_wide

    def _epilogue(self, chain: Chain, *, outputs: int) -> tuple[Epilogue, ...]:
        found: list[Epilogue] = []
        value = chain.conv
        for index in chain.members:
            layer = self._graph.layers[index]
            if isinstance(layer, ActivationLayer):
                slopes = layer.slopes
                found.append(Activate(slopes=slopes if slopes.size == 1 else _pad(slopes, 0, outputs)))
            elif isinstance(layer, ScaleLayer):
                found.append(Multiply(factor=layer.factor))
            else:
                assert isinstance(layer, AddLayer)
                other = layer.sources[1] if layer.sources[0] == value else layer.sources[0]
                is_wide = layer.is_wide and self._is_wide(other)
                place = self._placing.wide_slice(other) if is_wide else self._placing.slice(other)
                found.append(AddStored(value=place))
            value = index
        return tuple(found)


def _phase_of(place: Slice, row: int, column: int, factor: int) -> Slice:
    return replace(place, step=factor, row=row, column=column)


def _padded(channels: int) -> int:
    return -(-channels // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE


def _pad(values: Array, axis: int, length: int) -> Array:
    """Zeros behind an array along one axis."""
    missing = [(0, 0)] * values.ndim
    missing[axis] = (0, length - values.shape[axis])
    return np.pad(values, missing)


def _unsupported(layer: Layer, where: str) -> UnsupportedModel:
    kind = type(layer).__name__.removesuffix("Layer")
    return UnsupportedModel(f"backend cudnn cannot run {kind} {layer.name} {where}", hint=_HINT)

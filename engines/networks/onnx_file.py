"""Networks in the user's own ONNX files: any one that enlarges RGB pictures, whoever exported it and how.

What the file does not say (enlargement, range of values, sizes that work) is found out by running it on small pictures.
The colours are taken to be in the order R, G, B; a file cannot tell.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError, UnsupportedModel, UnsupportedPrecision, UnsupportedShape
from engines.graph_writer import OUTPUT_NAME
from engines.networks import GraphOptions
from engines.networks.onnx_costs import measure_costs
from engines.networks.onnx_facts import Facts
from engines.networks.onnx_narrowing import narrowed
from engines.networks.onnx_probing import probe, trial_picture
from engines.networks.onnx_reading import opset_of, read_onnx
from engines.networks.onnx_signature import Signature, read_signature
from engines.networks.onnx_trial import Trial, open_trial
from engines.networks.onnx_widening import stored_precision, widened, with_float_picture
from engines.networks.onnx_wrapping import with_input_sides, wrapped
from engines.spec import ModelSpec, Precision

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.nn import Module

LARGEST_OVERLAP_PX = 64
"""Overlap of tiles where the network's reach is unknown or long: what RealESRGAN_x4plus needs, which looks further than
any other network that was measured. Source: ``engines/README.md``, seams."""


class OnnxNetwork:
    """A user's network in memory, as the file has it and in float32.

    Args:
        spec: What the rest of the program knows of it.
        source: The file's graph with a float picture at both ends; owned.
        signature: Of ``source``.
        facts: What trials showed.
    """

    def __init__(self, spec: ModelSpec, *, source: ModelProto, signature: Signature, facts: Facts) -> None:
        self.spec = spec
        self._source = source
        self._signature = signature
        self._facts = facts

    def graph(self, options: GraphOptions) -> ModelProto:
        """See ``engines.networks.Network``.

        A float16 file stays as it is in fp16. In fp32 its stored numbers are computed with in float32, which does not
        bring back what they lost.
        """
        self._check_sizes(options)
        return wrapped(
            self._body(options.precision),
            name=self.spec.name,
            signature=self._signature,
            facts=self._facts,
            options=options,
        )

    def torch_module(self) -> Module:
        """See ``engines.networks.Network``.

        Raises:
            UnsupportedModel: Always: an ONNX file is no torch module.
        """
        raise UnsupportedModel(
            f"{self.spec.name} is an ONNX file, which torch cannot run",
            hint="choose another backend: onnxruntime, openvino or tensorrt",
        )

    def run_reference(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``engines.networks.Network``. Computed by onnxruntime, or by OpenVINO without it.

        Raises:
            ModelFileError: The library failed.
            UnsupportedShape: The network cannot take tiles of that size.
        """
        count, _, height, width = tiles.shape
        batch = self._facts.fixed_batch or count
        self._check_sizes(GraphOptions(batch=batch, height=height, width=width))
        if count % batch:
            tiles = np.concatenate([tiles, np.repeat(tiles[-1:], -count % batch, axis=0)])
        parts = [
            self._reference.run(np.ascontiguousarray(tiles[start : start + batch], dtype=np.float32))[OUTPUT_NAME]
            for start in range(0, len(tiles), batch)
        ]
        result: NDArray[np.float32] = np.concatenate(parts)[:count]
        return result

    @cached_property
    def _wide(self) -> ModelProto:
        """The graph in float32."""
        return widened(self._source)

    @cached_property
    def _reference(self) -> Trial:
        """The float32 graph between its adapters, loaded for the sizes that the network takes."""
        facts = self._facts
        options = GraphOptions(batch=facts.fixed_batch, height=facts.fixed_height, width=facts.fixed_width)
        return open_trial(
            wrapped(self._wide, name=self.spec.name, signature=self._signature, facts=facts, options=options)
        )

    def _body(self, precision: Precision) -> ModelProto:
        """The user's graph in a precision."""
        stored = stored_precision(self._source)
        if precision == stored and stored != "fp32":
            return self._source
        if precision == "fp32":
            return self._wide
        if precision == "fp16":
            return narrowed(self._wide, name=self.spec.name)
        raise UnsupportedPrecision(
            f"{self.spec.name} cannot be written in {precision}: its file is {stored}",
            hint="choose precision fp16 or fp32, or export the network in bfloat16 yourself",
        )

    def _check_sizes(self, options: GraphOptions) -> None:
        """Check what is asked for against what the network takes."""
        spec, facts = self.spec, self._facts
        if options.output_scale not in (None, spec.scale):
            raise UnsupportedShape(
                f"{spec.name} cannot enlarge by {options.output_scale}, only by {spec.scale}",
                hint="leave output_scale out and resample the result",
            )
        for words, asked, fixed in (
            ("tiles per call", options.batch, facts.fixed_batch),
            ("pixels height", options.height, facts.fixed_height),
            ("pixels width", options.width, facts.fixed_width),
        ):
            if fixed is not None and asked != fixed:
                size = f"{facts.fixed_width}x{facts.fixed_height}" if facts.fixed_width else "any size"
                raise UnsupportedShape(
                    f"{spec.name} takes {fixed} {words} only, not {'any' if asked is None else asked}: its file was "
                    f"exported for {facts.fixed_batch or 'any number of'} tiles of {size}",
                    hint="export the network with free sizes, or ask for exactly these",
                )
        for name, asked in (("height", options.height), ("width", options.width)):
            if asked is not None and (asked % spec.size_multiple or asked < spec.min_px):
                raise UnsupportedShape(
                    f"{spec.name} cannot take tiles of {name} {asked}: sides must be multiples of "
                    f"{spec.size_multiple}, at least {spec.min_px}"
                )


def inspect_onnx(path: Path) -> ModelSpec:
    """Find out what a user's ONNX file is, by reading it and running it on small pictures.

    Args:
        path: The file.

    Returns:
        Its spec: architecture ``onnx``, named after the file. ``receptive_px`` is half of ``overlap_px`` where the
        graph does not tell it.

    Raises:
        ModelFileError: It cannot be read, or is not a network that enlarges RGB pictures.
    """
    return _load(path).spec


def load_onnx(model: ModelSpec) -> OnnxNetwork:
    """Read the network of a spec that ``inspect_onnx`` made.

    Raises:
        ModelFileError: The spec has no path, the file cannot be read, or it is another one than was inspected.
    """
    if model.path is None:
        raise ModelFileError(f"{model.name} has no path of an ONNX file")
    network = _load(model.path)
    found = network.spec
    for field in ("scale", "size_multiple", "min_px", "fixed_batch", "fixed_height", "fixed_width"):
        if getattr(found, field) != getattr(model, field):
            raise ModelFileError(
                f"{model.path} has changed since it was inspected: {field} is {getattr(found, field)}, "
                f"not {getattr(model, field)}",
                hint="start again",
            )
    network.spec = model
    return network


def _load(path: Path) -> OnnxNetwork:
    """Read, try and measure a file."""
    model = read_onnx(path)
    signature = read_signature(model, path=path)
    source = with_float_picture(model)
    wide = widened(source)
    facts = probe(wide, signature=signature, path=path)
    spec = _spec(model, wide=wide, signature=signature, facts=facts, path=path)
    return OnnxNetwork(spec, source=source, signature=signature, facts=facts)


def _spec(model: ModelProto, *, wide: ModelProto, signature: Signature, facts: Facts, path: Path) -> ModelSpec:
    """Put together what is known of a network."""
    height, width, batch = facts.trial_height, facts.trial_width, facts.fixed_batch or 1
    sized = with_input_sides(
        wide,
        input_name=signature.input_name,
        layout=facts.input_layout,
        batch=batch,
        height=height,
        width=width,
    )
    tile = np.repeat(trial_picture(height=height, width=width), batch, axis=0)
    if facts.input_layout == "nhwc":
        tile = np.ascontiguousarray(tile.transpose(0, 2, 3, 1))
    costs = measure_costs(sized, tile=tile)
    overlap_px = LARGEST_OVERLAP_PX
    if costs.receptive_px is not None:
        overlap_px = min(2 * costs.receptive_px, LARGEST_OVERLAP_PX)
    return ModelSpec(
        name=path.stem,
        architecture="onnx",
        path=path,
        scale=facts.scale,
        features=costs.features,
        size_multiple=facts.size_multiple,
        min_px=facts.min_px,
        fixed_batch=facts.fixed_batch,
        fixed_height=facts.fixed_height,
        fixed_width=facts.fixed_width,
        receptive_px=LARGEST_OVERLAP_PX // 2 if costs.receptive_px is None else costs.receptive_px,
        overlap_px=overlap_px,
        output_scales=(facts.scale,),
        activation_bytes_per_px=costs.activation_bytes_per_px,
        flop_per_px=costs.flop_per_px,
        summary=_summary(model, facts=facts),
    )


def _summary(model: ModelProto, *, facts: Facts) -> str:
    """One line that says what was found."""
    words = [f"your own ONNX file: x{facts.scale}", stored_precision(model), f"opset {opset_of(model)}"]
    words += [facts.input_layout] if facts.input_layout != "nchw" else []
    words += ["values 0 to 255"] if facts.input_peak != 1.0 else []
    words += [f"tiles of {facts.fixed_width}x{facts.fixed_height} only"] if facts.fixed_height is not None else []
    return ", ".join(words)

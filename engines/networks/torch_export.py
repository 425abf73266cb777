"""Writes a torch module as ONNX with our names and conventions. Knows torch's exporters and their traps.

torch has two exporters. The older one, which traces, is faster and needs no further package, so it comes first; what it
cannot write goes to the newer one where ``onnxscript`` is installed.

A trace can freeze what depended on the size of its example. So every network is traced at two sizes, and at two
batches unless one was asked for: if both give the same graph, nothing was frozen, and the graph holds for every size.
If not, it is traced at the very size that was asked for, or refused if that was left free.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.errors import ExportFailed
from engines.graph import BFLOAT16_OPSET, DEFAULT_OPSET
from engines.graph_writer import INPUT_NAME, OUTPUT_NAME
from engines.layers import IMAGE_CHANNELS
from engines.networks import GraphOptions
from engines.networks.traced_graph import cast_ends, is_same_graph, with_our_names
from engines.spec import FloatType, ModelSpec, Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto
    from torch import Tensor
    from torch.nn import Module

EXAMPLE_PX = 16
"""Shortest side of the examples that are traced, input pixels: tracing runs the network, so they are small."""

SIZE_STEP_PX = 8
"""By how much, at least, the sizes of the two examples differ."""

MIN_TRACED_OPSET = 11
"""Oldest operator set that is asked of torch's exporters: older ones lack assignment to parts of an array and
depth-to-space in torch's order. Source: ONNX changelog, ScatterND-11 and DepthToSpace-11."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Shape of the array that a network is traced with."""

    batch: int
    height: int
    width: int


def export_module(module: Module, *, model: ModelSpec, options: GraphOptions) -> ModelProto:
    """Write a module as ONNX.

    Args:
        module: float32, on the CPU, in evaluation mode, (N, 3, H, W) -> (N, 3, s*H, s*W). It is copied.
        model: Its scale and what its sizes must be divisible by.
        options: Checked by the caller against the model: sizes, enlargement, and that the precision is possible.

    Returns:
        One file's worth of model, all weights inside, with our input and output names. Free dimensions are called
        ``batch``, ``height`` and ``width``.

    Raises:
        ExportFailed: Neither exporter can write it, or not with free sizes.
        BackendUnavailable: torch is not installed.
    """
    opset = options.opset or (BFLOAT16_OPSET if options.precision == "bf16" else DEFAULT_OPSET)
    if opset < MIN_TRACED_OPSET:
        raise ExportFailed(
            f"{model.name} cannot be written with opset {opset}: torch needs {MIN_TRACED_OPSET} or newer",
            hint=f"use opset {DEFAULT_OPSET}, or leave it out",
        )
    typed = _typed(module, precision=options.precision)
    first, second = _examples(model, batch=options.batch)
    graph = _write(typed, example=first, model=model, opset=opset)
    if not is_same_graph(graph, _write(typed, example=second, model=model, opset=opset)):
        if options.batch is None or options.height is None or options.width is None:
            raise ExportFailed(
                f"{model.name} cannot be written with free sizes: what it computes depends on "
                f"{'the number of tiles or ' if options.batch is None else ''}the size of the picture",
                hint="give batch" if options.batch is None else "give height and width",
            )
        exact = Example(batch=options.batch, height=options.height, width=options.width)
        graph = _write(typed, example=exact, model=model, opset=opset)
    graph = with_our_names(graph, model=model, options=options)
    inner_type: FloatType = "float32"
    if options.precision == "fp16":
        from engines.networks.onnx_narrowing import narrowed

        graph, inner_type = narrowed(graph, name=model.name), "float16"
    cast_ends(graph, inner_type=inner_type, io_type=options.io_dtype)
    return graph


def _examples(model: ModelSpec, *, batch: int | None) -> tuple[Example, Example]:
    """Two small shapes that the network takes and that differ in every dimension that is free.

    The second has sides that no larger power of two divides, because networks of windows pad them.
    """
    multiple = model.size_multiple
    base = _rounded_up(max(EXAMPLE_PX, model.min_px), multiple=multiple)
    step = _rounded_up(SIZE_STEP_PX, multiple=multiple)
    return (
        Example(batch=batch or 1, height=base, width=base + step),
        Example(batch=batch or 2, height=base + 3 * step + multiple, width=base + 2 * step + multiple),
    )


def _rounded_up(value: int, *, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _typed(module: Module, *, precision: Precision) -> Module:
    """A copy for tracing, from float32 to float32 picture.

    fp16 is traced in float32 and converted afterwards: torch computes float16 slowly on a CPU, and networks that derive
    weights from weights while they run (SPAN) would round every step of that.
    """
    import torch

    inner_type = torch.bfloat16 if precision == "bf16" else torch.float32

    class Typed(torch.nn.Module):
        """Casts at both ends, which leave no trace where there is nothing to cast."""

        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(module).to(inner_type).requires_grad_(False)

        def forward(self, image: Tensor) -> Tensor:
            result: Tensor = self.network(image.to(inner_type))
            return result.to(torch.float32)

    return Typed().eval()


def _write(typed: Module, *, example: Example, model: ModelSpec, opset: int) -> ModelProto:
    """Write with free sizes: by tracing, else by torch's newer exporter."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shape = (example.batch, IMAGE_CHANNELS, example.height, example.width)
    tile = torch.rand(shape, generator=generator)
    with _quiet(), torch.no_grad():
        try:
            return _traced(typed, tile, opset=opset)
        except _torch_errors() as exc:
            try:
                import onnxscript  # noqa: F401 - only whether it is there
            except ImportError:
                raise _refusal(model, exc) from exc
            try:
                return _captured(typed, tile, model=model, opset=opset)
            except _torch_errors():
                raise _refusal(model, exc) from exc


def _traced(typed: Module, tile: Tensor, *, opset: int) -> ModelProto:
    """torch's older exporter."""
    import onnx
    import torch

    stored = io.BytesIO()
    torch.onnx.export(
        typed,
        (tile,),
        stored,  # type: ignore[arg-type] # a file-like object is taken, whatever the annotation says
        dynamo=False,
        opset_version=opset,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_axes={name: {0: f"{name}_n", 2: f"{name}_h", 3: f"{name}_w"} for name in (INPUT_NAME, OUTPUT_NAME)},
    )
    return onnx.load_from_string(stored.getvalue())


def _captured(typed: Module, tile: Tensor, *, model: ModelSpec, opset: int) -> ModelProto:
    """torch's newer exporter."""
    import torch

    multiple = model.size_multiple
    height, width = (torch.export.Dim(name, min=1) for name in ("height_steps", "width_steps"))
    sizes: dict[int, Any] = {0: torch.export.Dim("batch", min=1), 2: multiple * height, 3: multiple * width}
    if multiple == 1:
        sizes |= {2: height, 3: width}
    program = torch.onnx.export(
        typed,
        (tile,),
        dynamo=True,
        external_data=False,
        opset_version=opset,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=(sizes,),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch's exporter gave nothing")
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' talk to themselves: standard output is for results, and what matters is raised.

    The older one dumps its whole graph from C++ when it fails, and turns that on again when it is turned off; the newer
    one reports progress whatever it is told, and logs the tracebacks of every attempt.
    """
    import torch

    dump, disabled = torch._C._jit_onnx_log, logging.root.manager.disable
    setattr(torch._C, "_jit_onnx_log", lambda *_: None)  # noqa: B010 - mypy knows it as a function
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        setattr(torch._C, "_jit_onnx_log", dump)  # noqa: B010


def _torch_errors() -> tuple[type[Exception], ...]:
    """What the exporters raise for a network that they cannot write: their own errors, and whatever its Python code
    raises when it meets a traced value.
    """
    import torch

    return (
        torch.onnx.errors.OnnxExporterError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    )


def _refusal(model: ModelSpec, exc: Exception) -> ExportFailed:
    reason = str(exc).strip().partition("\n")[0][:300] or type(exc).__name__
    return ExportFailed(
        f"torch cannot write {model.name} as ONNX: {reason}",
        hint="choose backend torch, or another precision or opset",
    )

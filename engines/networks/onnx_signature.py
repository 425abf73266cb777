"""What an ONNX graph takes and gives, as far as the file itself says: names, types, sizes, order of the axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engines.errors import ModelFileError
from engines.layers import IMAGE_CHANNELS

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

Layout = Literal["nchw", "nhwc"]

_PICTURE_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "UINT8")
"""Element types of pictures that the wrapping graph converts from and to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The one input and the one output of a network."""

    input_name: str
    output_name: str
    layouts: tuple[Layout, ...]
    """Orders of the input's axes that the file allows, likely ones first; one of them unless no size is given."""
    batch: int | None
    """Tiles per call; None is free. For the first of ``layouts``, as are the next two."""
    height: int | None
    """Tile height in pixels; None is free."""
    width: int | None
    """Tile width in pixels; None is free."""


def read_signature(model: ModelProto, *, path: Path) -> Signature:
    """Find a network's picture input and output.

    Args:
        model: From ``read_onnx``.
        path: Named in errors.

    Raises:
        ModelFileError: There is not exactly one input and one output, one is no tensor of four axes and a known type,
            or the input does not have three colours.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    image = _only([value for value in model.graph.input if value.name not in constants], role="input", path=path)
    result = _only(list(model.graph.output), role="output", path=path)
    for value, role in ((image, "input"), (result, "output")):
        _check_type(value, role=role, path=path)
    sides = _sides(image, path=path)
    layouts = _layouts(sides, name=image.name, path=path)
    rows, columns = (2, 3) if layouts[0] == "nchw" else (1, 2)
    return Signature(
        input_name=image.name,
        output_name=result.name,
        layouts=layouts,
        batch=sides[0],
        height=sides[rows],
        width=sides[columns],
    )


def _only(values: list[ValueInfoProto], *, role: str, path: Path) -> ValueInfoProto:
    """Return the only value, or say how many there are."""
    if len(values) != 1:
        names = ", ".join(value.name for value in values) or "none"
        raise ModelFileError(
            f"{path} must have one {role}, the picture; it has {len(values)}: {names}",
            hint=f"export the network with one picture as its only {role}",
        )
    return values[0]


def _check_type(value: ValueInfoProto, *, role: str, path: Path) -> None:
    """Check that a value is a tensor of a type that pictures have."""
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    if not value.type.HasField("tensor_type") or kind not in _PICTURE_TYPES:
        kind = kind.lower() if value.type.HasField("tensor_type") else "no tensor"
        raise ModelFileError(
            f"{role} {value.name} of {path} is {kind}; a picture is float32, float16, bfloat16 or uint8",
            hint="export the network with float32 pictures",
        )


def _sides(value: ValueInfoProto, *, path: Path) -> tuple[int | None, int | None, int | None, int | None]:
    """Return the four sizes, None where one is free."""
    shape = value.type.tensor_type.shape
    if not value.type.tensor_type.HasField("shape"):
        raise ModelFileError(
            f"input {value.name} of {path} does not say how many axes it has; a picture has 4: 1x3xHxW",
            hint="export the network with an example picture of 1x3xHxW",
        )
    sides = [axis.dim_value if axis.dim_value > 0 else None for axis in shape.dim]
    if len(sides) != 4:
        words = "x".join("?" if side is None else str(side) for side in sides) or "a single number"
        raise ModelFileError(
            f"input {value.name} of {path} has {len(sides)} axes ({words}); a picture has 4: 1x3xHxW",
            hint="give a network that takes RGB pictures",
        )
    return sides[0], sides[1], sides[2], sides[3]


def _layouts(
    sides: tuple[int | None, int | None, int | None, int | None], *, name: str, path: Path
) -> tuple[Layout, ...]:
    """Tell the order of the axes from where the three colours are."""
    second, last = sides[1], sides[3]
    if second == IMAGE_CHANNELS:
        return ("nchw",)
    if last == IMAGE_CHANNELS:
        return ("nhwc",)
    if second is None and (last is None or last > 4):  # more than RGBA is a width
        return ("nchw", "nhwc") if last is None and sides[2] is None else ("nchw",)
    channels = min(side for side in (second, last) if side is not None)
    kind = {1: " (greyscale or luma)", 4: " (RGB with alpha)"}.get(channels, "")
    raise ModelFileError(
        f"input {name} of {path} takes {channels} channels{kind}; pictures here have {IMAGE_CHANNELS}: R, G, B",
        hint="give a network that was trained on RGB pictures",
    )

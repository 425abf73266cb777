"""Lets a double offer exactly what a real TensorRT module offers: names, signatures, enum members, settable attributes.

The truth is in ``trt_signatures/*.json``, written by ``tools/dump_trt_api.py`` from the real bindings.
"""

from __future__ import annotations

import enum
import functools
import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent / "trt_signatures"

FLAVOURS = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
"""``tensorrt-10.13`` and so on."""


@dataclass(frozen=True, slots=True, eq=False)
class Flavour:
    """What one version of one library has."""

    name: str
    library: str
    version: str
    names: frozenset[str]
    enums: dict[str, dict[str, int]]
    classes: dict[str, dict[str, Any]]

    def has(self, dotted: str) -> bool:
        """Whether the module has a name such as ``BuilderFlag.TF32`` or ``Runtime.load_runtime``."""
        first, _, rest = dotted.partition(".")
        if first in self.enums:
            return not rest or rest in self.enums[first] or rest == "__members__"
        if first in self.classes:
            members = self.classes[first]
            return not rest or self._has_member(members, rest)
        return first in self.names

    @staticmethod
    def _has_member(members: dict[str, Any], rest: str) -> bool:
        name, _, inner = rest.partition(".")
        if name in members["enums"]:
            return not inner or inner in members["enums"][name]
        return name in members["methods"] or name in members["properties"]


@functools.cache
def load_flavour(name: str) -> Flavour:
    """Read one signature file."""
    content = json.loads((_FOLDER / f"{name}.json").read_text())
    return Flavour(
        name, content["library"], content["version"], frozenset(content["names"]), content["enums"], content["classes"]
    )


class _BoundEnum(enum.Enum):
    """Like pybind11's: has a number, but is none."""

    def __int__(self) -> int:
        return int(self.value)


def make_enums(flavour: Flavour) -> dict[str, Any]:
    """All enums of a module."""
    return {name: _BoundEnum(name, members) for name, members in flavour.enums.items()}


def gate(flavour: Flavour, module: Any, name: str, implementation: type) -> type:
    """Make the class that the double shows under ``name``.

    What the real class has and the implementation lacks raises NotImplementedError when it is touched; what only the
    implementation has is an AttributeError; calls that fit no signature are a TypeError, as with pybind11. Properties
    that the implementation says nothing about keep what they are given, if the real ones can be set.
    """
    truth = flavour.classes[name]
    methods, properties = truth["methods"], truth["properties"]
    content: dict[str, Any] = {}
    for member, access in properties.items():
        own = _lookup(implementation, member)
        if own is None:
            content[member] = _plain_property(member, is_settable=access == "rw")
        elif isinstance(own, property) and own.fset is not None and access != "rw":
            content[member] = property(own.fget)
    for member, signatures in methods.items():
        own = _lookup(implementation, member)
        if member == "__init__":
            continue
        content[member] = _missing(name, member) if own is None else _checked(module, name, own, signatures)
    for member, values in truth["enums"].items():
        kind = _BoundEnum(member, values)
        content[member] = kind
        content |= {key: kind[key] for key in values}
    for base in implementation.__mro__[:-1]:
        for member in vars(base):
            if not member.startswith("_") and member not in content and member not in properties:
                content[member] = property(_absent(flavour, name, member))
    kind = type(name, (implementation,), content)

    def set_attribute(self: Any, attribute: str, value: Any) -> None:
        own = getattr(kind, attribute, None)
        if type(self) is kind and not attribute.startswith("_") and not isinstance(own, property):
            raise AttributeError(f"'{name}' object of {flavour.name} has no attribute '{attribute}'")
        object.__setattr__(self, attribute, value)

    kind.__setattr__ = set_attribute  # type: ignore[assignment,method-assign]  # as pybind11: no attribute of one's own
    return kind


def _lookup(implementation: type, member: str) -> Any:
    for base in implementation.__mro__[:-1]:
        if member in vars(base):
            return vars(base)[member]
    return None


def _plain_property(member: str, *, is_settable: bool) -> property:
    key = f"_plain_{member}"

    def read(self: Any) -> Any:
        return self.__dict__.get(key)

    def write(self: Any, value: Any) -> None:
        self.__dict__[key] = value

    return property(read, write if is_settable else None)


def _missing(name: str, member: str) -> Callable[..., Any]:
    def refuse(*arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"the double does not do {name}.{member}")

    return refuse


def _absent(flavour: Flavour, name: str, member: str) -> Callable[[Any], Any]:
    def refuse(self: Any) -> Any:
        raise AttributeError(f"'{name}' object of {flavour.name} has no attribute '{member}'")

    return refuse


def _checked(module: Any, name: str, method: Callable[..., Any], signatures: list[str]) -> Callable[..., Any]:
    overloads = [_parse(signature) for signature in signatures]

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        for parameters in overloads:
            bound = _bind(module, parameters, arguments, keywords)
            if bound is not None:
                return method(self, *bound)
        raise TypeError(
            f"{name}.{method.__name__}(): incompatible function arguments {arguments} {keywords}; supported: "
            f"{signatures}"
        )

    return call


_NO_DEFAULT = object()


def _parse(signature: str) -> list[tuple[str, str, Any]]:
    """Name, type and default of each parameter but self."""
    inner = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    parameters = []
    for part in re.split(r",\s*(?![^\[]*\])", inner)[1:]:
        declared, has_default, default = part.partition(" = ")
        name, _, kind = declared.partition(": ")
        parameters.append((name.strip(), kind.strip(), default.strip() if has_default else _NO_DEFAULT))
    return parameters


def _bind(
    module: Any, parameters: list[tuple[str, str, Any]], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> list[Any] | None:
    if len(arguments) > len(parameters) or not set(keywords) <= {name for name, _, _ in parameters}:
        return None
    bound = []
    for position, (name, kind, default) in enumerate(parameters):
        if position < len(arguments):
            if name in keywords:
                return None
            value = arguments[position]
        elif name in keywords:
            value = keywords[name]
        elif default is _NO_DEFAULT:
            return None
        else:
            bound.append(_default(module, default))
            continue
        if not _fits(module, kind, value):
            return None
        bound.append(value)
    return bound


def _default(module: Any, text: str) -> Any:
    known = {"None": None, "True": True, "False": False}
    if text in known:
        return known[text]
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return operator.attrgetter(text)(module) if re.fullmatch(r"\w+\.\w+", text) else text


def _fits(module: Any, kind: str, value: Any) -> bool:
    if " | " in kind and "[" not in kind:
        return any(_fits(module, one, value) for one in kind.split(" | "))
    simple = {
        "str": lambda: isinstance(value, str),
        "bool": lambda: isinstance(value, bool),
        "int": lambda: hasattr(value, "__index__"),
        "float": lambda: isinstance(value, int | float),
        "tuple": lambda: isinstance(value, tuple),
        "list": lambda: isinstance(value, list),
        "bytes": lambda: isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "__buffer__"),
        "Dims": lambda: isinstance(value, tuple | list),
    }
    if kind in simple:
        return bool(simple[kind]())
    if kind.startswith("list["):
        return isinstance(value, list | tuple)
    if value is None:
        return True  # a null pointer
    try:
        wanted = operator.attrgetter(kind)(module)
    except (AttributeError, NotImplementedError):
        return False  # nothing that a test has can be of a type that the double does not have
    return isinstance(wanted, type) and isinstance(value, wanted)

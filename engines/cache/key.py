"""The engine key: everything that a compiled engine depends on, and nothing else.

An engine is found only under the key of exactly the same inputs, so one that was built by another compiler version,
for another GPU or from other weights is not refused: it cannot be found. The digest is taken over all fields of
`EngineKey`, and its options over all fields of ``BuildOptions`` but those that `NOT_IN_KEY` names with their reason: a
field that somebody adds invalidates the cache until somebody decides otherwise.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, cast

from engines.build_options import BuildOptions
from engines.spec import FloatType, Precision

Compiler = Literal["tensorrt", "tensorrt_rtx"]

OptionValue = str | int | float | bool | None | tuple[str, ...]

KEY_SCHEMA = 1
"""Raised when the meaning of a field changes, which makes all older engines unfindable."""

DIGEST_CHARACTERS = 12
"""Of the digest in file names: 48 bits. The whole digest stands in the file itself and is compared."""

NOT_IN_KEY: Mapping[str, str] = MappingProxyType(
    {
        "dynamic": "the profile of the inputs says it",
        "min_px": "the profile of the inputs says it where it is used",
        "opt_px": "the profile of the inputs says it where it is used",
        "max_px": "the profile of the inputs says it where it is used",
        "timing_cache": "reuses measurements; an engine tuned with or without it computes the same network",
        "cuda_graph": "a choice of the runtime; the engine is the same",
        "cache_dir": "where the engine lies is not part of it",
    }
)
"""Fields of ``BuildOptions`` that do not change which engine is right, and why. Read-only."""

_MODEL_CHARACTERS = 80
"""Longest model name within a file name; with all the rest it stays below the 255 bytes of Linux file systems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuIdentity:
    """The GPU that an engine is tuned on."""

    name: str
    """``NVIDIA GeForce RTX 4090`` ..."""
    compute_capability: str
    """``8.9`` ..."""
    driver_version: str = ""
    """Recorded beside the engine, not part of its key: a driver update must not cost a night of rebuilding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRange:
    """The shapes that an engine takes at one input; all three are equal for a static engine."""

    name: str
    """Of the network's input."""
    minimum: tuple[int, ...]
    """(N, C, H, W)."""
    optimum: tuple[int, ...]
    """(N, C, H, W) that the engine is tuned for."""
    maximum: tuple[int, ...]
    """(N, C, H, W)."""

    @property
    def is_static(self) -> bool:
        """Whether only one shape is taken."""
        return self.minimum == self.optimum == self.maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Every input of an engine build. Made by `make_key`."""

    model: str
    """The model's name; for people and file names, the ONNX bytes decide."""
    onnx_sha256: str
    """Of the serialised graph with all its weights, lower-case hex."""
    inputs: tuple[InputRange, ...]
    """The optimisation profile, in the order of the network's inputs."""
    precision: Precision
    """Arithmetic of the network."""
    io_dtype: FloatType
    """Type of the input and output arrays."""
    output_scale: int
    """Enlargement from input to output."""
    compiler: Compiler
    """Which library compiled it."""
    compiler_version: str
    """The library's full version; engines load only in the very version that wrote them."""
    options: tuple[tuple[str, OptionValue], ...]
    """Build options by name, ascending: all of ``BuildOptions`` but `NOT_IN_KEY`."""
    flags: tuple[str, ...] = ()
    """Builder and network flags set beyond the options, ascending."""
    tactic_sources: tuple[str, ...] = ()
    """Libraries that the compiler may take kernels from, ascending; empty is its default."""
    gpu_name: str = ""
    """The GPU it was tuned on; empty where it is compiled for named compute capabilities."""
    gpu_compute_capability: str = ""
    """Of that GPU."""
    plugins: tuple[tuple[str, str], ...] = ()
    """(file name, SHA-256) of every plugin library, ascending."""
    schema: int = KEY_SCHEMA
    """`KEY_SCHEMA` of the program that made it."""

    @property
    def digest(self) -> str:
        """SHA-256 over all fields, lower-case hex."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def file_stem(self) -> str:
        """``<model>-<shape>-<precision>-<digest[:12]>`` in characters that every file system takes."""
        shape = "_".join(_shape_text(one) for one in self.inputs) or "noinput"
        return f"{safe_text(self.model)}-{shape}-{self.precision}-{self.digest[:DIGEST_CHARACTERS]}"

    @property
    def option_values(self) -> dict[str, OptionValue]:
        """The build options by name."""
        return dict(self.options)

    @property
    def target(self) -> str:
        """What it was compiled for, in words: the GPU's name or the compute capabilities."""
        targets = self.option_values.get("compute_capabilities")
        if isinstance(targets, tuple) and targets:
            return "SM " + ", ".join(targets)
        if self.gpu_name:
            return f"{self.gpu_name} (SM {self.gpu_compute_capability})"
        return "the compiler's default GPUs"

    @property
    def shape_text(self) -> str:
        """The shapes it takes, in words: ``1x3x720x1280``, or the smallest and the largest."""
        return ", ".join(
            _dims(one.maximum) if one.is_static else f"{_dims(one.minimum)} to {_dims(one.maximum)}"
            for one in self.inputs
        )

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values["inputs"] = [
            {field.name: _plain(getattr(one, field.name)) for field in fields(one)} for one in self.inputs
        ]
        values["options"] = {name: _plain(value) for name, value in self.options}
        values["plugins"] = dict(self.plugins)
        return {name: _plain(value) for name, value in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EngineKey:
        """Read a key that `to_json` wrote.

        Raises:
            ValueError: A field is missing, unknown or of another type: another version of this program wrote it.
        """
        known = {field.name for field in fields(cls)}
        if set(value) != known:
            raise ValueError(f"its key has other fields: {', '.join(sorted(set(value) ^ known))}")
        try:
            inputs = tuple(
                InputRange(
                    name=one["name"],
                    minimum=tuple(one["minimum"]),
                    optimum=tuple(one["optimum"]),
                    maximum=tuple(one["maximum"]),
                )
                for one in value["inputs"]
            )
            changed = {
                "inputs": inputs,
                "options": tuple(sorted((name, _frozen(one)) for name, one in value["options"].items())),
                "flags": tuple(value["flags"]),
                "tactic_sources": tuple(value["tactic_sources"]),
                "plugins": tuple(sorted(value["plugins"].items())),
            }
            return cls(**{**value, **changed})
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError("its key is not readable") from exc


def make_key(
    *,
    model: str,
    onnx: bytes,
    inputs: Iterable[InputRange],
    precision: Precision,
    io_dtype: FloatType,
    output_scale: int,
    compiler: Compiler,
    compiler_version: str,
    options: BuildOptions,
    gpu: GpuIdentity | None,
    flags: Iterable[str] = (),
    tactic_sources: Iterable[str] = (),
    plugins: Mapping[str, bytes] | None = None,
) -> EngineKey:
    """Put the key of a build together.

    Args:
        model: The model's name.
        onnx: The serialised graph with all its weights.
        inputs: The optimisation profile.
        precision: Arithmetic of the network.
        io_dtype: Type of the input and output arrays.
        output_scale: Enlargement from input to output.
        compiler: Which library compiles.
        compiler_version: Its full version.
        options: How it is to be compiled.
        gpu: The GPU that the engine is tuned on; None if there is none here. TensorRT for RTX with compute
            capabilities named compiles for those whatever GPU is here, so it is left out then.
        flags: Builder and network flags set beyond the options.
        tactic_sources: Libraries that kernels may come from; empty is the compiler's default.
        plugins: Content of every plugin library by file name.
    """
    values = {
        field.name: _frozen(getattr(options, field.name)) for field in fields(options) if field.name not in NOT_IN_KEY
    }
    targets = tuple(sorted(set(options.compute_capabilities), key=_version_order))
    values["compute_capabilities"] = targets
    if compiler == "tensorrt_rtx" and targets:
        gpu = None
    return EngineKey(
        model=model,
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        inputs=tuple(inputs),
        precision=precision,
        io_dtype=io_dtype,
        output_scale=output_scale,
        compiler=compiler,
        compiler_version=compiler_version,
        options=tuple(sorted(values.items())),
        flags=tuple(sorted(set(flags))),
        tactic_sources=tuple(sorted(set(tactic_sources))),
        gpu_name="" if gpu is None else gpu.name,
        gpu_compute_capability="" if gpu is None else gpu.compute_capability,
        plugins=tuple(sorted((name, hashlib.sha256(one).hexdigest()) for name, one in (plugins or {}).items())),
    )


def safe_text(text: str) -> str:
    """Letters, digits, dot, plus, underscore and hyphen; never empty, never hidden, of bounded length."""
    safe = re.sub(r"[^A-Za-z0-9.+_-]+", "_", text).lstrip(".-")[:_MODEL_CHARACTERS]
    return safe or "model"


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)


def _shape_text(one: InputRange) -> str:
    return _dims(one.maximum) if one.is_static else f"{_dims(one.minimum)}-to-{_dims(one.maximum)}"


def _version_order(text: str) -> tuple[tuple[int, str], ...]:
    """Order ``8.9`` before ``12.0``."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in text.split("."))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> OptionValue:
    frozen = tuple(value) if isinstance(value, list) else value
    if frozen is not None and not isinstance(frozen, str | int | float | tuple):
        raise TypeError(f"a build option of type {type(value).__name__} has no place in the key")
    return cast(OptionValue, frozen)

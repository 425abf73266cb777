"""Compiles an ONNX network into an engine: parse, configure, build, with every refusal turned into one clear error.

Nothing in the library raises. Whatever it returns is looked at, and the log says why it refused.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any

from engines.build_options import BuildListener
from engines.errors import BackendUnavailable, BuildCancelled, BuildFailed
from engines.trt.library import TrtLibrary
from engines.trt.log import LogLines, strip_source
from engines.trt.profile import Profile
from engines.trt.progress import BuildWatch, make_monitor
from engines.trt.settings import BuildSettings, apply_settings

logger = logging.getLogger(__name__)

_SCRATCH = re.compile(r"Max Scratch Memory: (\d+) bytes")
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")
"""Lines of the library's log at INFO. Source: observed with TensorRT-RTX 1.7; a missing one gives None."""

_LISTED_PROBLEMS = 20
"""Unsupported operators that a message names; more are counted."""

_HINTS = (
    ("workspace limit", "allow more scratch memory (workspace), or use smaller tiles or batches"),
    ("OutOfMemory", "allow more scratch memory (workspace), close other programs on the GPU, or use smaller tiles"),
    ("out of memory", "close other programs on the GPU, or use smaller tiles or batches"),
    (
        "HW-specific datatypes",
        "choose precision fp16, or leave the GPUs that lack the type out of compute_capabilities",
    ),
    ("Plugin not found", "export the network without this operator, or choose backend onnxruntime"),
    ("no optimization profile", "give the network constant sizes, or build a dynamic engine"),
    ("driver version is insufficient", "install the NVIDIA driver, or build for named GPUs with compute_capabilities"),
    ("Unable to load library", "the installed package lacks this library: install the full package"),
)
"""What to do, by words of the library's message. A hint only; the message stands whether one fits or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPlan:
    """A compiled engine and what the compiler said about it."""

    plan: bytes
    """The engine, as the library's runtime loads it."""
    timing_cache: bytes | None
    """What was measured, for the next build; None where the library has none or it was not asked for."""
    build_s: float
    """Time the compiler took, seconds."""
    scratch_bytes: int | None
    """Device memory for activations, per context, at the profile's maximum; None if the library did not say."""
    weights_bytes: int | None
    """Device memory for the weights; None if the library did not say."""
    layer_count: int
    """Layers of the parsed network, before the compiler joined them."""
    notes: tuple[str, ...]
    """What the user should know, one sentence each: our notes, then the library's warnings."""
    log_tail: tuple[str, ...]
    """The library's last lines at INFO."""


def build_plan(
    library: TrtLibrary,
    *,
    onnx: bytes,
    profile: Profile,
    settings: BuildSettings,
    text: str = "an engine",
    listener: BuildListener | None = None,
    timing_cache: bytes | None = None,
) -> BuiltPlan:
    """Compile a network.

    Blocks for seconds (TensorRT-RTX) to many minutes (TensorRT with a large network). Ctrl-C in the main thread stops
    it at the compiler's next progress report.

    Args:
        library: The compiler.
        onnx: The serialised graph with all weights inside; one image input.
        profile: Tile sizes to compile for.
        settings: From ``plan_settings``.
        text: What is built, in words, for the listener and for errors.
        listener: Hears of the progress and can stop it.
        timing_cache: What an earlier build measured on this GPU; None to begin anew.

    Raises:
        BuildFailed: The network cannot be parsed (all unsupported operators are listed), the compiler refused it, or
            memory ran out.
        BuildCancelled: The user or the listener stopped it.
        BackendUnavailable: The library cannot work here.
    """
    watch = BuildWatch(listener)
    monitor = make_monitor(library.trt, watch)  # has to outlive the objects that the compiler makes
    if listener is not None:
        listener.begin(f"{text} with {library.title}")
    try:
        with library.log.collect() as lines, watch.catch_interrupt():
            builder = _make_builder(library, lines)
            started_s = time.perf_counter()
            try:
                built = _Build(library, builder, lines).run(onnx, profile, settings, monitor, timing_cache)
            except MemoryError as exc:
                raise BuildFailed(
                    f"{library.title} ran out of host memory while compiling {text}",
                    hint="use smaller tiles or batches, or free memory",
                ) from exc
            build_s = time.perf_counter() - started_s
    finally:
        if listener is not None:
            listener.end()
    if watch.failure is not None:
        raise watch.failure
    if watch.stopped:
        raise BuildCancelled(f"the build of {text} was stopped; nothing of it is kept")
    plan, timings, layer_count = built
    if plan is None:
        raise _build_error(library, lines, text)
    return BuiltPlan(
        plan=plan,
        timing_cache=timings,
        build_s=build_s,
        scratch_bytes=_first_number((_ACTIVATIONS, _SCRATCH), lines.notes),
        weights_bytes=_first_number((_WEIGHTS,), lines.notes),
        layer_count=layer_count,
        notes=(*settings.notes, *dict.fromkeys(strip_source(line) for line in lines.warnings)),
        log_tail=tuple(lines.notes[-12:]),
    )


def _make_builder(library: TrtLibrary, lines: LogLines) -> Any:
    try:
        builder = library.trt.Builder(library.log.logger)
    except TypeError as exc:  # the bindings' answer to a factory that gave nothing: no driver, or one too old
        raise BackendUnavailable(
            f"{library.title} cannot build here: {lines.essence() or 'no usable NVIDIA driver'}",
            missing="NVIDIA driver",
            hint="update the NVIDIA driver, or build on the machine that will run the engine",
        ) from exc
    return builder


class _Build:
    """One build. Its caller keeps the builder alive until it has returned, which all its objects need."""

    def __init__(self, library: TrtLibrary, builder: Any, lines: LogLines) -> None:
        self._library = library
        self._trt = library.trt
        self._builder = builder
        self._lines = lines

    def run(
        self, onnx: bytes, profile: Profile, settings: BuildSettings, monitor: Any, timing_cache: bytes | None
    ) -> tuple[bytes | None, bytes | None, int]:
        """Give the plan (None if refused or stopped), the timing cache and the count of parsed layers."""
        network = self._builder.create_network(self._library.network_flags)
        if network is None:
            raise BuildFailed(f"{self._library.title} makes no strongly typed network: {self._lines.essence()}")
        parser = self._trt.OnnxParser(network, self._library.log.logger)
        if not parser.parse(onnx):
            raise _parse_error(self._library, parser)
        config = self._builder.create_builder_config()
        self._add_profile(network, config, profile)
        apply_settings(self._library, config, settings)
        config.progress_monitor = monitor
        wants_timings = settings.options.timing_cache and self._library.has_timing_cache
        timings = self._set_timing_cache(config, timing_cache) if wants_timings else None
        memory = self._builder.build_serialized_network(network, config)
        plan = None if memory is None else bytes(memory)
        measured = bytes(timings.serialize()) if timings is not None and plan is not None else None
        return plan, measured, network.num_layers

    def _add_profile(self, network: Any, config: Any, profile: Profile) -> None:
        if network.num_inputs != 1 or network.num_outputs != 1:
            raise BuildFailed(
                f"the network has {network.num_inputs} inputs and {network.num_outputs} outputs instead of one of each",
                hint="it is not an ONNX file of a network that upscales pictures",
            )
        tensor = network.get_input(0)
        dims = tuple(tensor.shape)
        least, best, most = profile.shapes
        if len(dims) != len(best) or any(
            own not in (-1, low) or (own != -1 and low != high)
            for own, low, high in zip(dims, least, most, strict=True)
        ):
            raise BuildFailed(
                f"the network's input {tensor.name} has the shape {dims}, which profile {profile.text} does not fit",
                hint="export the network for these sizes, or with free sizes",
            )
        if -1 not in dims:
            return
        wanted = self._builder.create_optimization_profile()
        wanted.set_shape(tensor.name, least, best, most)
        if not wanted or config.add_optimization_profile(wanted) < 0:
            raise BuildFailed(
                f"{self._library.title} refuses profile {profile.text}: {self._lines.essence()}",
                hint="give min, opt and max in ascending order",
            )

    def _set_timing_cache(self, config: Any, content: bytes | None) -> Any:
        """Begin with earlier measurements; those of another machine are left aside with a word."""
        for known in (content, None):
            cache = config.create_timing_cache(known or b"")
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return cache
            if known:
                logger.warning("the timing cache does not fit this GPU and library; kernels are measured anew")
        return None


def _parse_error(library: TrtLibrary, parser: Any) -> BuildFailed:
    """All that the parser objects to, with operators and node names."""
    unsupported, others = [], []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        operator, node = error.node_operator(), error.node_name() or f"number {error.node()}"
        code = str(error.code()).rpartition(".")[2]
        if operator and ("Plugin not found" in error.desc() or code == "UNSUPPORTED_NODE"):
            unsupported.append(f"{operator} (node {node})")
        elif operator:
            others.append(f"{operator} (node {node}): {strip_source(error.desc())}")
        else:
            others.append(strip_source(error.desc()))
    problems = list(dict.fromkeys((*unsupported, *others)))
    shown = "; ".join(problems[:_LISTED_PROBLEMS])
    more = f"; and {len(problems) - _LISTED_PROBLEMS} more" if len(problems) > _LISTED_PROBLEMS else ""
    if unsupported:
        return BuildFailed(
            f"{library.title} cannot run {len(problems)} of the network's nodes: {shown}{more}",
            hint="export the network without these operators, or choose backend onnxruntime",
        )
    return BuildFailed(
        f"{library.title} cannot read the network: {shown or 'it gives no reason'}{more}",
        hint="check the file with: python -m engines export --model FILE",
    )


def _build_error(library: TrtLibrary, lines: LogLines, text: str) -> BuildFailed:
    said = lines.essence() or "it gives no reason"
    everything = "\n".join(lines.errors)
    hint = next((advice for words, advice in _HINTS if words in everything), "run with --verbose for the library's log")
    return BuildFailed(f"{library.title} cannot compile {text}: {said}", hint=hint)


def _first_number(patterns: tuple[re.Pattern[str], ...], lines: list[str]) -> int | None:
    for pattern in patterns:
        for line in reversed(lines):
            found = pattern.search(line)
            if found:
                return int(found[1])
    return None

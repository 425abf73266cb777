"""Lets some convolutions of a plan read float8 (e4m3): what they read is stored so as well, by whoever makes it.

Every stored value has one scale, every output of a kernel another: the scales of what is read are multiplied into the
weights before these are rounded, so that a result needs one factor per output. Sums are float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from engines.cudnn.e4m3 import LARGEST, rounded_to_e4m3
from engines.cudnn.steps import Array, Buffer, ConvStep, Plan, Slice, Step, reads

MULTIPLE: Final = 16
"""Channels of float8 tensors: 16 bytes. Source: cuDNN developer guide, alignment of tensors."""

HEADROOM: Final = 1.25
"""By how much a value may pass the largest that was seen before it is cut off. Cutting is what hurts: at half the
largest value seen the three networks lose 5 to 11 dB; a factor of two more costs none more than 0.1 dB."""


def narrow_candidates(plan: Plan) -> tuple[frozenset[str], ...]:
    """Names of convolutions that may run in float8 together, the largest set first.

    The first and the last convolution stay float16, and so does all above the size of the first: enlargements and what
    follows cost the most (see NOTES.md). The second set leaves out those that add two stored values, which end every
    third dense block of RRDBNet, the third set also those that add one, which end the others: their roundings go into
    the trunk that all that follows reads.
    """
    convs = [step for step in plan.steps if isinstance(step, ConvStep)]
    body = [
        step
        for step in convs[1:-1]
        if (step.height, step.width) == (convs[0].height, convs[0].width) and _is_narrowable(plan, step)
    ]
    sets = (frozenset(step.name for step in body if len(_added(step)) <= most) for most in (2, 1, 0))
    return tuple(dict.fromkeys(one for one in sets if one))


def narrow_plan(plan: Plan, *, names: Collection[str], peaks: Mapping[str, float]) -> Plan:
    """Let convolutions read float8.

    Args:
        plan: All in float16.
        names: Of the convolutions, out of one of `narrow_candidates`.
        peaks: Largest absolute value of every convolution's result, by name.
    """
    chosen = {index for index, step in enumerate(plan.steps) if isinstance(step, ConvStep) and step.name in names}
    buffers = list(plan.buffers)
    copies: dict[int, int] = {}
    for index in sorted(chosen):
        (source, *_) = reads(plan.steps[index])
        if source.buffer not in copies:
            copies[source.buffer] = len(buffers)
            buffers.append(_copy_of(plan.buffers[source.buffer]))
    steps: list[Step] = []
    for index, step in enumerate(plan.steps):
        if not isinstance(step, ConvStep):
            steps.append(step)
            continue
        changed = step
        target = step.target
        if target is not None and any(_overlap(target, reads(plan.steps[reader])[0]) for reader in chosen):
            narrow = replace(target, buffer=copies[target.buffer])
            is_read = any(_overlap(target, part) for part in _narrow_readers(plan, chosen))
            changed = replace(
                changed,
                narrow_target=narrow,
                narrow_scale=_scale_of(peaks[step.name]),
                target=target if is_read else None,
            )
        if index in chosen:
            scales = np.empty(step.source.channels, np.float32)
            for writer, part in _writers(plan, step.source):
                first = part.first - step.source.first
                scales[first : first + part.channels] = _scale_of(peaks[writer.name])
            kernel, descale = _narrowed(step.kernel, scales=scales)
            source = replace(step.source, buffer=copies[step.source.buffer])
            changed = replace(changed, source=source, kernel=kernel, descale=descale)
        steps.append(changed)
    return replace(plan, buffers=tuple(buffers), steps=tuple(steps))


def _narrowed(kernel: Array, *, scales: Array) -> tuple[Array, Array]:
    """A kernel in e4m3, and the factor of each output."""
    whole = kernel.astype(np.float64) * scales[:, np.newaxis, np.newaxis]
    largest = np.abs(whole).max(axis=(1, 2, 3))
    descale = np.where(largest > 0, largest / LARGEST, 1.0)
    return rounded_to_e4m3(whole / descale[:, np.newaxis, np.newaxis, np.newaxis]), descale.astype(np.float32)


def _scale_of(peak: float) -> float:
    """What a stored value is divided by."""
    return HEADROOM * max(peak, 1e-6) / LARGEST


def _is_narrowable(plan: Plan, step: ConvStep) -> bool:
    outputs, inputs = step.kernel.shape[:2]
    is_plain = step.target is not None and step.wide_target is None and step.target.step == step.source.step == 1
    if not is_plain or inputs % MULTIPLE or outputs % MULTIPLE:
        return False
    written = list(_writers(plan, step.source))
    return sum(part.channels for _, part in written) == step.source.channels and all(
        part.channels % MULTIPLE == 0 and part.first % MULTIPLE == 0 for _, part in written
    )


def _writers(plan: Plan, source: Slice) -> Iterator[tuple[ConvStep, Slice]]:
    """Convolutions whose results lie within a slice, and where."""
    for step in plan.steps:
        if not isinstance(step, ConvStep) or step.target is None or step.target.buffer != source.buffer:
            continue
        part = step.target
        is_within = source.first <= part.first and part.first + part.channels <= source.first + source.channels
        if is_within and part.step == 1:
            yield step, part


def _narrow_readers(plan: Plan, chosen: Collection[int]) -> Iterator[Slice]:
    """All that is still read in float16."""
    for index, step in enumerate(plan.steps):
        parts = reads(step)
        yield from parts[1:] if index in chosen else parts


def _added(step: ConvStep) -> tuple[Slice, ...]:
    return reads(step)[1:]


def _overlap(one: Slice, other: Slice) -> bool:
    return (
        one.buffer == other.buffer
        and one.first < other.first + other.channels
        and other.first < one.first + one.channels
    )


def _copy_of(buffer: Buffer) -> Buffer:
    return replace(buffer, name=f"{buffer.name} in float8", dtype="float8")

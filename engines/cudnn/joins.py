"""Steps that one kernel of ours can run together.

They are an enlargement with the convolution after it, and the last convolution with what finishes the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.cudnn.fused import FusedSignature, Place, place_of, signature_of
from engines.cudnn.hopper_steps import enlarging_kind, finishing_kind
from engines.cudnn.steps import ConvStep, EnlargeStep, FinishStep, Plan, Slice, reads


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Two neighbouring steps, one of which alone reads what the other writes."""

    conv: int
    """Index of the convolution."""
    other: int
    """Index of an `EnlargeStep` before it or of a `FinishStep` behind it."""

    @property
    def first(self) -> int:
        """Index of the earlier step."""
        return min(self.conv, self.other)

    @property
    def last(self) -> int:
        """Index of the later step, in whose place both run."""
        return max(self.conv, self.other)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSignature:
    """All that a joined kernel depends on beside addresses and weights."""

    conv: FusedSignature
    small: Place | None = None
    """What is enlarged."""
    finish: tuple[int, int, bool, bool] | None = None
    """Factor of the shuffle, colours, whether the input is added, whether pictures are float16."""


def find_joins(plan: Plan, *, is_half: bool) -> tuple[Join, ...]:
    """All pairs that a kernel of ours knows; no step is in two of them.

    Args:
        plan: Where to look.
        is_half: Whether the planar pictures are float16.
    """
    found: list[Join] = []
    for index in range(1, len(plan.steps)):
        before, step = plan.steps[index - 1], plan.steps[index]
        if isinstance(before, EnlargeStep) and isinstance(step, ConvStep):
            is_known = before.factor == 2 and before.source.step == 1 and enlarging_kind(step) is not None
            join, link = Join(conv=index, other=index - 1), before.target
            is_known = is_known and step.source == link
        elif isinstance(before, ConvStep) and isinstance(step, FinishStep):
            is_known = finishing_kind(before, step, is_half=is_half) is not None
            join, link = Join(conv=index - 1, other=index), step.source
            is_known = is_known and before.target == link
        else:
            continue
        is_free = not found or found[-1].last < join.first
        if is_known and is_free and _readers(plan, link) == 1:
            found.append(join)
    return tuple(found)


def join_signature(plan: Plan, join: Join, *, is_half: bool) -> JoinSignature:
    """Describe what a pair needs."""
    conv, other = plan.steps[join.conv], plan.steps[join.other]
    assert isinstance(conv, ConvStep)
    signature = signature_of(plan, conv)
    if isinstance(other, EnlargeStep):
        return JoinSignature(conv=signature, small=place_of(plan, other.source))
    assert isinstance(other, FinishStep)
    return JoinSignature(conv=signature, finish=(other.factor, other.colours, other.has_base, is_half))


def _readers(plan: Plan, part: Slice) -> int:
    return sum(one.buffer == part.buffer for step in plan.steps for one in reads(step))

"""Plans of ``engines.cudnn`` on the processor, under the name that tests know."""

from __future__ import annotations

from engines.cudnn.emulation import EmulatedPlan as PlanOnCpu

__all__ = ["PlanOnCpu"]

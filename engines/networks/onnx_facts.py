"""What running a user's network shows, beside what its file says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engines.networks.onnx_signature import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What running a network showed."""

    scale: int
    """Enlargement per side."""
    input_layout: Layout
    output_layout: Layout
    input_peak: float
    """Value of white at the input: 1 or 255."""
    output_peak: float
    """Value of white at the output: 1 or 255."""
    size_multiple: int = 1
    """What both sides must be divisible by."""
    min_px: int = 1
    """Shortest side that works."""
    fixed_batch: int | None = None
    """The only number of tiles per call that works; None if any does."""
    fixed_height: int | None = None
    """The only height that works; None if any does that fits ``size_multiple`` and ``min_px``."""
    fixed_width: int | None = None
    """The same for the width."""

    @property
    def trial_height(self) -> int:
        """A height that works, small."""
        return self.fixed_height or self.size_multiple * math.ceil(max(self.min_px, 16) / self.size_multiple)

    @property
    def trial_width(self) -> int:
        """A width that works, small."""
        return self.fixed_width or self.size_multiple * math.ceil(max(self.min_px, 16) / self.size_multiple)

"""Measures what a torch module costs by running it once: arithmetic, memory of activations, reach of kernels."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCosts:
    """What a module costs per input pixel, measured at one size."""

    flop_per_px: int
    """2 x multiply-adds of convolutions, matrix products and attention."""
    activation_bytes_per_px: int
    """Peak of the bytes that its operations' results occupy at once, float32, input included."""
    kernel_reach_px: int
    """Sum of the radii of all convolutions, in input pixels: as far as one output pixel can depend on the input, unless
    something other than convolutions carries values across the picture."""
    is_convolutional: bool
    """Whether nothing but convolutions carries values across the picture, as far as can be told: no matrix products
    and no attention."""


def run_measured(module: Module, tile: Tensor) -> tuple[Tensor, ModuleCosts]:
    """Run a module once and measure it.

    Args:
        module: float32, on the CPU, in evaluation mode.
        tile: (1, 3, H, W) float32.

    Returns:
        What the module returned, and its costs.

    Raises:
        Exception: Whatever the module raises.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    input_px = tile.shape[2] * tile.shape[3]
    live: Counter[int] = Counter()
    live_bytes = peak_bytes = tile.nbytes

    def release(address: int, byte_count: int) -> None:
        nonlocal live_bytes
        live[address] -= 1
        if not live[address]:
            del live[address]
            live_bytes -= byte_count

    class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Notes every array that an operation makes, until the last tensor on it is gone."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal live_bytes, peak_bytes
            results = func(*args, **(kwargs or {}))
            for result in tree_leaves(results):
                if isinstance(result, torch.Tensor):
                    storage = result.untyped_storage()
                    address, byte_count = storage.data_ptr(), storage.nbytes()
                    if address in own:
                        continue
                    if not live[address]:
                        live_bytes += byte_count
                        peak_bytes = max(peak_bytes, live_bytes)
                    live[address] += 1
                    weakref.finalize(result, release, address, byte_count).atexit = False
            return results

    own = {tensor.untyped_storage().data_ptr() for tensor in (tile, *module.parameters(), *module.buffers())}
    reaches: list[float] = []

    def note_reach(layer: Module, inputs: tuple[Any, ...], _: Any) -> None:
        assert isinstance(layer, torch.nn.Conv2d)
        steps_px = math.sqrt(input_px / max(1, inputs[0].shape[-2] * inputs[0].shape[-1]))
        radius = max(d * (k - 1) / 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        reaches.append(radius * steps_px)

    hooks = [
        layer.register_forward_hook(note_reach) for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)
    ]
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter, Ledger():  # type: ignore[no-untyped-call]
            result = module(tile)
    finally:
        for hook in hooks:
            hook.remove()
    kinds = {str(kind) for kind in counter.get_flop_counts().get("Global", {})}
    costs = ModuleCosts(
        flop_per_px=round(counter.get_total_flops() / input_px),
        activation_bytes_per_px=math.ceil(peak_bytes / input_px),
        kernel_reach_px=math.ceil(sum(reaches)),
        is_convolutional=bool(kinds) and all("conv" in kind for kind in kinds),
    )
    return result, costs

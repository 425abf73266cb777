"""spandrel imports torchvision for two architectures that are none of ours; where it does not work, names will do.

torchvision of the public index is built for CUDA, and fails to import beside the CPU's torch with a RuntimeError.
"""

from __future__ import annotations

import sys
from types import ModuleType


def install() -> None:
    """Make ``import spandrel`` work, with the real torchvision if that works. For the rest of the process."""
    if "spandrel" in sys.modules:
        return
    try:
        import torchvision  # noqa: F401
    except (ImportError, AttributeError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    else:
        return
    functional = ModuleType("torchvision.transforms.functional")
    for name in ("InterpolationMode", "normalize", "rotate"):
        setattr(functional, name, _missing)
    transforms = ModuleType("torchvision.transforms")
    package = ModuleType("torchvision")
    transforms.functional = functional  # type: ignore[attr-defined]
    package.transforms = transforms  # type: ignore[attr-defined]
    for module in (package, transforms, functional):
        sys.modules[module.__name__] = module


def _missing(*_: object, **__: object) -> None:
    raise NotImplementedError("torchvision is not there")


_missing.BILINEAR = _missing.NEAREST = 0  # type: ignore[attr-defined]

"""NVIDIA's cuDNN through its Python front end: found, and new enough, or an error that says what is missing."""

from __future__ import annotations

from typing import Any, Final

from engines.errors import BackendUnavailable

INSTALL: Final = 'pip install "nightscale[cudnn]"'

LEAST_VERSION: Final = 91000
"""Of cuDNN, as it numbers itself: 9.10.0. It was run with 9.19; front end 1.32 is made for cuDNN 9."""


def load_cudnn() -> Any:
    """Import the module ``cudnn`` of nvidia-cudnn-frontend; needs no GPU.

    Raises:
        BackendUnavailable: It or cuDNN itself is not installed, or too old.
    """
    try:
        import cudnn
    except (ImportError, OSError, RuntimeError) as exc:  # the last two: libcudnn, or what it needs, cannot be loaded
        is_absent = isinstance(exc, ModuleNotFoundError) and exc.name == "cudnn"
        missing = "nvidia-cudnn-frontend" if is_absent else "cuDNN"
        what = "nvidia-cudnn-frontend is not installed" if is_absent else f"cuDNN cannot be loaded: {exc}"
        raise BackendUnavailable(f"backend cudnn cannot be used: {what}", missing=missing, hint=INSTALL) from exc
    try:
        version = int(cudnn.backend_version())
    except (AttributeError, OSError, RuntimeError) as exc:
        raise BackendUnavailable(
            f"backend cudnn cannot be used: cuDNN does not say its version: {exc}", missing="cuDNN", hint=INSTALL
        ) from exc
    if version < LEAST_VERSION:
        raise BackendUnavailable(
            f"backend cudnn needs cuDNN {words_of(LEAST_VERSION)} or newer; here is {words_of(version)}",
            missing="cuDNN",
            hint="pip install --upgrade nvidia-cudnn-cu13",
        )
    return cudnn


def words_of(version: int) -> str:
    """A version of cuDNN as people write it: 91900 is 9.19.0. Source: ``CUDNN_VERSION`` in cudnn_version.h."""
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"

"""Where frames are between decoder and encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engines.errors import BackendUnavailable
from pipeline.decode import DecoderChoice, DecoderKind, choose_decoder
from pipeline.errors import ConfigError, SetupError

if TYPE_CHECKING:
    from engines import BackendChoice
    from pipeline.media import MediaInfo

FramesOn = Literal["gpu", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesChoice:
    """Where frames are between decoder and encoder, and why."""

    place: FramesOn
    reason: str
    """One sentence for the start line; empty where there is no choice, as no NVIDIA GPU computes."""


def choose_frames_place(wanted: Literal["auto", "gpu", "cpu"], *, backend: BackendChoice) -> FramesChoice:
    """Decide where frames are.

    ``auto`` keeps them on an NVIDIA GPU that computes, where all that this needs is installed. Measured on an H200,
    realesr-animevideov3 with PyTorch in fp16, 1280x720 to 2560x1440, nothing encoded: 122.5 of the engine's 123.2 fps
    with frames on the GPU, 68.2 in the host's memory (tools/results). Frames are within one code of the other way's
    (tests/gpu/test_pipeline_gpu.py).

    Args:
        wanted: ``run.frames_on``.
        backend: What runs the network.

    Raises:
        ConfigError: They are to be on a GPU, but the network does not run on an NVIDIA GPU.
    """
    is_on_cuda = backend.device_id.partition(":")[0] == "cuda"
    if not is_on_cuda:
        if wanted == "gpu":
            raise ConfigError(
                (f"run.frames_on: must not be gpu where {backend.backend} runs the network on {backend.device}",),
                hint="set infer.device: cuda, or run.frames_on: auto",
            )
        return FramesChoice(place="cpu", reason="")
    if wanted == "auto":
        try:
            check_gpu_frames(backend)
        except (BackendUnavailable, SetupError) as exc:
            hint = f" ({exc.hint})" if exc.hint else ""
            return FramesChoice(
                place="cpu", reason=f"are in the host's memory between decoder and encoder: {exc}{hint}"
            )
        return FramesChoice(place="gpu", reason="stay on the GPU between decoder and encoder (run.frames_on: auto)")
    place = "stay on the GPU" if wanted == "gpu" else "are in the host's memory"
    return FramesChoice(place=wanted, reason=f"{place} between decoder and encoder, as run.frames_on says")


def check_gpu_frames(backend: BackendChoice) -> None:
    """Make sure that frames can be kept on a GPU: PyTorch, for one, runs there without what our kernels need.

    Raises:
        BackendUnavailable: CUDA cannot be used from Python.
        SetupError: The kernels cannot be compiled.
    """
    from engines.gpu.cuda import open_device
    from pipeline.cuda.compile import KernelCompiler

    KernelCompiler(open_device(device_index(backend)).compute_capability)


def choose_film_decoder(
    kind: DecoderKind, info: MediaInfo, *, frames: FramesChoice, backend: BackendChoice
) -> DecoderChoice:
    """Choose the decoder of a film; a hardware one by itself only where frames stay on the GPU.

    Args:
        kind: ``decode.kind``.
        info: The film.
        frames: Where frames are.
        backend: What runs the network.

    Raises:
        BackendUnavailable: The GPU cannot be opened.
        SetupError, UnsupportedMedia, MediaError: See ``choose_decoder``.
    """
    device = None
    if frames.place == "gpu" and kind in ("auto", "nvdec") and info.pictures is None:
        from engines.gpu.cuda import open_device

        device = open_device(device_index(backend))
    return choose_decoder(kind, info, device=device)


def device_index(backend: BackendChoice) -> int:
    """CUDA ordinal of the GPU that a backend was chosen for."""
    number = backend.device_id.partition(":")[2]
    return int(number) if number else 0

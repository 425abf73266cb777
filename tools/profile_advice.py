"""Which one setting is most likely to make a run faster: a table of rules, from what limits it on what machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engines import MODELS, BackendChoice
from pipeline.plan import JobPlan
from tools.profile_figures import Figures

FULL = 0.9
"""Share from which on a processor or a GPU counts as full: the rest goes to waking threads and launching kernels."""
SPARE_OVERLAP = 1.25
"""Computed pixels for each pixel of the film from which on larger tiles are worth more than noise."""

SMALLEST_MODEL = "realesr-animevideov3"
"""The least arithmetic for a pixel of all networks in ``engines.MODELS``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules look at."""

    stage: str
    """The one that limits."""
    cores: int
    """That this process may use."""
    cores_used: float
    """Mean, by this process."""
    cores_wanted: float
    """In addition: threads that could run, but had no core."""
    is_on_gpu: bool
    """Frames stay on it."""
    has_gpu: bool
    """The network runs on an NVIDIA GPU."""
    gpu_busy: float
    """Share of the time in which the network computed there; 0 where that is not known."""
    lanes: int
    encoder: str
    is_hardware_encoder: bool
    faster_preset: str
    """The encoder's next faster one; empty if there is none."""
    decoder: str
    backend: str
    precision: str
    has_smaller_model: bool
    """Whether `SMALLEST_MODEL` has less to compute."""
    computed_share: float
    """Pixels that the network computes, for each of the film."""
    waits_for_buffers: float
    """Largest share of any stage's time."""

    @property
    def is_processor_full(self) -> bool:
        """Whether more threads could do nothing more."""
        return self.cores_used + self.cores_wanted >= FULL * self.cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of the table."""

    stage: str
    """Which limits; empty: any."""
    applies: Callable[[Facts], bool]
    setting: str
    """As ``--set`` takes it; with ``{lanes}`` for twice as many lanes and ``{preset}`` for the next faster preset."""
    reason: str


RULES: tuple[Rule, ...] = (
    Rule(
        stage="decode",
        applies=lambda f: f.is_on_gpu and f.decoder != "nvdec",
        setting="decode.kind=nvdec",
        reason="the GPU has a decoder of its own, and its frames need no copy",
    ),
    Rule(
        stage="decode",
        applies=lambda f: not f.is_processor_full and f.lanes < f.cores,
        setting="run.lanes={lanes}",
        reason="each lane has a decoder at another place of the film, and the processor has cores to spare",
    ),
    Rule(
        stage="decode",
        applies=lambda f: f.is_processor_full and bool(f.faster_preset),
        setting="encode.preset={preset}",
        reason="the processor is full: what the encoder does not take is the decoder's",
    ),
    Rule(
        stage="encode",
        applies=lambda f: f.has_gpu and not f.is_hardware_encoder,
        setting="encode.kind=hevc_nvenc",
        reason="the GPU has an encoder of its own, where it has one (an H100, H200 or A100 has none: then "
        "run.lanes or a faster encode.preset)",
    ),
    Rule(
        stage="encode",
        applies=lambda f: not f.is_processor_full and f.lanes < f.cores // 2,
        setting="run.lanes={lanes}",
        reason="one encoder does not use all cores; several, each for its own segment, do",
    ),
    Rule(
        stage="encode",
        applies=lambda f: f.encoder in {"libx264", "libx265", "libsvtav1"} and bool(f.faster_preset),
        setting="encode.preset={preset}",
        reason="a faster preset takes a part of the processor's time, for a somewhat larger file",
    ),
    Rule(
        stage="encode",
        applies=lambda f: f.encoder in {"ffv1", "prores_ks", "png"},
        setting="encode.kind=libx264",
        reason="it is several times as fast and writes far less to the disk; no longer without any loss",
    ),
    Rule(
        stage="upscale",
        applies=lambda f: f.precision == "fp32" and f.has_gpu,
        setting="infer.precision=fp16",
        reason="half the memory traffic, and tensor cores: four times as fast on an H200 (README)",
    ),
    Rule(
        stage="upscale",
        applies=lambda f: f.precision == "fp32" and f.backend == "openvino",
        setting="infer.precision=bf16",
        reason="twice as fast where the processor has bf16 instructions, 54 dB from fp32 (README)",
    ),
    Rule(
        stage="upscale",
        applies=lambda f: f.computed_share >= SPARE_OVERLAP,
        setting="tile.max_px=1024",
        reason="tiles overlap so much that the network computes many pixels twice; larger tiles overlap less",
    ),
    Rule(
        stage="upscale",
        applies=lambda f: f.is_on_gpu and 0 < f.gpu_busy < FULL,
        setting="run.lanes={lanes}",
        reason="the GPU has pauses between two inferences, which other lanes fill",
    ),
    Rule(
        stage="upscale",
        applies=lambda f: f.has_gpu and f.backend == "torch",
        setting="infer.backend=tensorrt",
        reason="a compiled engine fuses what PyTorch computes layer by layer",
    ),
    Rule(
        stage="upscale",
        applies=lambda f: not f.has_gpu and f.has_smaller_model,
        setting=f"infer.model={SMALLEST_MODEL}",
        reason="the network takes the processor's time; only a smaller network (or a GPU) makes that less, and this is "
        "the smallest of Real-ESRGAN",
    ),
    Rule(
        stage="tile",
        applies=lambda f: f.waits_for_buffers > 0.1,
        setting="queues.tile_batches=4",
        reason="stages wait for free buffers; longer queues have more of them",
    ),
    Rule(
        stage="tile",
        applies=lambda f: f.has_gpu and not f.is_on_gpu,
        setting="run.frames_on=gpu",
        reason="the GPU cuts tiles and converts colours far faster than one thread of the processor",
    ),
    Rule(
        stage="stitch",
        applies=lambda f: f.has_gpu and not f.is_on_gpu,
        setting="run.frames_on=gpu",
        reason="the GPU joins, resamples and converts far faster than one thread of the processor",
    ),
    Rule(
        stage="",
        applies=lambda f: f.lanes < f.cores and not f.is_processor_full and f.stage in {"tile", "stitch"},
        setting="run.lanes={lanes}",
        reason="this stage has one thread in each lane, and the processor has cores to spare",
    ),
)
"""The first that applies is named."""

MOST_LANES = 16
"""Of ``run.lanes``."""
NOTHING = "no setting, but another network, size or machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is most likely to help."""

    setting: str
    """As ``--set`` takes it; empty if there is none."""
    reason: str


def advise(facts: Facts) -> Advice:
    """Go through the table."""
    for rule in RULES:
        if rule.stage in ("", facts.stage) and rule.applies(facts):
            setting = rule.setting.format(lanes=min(MOST_LANES, 2 * facts.lanes), preset=facts.faster_preset)
            return Advice(setting=setting, reason=rule.reason)
    return Advice(setting="", reason=NOTHING)


def facts_of(plan: JobPlan, figures: Figures, *, cores: int) -> Facts:
    """What the rules look at, of a run."""
    return Facts(
        stage=figures.verdict.stage,
        cores=cores,
        cores_used=sum(thread.cpu_share for thread in figures.threads),
        cores_wanted=sum(thread.queued_share for thread in figures.threads),
        is_on_gpu=plan.is_on_gpu,
        has_gpu=_is_nvidia(plan.backend),
        gpu_busy=next((kind.busy_share for kind in figures.gpu if kind.kind == "engine"), 0.0),
        lanes=plan.lanes,
        encoder=plan.encode.encoder.name,
        is_hardware_encoder=plan.encode.encoder.is_hardware,
        faster_preset=_faster_preset(plan),
        decoder=plan.decoder.kind,
        backend=plan.backend.backend,
        precision=plan.backend.precision,
        has_smaller_model=plan.model.flop_per_px > MODELS[SMALLEST_MODEL].flop_per_px,
        computed_share=plan.grid.computed_px / (plan.grid.height * plan.grid.width),
        waits_for_buffers=max(stage.shares["unbuffered"] for stage in figures.stages),
    )


def _is_nvidia(backend: BackendChoice) -> bool:
    return backend.device_id.startswith("cuda")


def _faster_preset(plan: JobPlan) -> str:
    """The preset behind the run's own in the encoder's list, which goes from the slowest to the fastest."""
    encoder = plan.encode.encoder
    if encoder.is_hardware or not encoder.codec:
        return ""
    presets, own = list(encoder.presets), plan.encode.preset or encoder.default_preset
    behind = presets[presets.index(own) + 1 :] if own in presets else []
    return behind[0] if behind else ""

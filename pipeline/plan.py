"""Everything that is decided about one film before anything starts: `plan_film` asks, compares and computes; it opens
no encoder for good, compiles no network and writes nothing.

The numbers a user wants before a night begins (tiles, segments, memory, disk) follow from the decisions. How long it
will take does not follow from anything: `measure_pace` runs the network itself for a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines import BackendChoice, ModelSpec
from pipeline.assembly.containers import StreamPlan, choose_container, plan_streams
from pipeline.budget import PoolPlan, limit_tiles, plan_grid, plan_pools
from pipeline.config import Config
from pipeline.decode import DecoderChoice, check_progressive, choose_decoder, probe_synthetic
from pipeline.encode import EncodeSpec, check_encoder, choose_encoder
from pipeline.engine import ModelFile, choose_engine, find_network, list_model_files
from pipeline.errors import ConfigError
from pipeline.frames import MediaInfo
from pipeline.probe import probe_media
from pipeline.segments import frames_per_segment
from pipeline.sizes import choose_output_size
from pipeline.tiling import TileGrid

SLOWEST_FLOP_PER_S = 5e10
"""Below this arithmetic a machine counts as stalled: a ninth of what two cores of a 2024 server reach (0.43 TFLOP/s
in bf16, engines/README.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """How one film will be upscaled."""

    config: Config
    info: MediaInfo
    decoder: DecoderChoice
    model: ModelSpec
    model_files: tuple[ModelFile, ...]
    """What the network is read from: its identity, beside the config's. Empty for networks without weights."""
    backend: BackendChoice
    engine_scale: int
    """Enlargement that the engine does; less than the model's own where a downscale is folded in."""
    slots: int
    """Inferences in flight."""
    grid: TileGrid
    overlap_px: int
    encode: EncodeSpec
    encoder_reason: str
    container: str
    """``mkv``, ``mp4``, ``mov``; ``png`` for a folder of pictures; empty if nothing is written."""
    streams: StreamPlan | None
    """What happens to the other streams; None if the output has none (pictures, null)."""
    output: Path
    """File, or folder for pictures."""
    segment_frames: int
    """Frames in each segment but the last."""
    pools: tuple[PoolPlan, ...]
    """Tiles in, tiles out, finished frames."""
    warnings: tuple[str, ...]
    """What of the source will not arrive, one sentence each. What was guessed about it is in ``info.guesses``."""

    @property
    def height(self) -> int:
        """Output height, pixels."""
        return self.encode.height

    @property
    def width(self) -> int:
        """Output width, pixels."""
        return self.encode.width

    @property
    def is_written(self) -> bool:
        """Whether the run leaves a file."""
        return bool(self.container)

    @property
    def frame_count_estimated(self) -> int | None:
        """Frames to expect."""
        return self.info.video.frame_count_estimated

    @property
    def resamples(self) -> bool:
        """Whether the engine's output has to be resampled to the output size."""
        enlarged = (self.grid.height * self.engine_scale, self.grid.width * self.engine_scale)
        return enlarged != (self.height, self.width)

    @property
    def memory_bytes_estimated(self) -> int:
        """Of the host: pools, frames in decoder and encoder queues, canvases; on the processor also activations."""
        activations = int(self.model.activation_bytes_per_px * self.backend.activation_share * self.computing_px)
        pools = sum(pool.bytes for pool in self.pools)
        return pools + self.decoded_bytes + self.canvas_bytes + activations

    @property
    def computing_px(self) -> int:
        """Input pixels that the network works on at one moment."""
        tile_px = self.grid.tile_height * self.grid.tile_width
        return tile_px * self.config.infer.batch_tiles * self.backend.streams

    @property
    def device_bytes_estimated(self) -> int:
        """Of the GPU that the network runs on: activations, and float32 tiles in and out of every inference in flight.

        0 on the processor, and where nobody can say how much the GPU has.
        """
        if self.backend.device_memory_bytes is None:
            return 0
        bytes_per_px = self.model.activation_bytes_per_px  # for fp32
        activations = self.computing_px * (bytes_per_px if self.backend.precision == "fp32" else bytes_per_px // 2)
        tile_px = self.grid.tile_height * self.grid.tile_width * self.config.infer.batch_tiles
        return activations + tile_px * 12 * (1 + self.engine_scale**2) * self.slots

    @property
    def decoded_bytes(self) -> int:
        """Frames that wait between decoder and tiler, and one in the hands of each."""
        frame_bytes = self.info.video.format.frame_bytes(height=self.grid.height, width=self.grid.width)
        return frame_bytes * (self.config.queues.decoded_frames + 2)

    @property
    def stall_timeout_s(self) -> float:
        """``run.stall_timeout_s``, or longer where one batch alone may take that long on a very slow machine."""
        batch_px = self.grid.tile_height * self.grid.tile_width * self.config.infer.batch_tiles
        slowest_s = self.model.flop_per_px * batch_px * (self.slots + 1) / SLOWEST_FLOP_PER_S
        return max(self.config.run.stall_timeout_s, slowest_s)

    @property
    def canvas_bytes(self) -> int:
        """float32 RGB images that tiler and stitcher keep: source, enlarged, resampled, each only if needed."""
        return self.canvas_bytes_if(is_cut=len(self.grid.tiles) > 1)

    def canvas_bytes_if(self, *, is_cut: bool) -> int:
        """``canvas_bytes`` with the frame cut into tiles or not."""
        source_px = self.grid.height * self.grid.width
        pixels = source_px * (1 + self.engine_scale**2) if is_cut else 0
        if self.resamples:
            pixels += self.height * self.width * 2  # the result, and the pass between the two directions
        return pixels * 12


def probe_film(config: Config, path: Path | None) -> MediaInfo:
    """Find out about one film of a config.

    Args:
        config: The run.
        path: One of ``config.input.paths``; None for the synthetic film.

    Raises:
        MediaError: It cannot be upscaled.
    """
    if path is not None:
        return probe_media(path)
    return probe_synthetic(config.decode.synthetic)


def plan_film(config: Config, info: MediaInfo) -> JobPlan:
    """Decide how a film is upscaled.

    Args:
        config: The run.
        info: The film, from ``probe_media`` or of a synthetic one.

    Returns:
        The plan. The same config, film and machine state give the same plan.

    Raises:
        UnsupportedMedia: The film is interlaced.
        ConfigError: Settings that cannot be combined for this film: encoder and format, container and streams.
        EngineError: The model or backend named cannot be used.
        SetupError: The encoder is missing.
    """
    check_progressive(info)
    video = info.video
    model = find_network(config.infer)
    backend = choose_engine(config.infer, model=model)
    limits = limit_tiles(config, model=model, backend=backend)
    choice = choose_encoder(
        config.encode.kind,
        codec=config.encode.codec,
        source=video.format,
        bit_depth=config.encode.bit_depth,
        chroma=config.encode.chroma,
    )
    scale = config.scale
    height, width = choose_output_size(
        height=video.height,
        width=video.width,
        model_scale=model.scale,
        subsampling=choice.format.subsampling,
        factor=scale.factor,
        to_height=scale.height,
        to_width=scale.width,
        fit=None if scale.fit is None else (scale.fit.height, scale.fit.width),
    )
    encode = EncodeSpec(
        encoder=choice.spec,
        height=height,
        width=width,
        format=choice.format,
        tags=choice.tags(video.tags),
        time_base=video.time_base,
        average_rate=video.average_rate,
        sample_aspect=video.sample_aspect,
        quality=config.encode.quality,
        preset=config.encode.preset,
        options=dict(config.encode.options),
        threads=config.encode.threads,
        mastering_display=video.mastering_display,
        content_light=video.content_light,
    )
    check_encoder(encode)
    container = choose_container(config.output.container, info=info, encoder=choice.spec)
    streams = plan_streams(info, container=container, encoder=choice.spec) if container not in ("", "png") else None
    if streams is not None and streams.problems:
        raise ConfigError(streams.problems, hint="set output.container: mkv, which holds all of them")
    engine_scale = _engine_scale(config, model, info, height=height, width=width)
    draft = JobPlan(
        config=config,
        info=info,
        decoder=choose_decoder(config.decode.kind),
        model=model,
        model_files=list_model_files(model),
        backend=backend,
        engine_scale=engine_scale,
        slots=backend.slots,
        grid=limits.largest_grid(height=video.height, width=video.width),
        overlap_px=limits.overlap_px,
        encode=encode,
        encoder_reason=choice.reason,
        container=container,
        streams=streams,
        output=_output_path(config, info, model, container=container, height=height, width=width),
        segment_frames=frames_per_segment(config.output.segment_s, average_rate=video.average_rate),
        pools=(),
        warnings=() if streams is None else streams.warnings,
    )
    return plan_pools(plan_grid(draft, limits))


def _engine_scale(config: Config, model: ModelSpec, info: MediaInfo, *, height: int, width: int) -> int:
    """The smallest enlargement that the network can fold to and that gives the output size exactly."""
    if config.scale.fold:
        for scale in model.output_scales:
            if (info.video.height * scale, info.video.width * scale) == (height, width):
                return scale
    return model.scale


def _output_path(config: Config, info: MediaInfo, model: ModelSpec, *, container: str, height: int, width: int) -> Path:
    name = config.output.format_name(
        stem=info.path.stem, height=height, width=width, model=model.name, factor=height / info.video.height
    )
    suffix = f".{container}" if container not in ("", "png") else ""
    return config.output.dir / f"{name}{suffix}"

"""Everything that is decided about one film before anything starts: `plan_film` asks, compares and computes; it opens
no encoder for good, compiles no network and writes nothing.

The numbers a user wants before a night begins (tiles, segments, memory, disk) follow from the decisions. How long it
will take does not follow from anything: `measure_pace` runs the network itself for a moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from engines import BackendChoice, ModelSpec
from pipeline.assembly.containers import StreamPlan, choose_container, plan_streams
from pipeline.budget import limit_tiles, plan_grid
from pipeline.config import Config
from pipeline.decode import DecoderChoice, probe_synthetic
from pipeline.decode.deinterlace_plan import Deinterlacing, plan_fields
from pipeline.device.choice import FramesChoice, choose_film_decoder, choose_frames_place
from pipeline.device.decoder_memory import estimate_decoder_bytes
from pipeline.device.layout import FLOAT_ROW_PX
from pipeline.encode import EncodeSpec, describe_hdr_losses, describe_losses
from pipeline.encoding import plan_encoding
from pipeline.engine import ModelFile, choose_engine, find_network, list_model_files
from pipeline.errors import ConfigError
from pipeline.inputs.output_names import place_output
from pipeline.inputs.pictures import is_picture_source, is_sequence
from pipeline.lane_plan import plan_lanes
from pipeline.media import MediaInfo
from pipeline.picture_plan import plan_pictures
from pipeline.pool_plan import PoolPlan, plan_pools
from pipeline.probe import probe_media
from pipeline.seen import SeenChoice, choose_seen
from pipeline.segments import frames_per_segment
from pipeline.tiling import TileGrid, round_up
from pipeline.tuned import Tuned, take_tuned

SLOWEST_FLOP_PER_S = 5e10
"""Below this arithmetic a machine counts as stalled: a ninth of what two cores of a 2024 server reach (0.43 TFLOP/s
in bf16, engines/README.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """How one film will be upscaled."""

    config: Config
    """What the config says, and for what it leaves to ``auto``, what ``tuned`` says."""
    info: MediaInfo
    """The film as its frames leave the decoder, deinterlaced if it is to be."""
    decoder: DecoderChoice
    model: ModelSpec
    model_files: tuple[ModelFile, ...]
    """What the network is read from: its identity, beside the config's. Empty for networks without weights."""
    backend: BackendChoice
    engine_scale: int
    """Enlargement that the engine does; less than the model's own where a downscale is folded in."""
    slots: int
    """Inferences in flight."""
    frames: FramesChoice
    """Where frames are between decoder and encoder."""
    grid: TileGrid
    overlap_px: int
    encode: EncodeSpec
    encoder_reason: str
    container: str
    """``mkv``, ``mp4``, ``mov``; ``png`` for a folder of pictures, ``picture`` for one; empty if nothing is written."""
    streams: StreamPlan | None
    """What happens to the other streams; None if the output has none (pictures, null)."""
    output: Path
    """File, or folder for pictures."""
    segment_frames: int
    """Frames in each segment but the last."""
    pools: tuple[PoolPlan, ...]
    """All buffers of one lane, in the order in which frames pass them. Always ``tiles in``, ``tiles out`` and, unless
    frames are encoded on the GPU, ``frames out``; with frames on the GPU also those around its kernels."""
    lanes: int = 1
    """Segments that are worked on at once, each with stages, pools, a decoder and an encoder of its own."""
    lanes_reason: str = ""
    """Why that many, a clause."""
    deinterlacing: Deinterlacing | None = None
    """How frames are made of the film's fields; None for films without."""
    seen: SeenChoice = field(default_factory=SeenChoice)
    """What the network sees of the film's codes."""
    tuned: Tuned | None = None
    """What is known from ``tools/tune.py``; None if nothing is."""
    warnings: tuple[str, ...]
    """What of the source will not arrive, one sentence each. What was guessed about it is in ``info.guesses``."""

    @property
    def wished(self) -> Config:
        """The config as it was given: what makes one run the same as another."""
        return self.config if self.tuned is None else self.tuned.wished

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
        canvases = 0 if self.is_on_gpu else self.canvas_bytes
        return (self.host_pool_bytes + self.decoded_bytes + canvases) * self.lanes + activations

    @property
    def is_on_gpu(self) -> bool:
        """Whether frames stay in a GPU's memory between decoder and encoder."""
        return self.frames.place == "gpu"

    @property
    def encodes_on_gpu(self) -> bool:
        """Whether finished frames stay there as well, for an encoder that reads them in that memory."""
        return self.is_on_gpu and bool(self.encode.surface_format)

    @property
    def host_pool_bytes(self) -> int:
        """Pools in the host's memory, page-locked or not."""
        return sum(pool.bytes for pool in self.pools if pool.place != "device")

    @property
    def device_pool_bytes(self) -> int:
        """Pools in the GPU's memory."""
        return sum(pool.bytes for pool in self.pools if pool.place == "device")

    def pool(self, name: str) -> PoolPlan:
        """One of ``pools``.

        Raises:
            KeyError: There is none of that name.
        """
        return {pool.name: pool for pool in self.pools}[name]

    @property
    def computing_px(self) -> int:
        """Input pixels that the network works on at one moment."""
        tile_px = self.grid.tile_height * self.grid.tile_width
        return tile_px * self.config.infer.batch * self.backend.streams

    @property
    def device_bytes_estimated(self) -> int:
        """Of the GPU that the network runs on: activations, float32 tiles in and out of every inference in flight, and
        with frames on the GPU their pools and the passes of resampling; and what its decoder holds.

        0 on the processor, and where nobody can say how much the GPU has.
        """
        if self.backend.device_memory_bytes is None:
            return 0
        frames_bytes = (self.device_pool_bytes + self.resampling_bytes) * self.lanes if self.is_on_gpu else 0
        frames_bytes += self.decoder_bytes_estimated * self.lanes
        bytes_per_px = self.model.activation_bytes_per_px  # for fp32
        activations = self.computing_px * (bytes_per_px if self.backend.precision == "fp32" else bytes_per_px // 2)
        tile_px = self.grid.tile_height * self.grid.tile_width * self.config.infer.batch
        return activations + tile_px * 12 * (1 + self.engine_scale**2) * self.slots + frames_bytes

    @property
    def decoder_bytes_estimated(self) -> int:
        """On the GPU, what each lane's hardware decoder holds by itself; 0 without one."""
        return estimate_decoder_bytes(self.info.video) if self.decoder.kind == "nvdec" else 0

    @property
    def resampling_bytes(self) -> int:
        """On the GPU, the float32 RGB image between resampling's two passes: output rows of the enlarged width."""
        return self.height * round_up(self.grid.width * self.engine_scale, FLOAT_ROW_PX) * 12 if self.resamples else 0

    @property
    def decoded_bytes(self) -> int:
        """Frames that wait between decoder and tiler, and one in the hands of each."""
        frame_bytes = self.info.video.format.frame_bytes(height=self.grid.height, width=self.grid.width)
        return frame_bytes * (self.config.queues.decoded_frames + 2)

    @property
    def stall_timeout_s(self) -> float:
        """``run.stall_timeout_s``, or longer where one batch alone may take that long on a very slow machine."""
        batch_px = self.grid.tile_height * self.grid.tile_width * self.config.infer.batch
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
    if path is None:
        return probe_synthetic(config.decode.synthetic)
    if is_picture_source(path) or is_sequence(path):
        from pipeline.decode.images import probe_images

        return probe_images(path, rate=config.input.image_rate)
    info = probe_media(path)
    if config.decode.field_order == "progressive":
        return info
    from pipeline.decode.field_scan import scan_fields

    return replace(info, video=replace(info.video, fields=scan_fields(info)))


def plan_film(config: Config, info: MediaInfo) -> JobPlan:
    """Decide how a film is upscaled.

    Args:
        config: The run.
        info: The film, from ``probe_media`` or of a synthetic one.

    Returns:
        The plan. The same config, film and machine state give the same plan.

    Raises:
        UnsupportedMedia: The film is interlaced, and is not to be deinterlaced.
        ConfigError: Settings that cannot be combined for this film: encoder and format, container and streams.
        OutputError: No file can have the name of the result.
        EngineError: The model or backend named cannot be used.
        SetupError: The encoder is missing.
    """
    fields = plan_fields(config.decode, info, findings=info.video.fields)
    pictures = plan_pictures(config, fields.info)
    info = pictures.info
    video = info.video
    model = find_network(config.infer)
    backend = choose_engine(config.infer, model=model)
    frames = choose_frames_place(config.run.frames_on, backend=backend)
    limits = limit_tiles(config, model=model, backend=backend)
    encode, encoder_reason = plan_encoding(config, info, model=model, encode=pictures.encode)
    height, width = encode.height, encode.width
    container = choose_container(config.output.container, info=info, encoder=encode.encoder)
    streams = None
    if container not in {"", "png", "picture"}:
        leave_out = config.output.unheld_streams == "drop"
        streams = plan_streams(info, container=container, encoder=encode.encoder, leave_out_unheld=leave_out)
        if streams.problems:
            other = "output.container: mkv, which holds most kinds, or " if container != "mkv" else ""
            raise ConfigError(
                streams.problems, hint=f"set {other}output.unheld_streams: drop, which leaves such streams out"
            )
    engine_scale = _engine_scale(config, model, info, height=height, width=width)
    draft = JobPlan(
        config=config,
        info=info,
        decoder=choose_film_decoder(
            config.decode.kind, fields.coded if info.pictures is None else info, frames=frames, backend=backend
        ),
        model=model,
        model_files=list_model_files(model),
        backend=backend,
        engine_scale=engine_scale,
        slots=backend.slots if config.infer.slots == "auto" else config.infer.slots,
        frames=frames,
        grid=limits.largest_grid(height=video.height, width=video.width),
        overlap_px=limits.overlap_px,
        encode=encode,
        encoder_reason=encoder_reason,
        container=container,
        streams=streams,
        output=_output_path(config, info, model, container=container, height=height, width=width),
        segment_frames=frames_per_segment(config.output.segment_s, average_rate=video.average_rate),
        pools=(),
        deinterlacing=fields.deinterlacing,
        seen=choose_seen(config.infer.hdr, video),
        warnings=(
            *fields.warnings,
            *pictures.warnings,
            *describe_hdr_losses(video, encode),
            *describe_losses(encode),
            *(() if streams is None else streams.warnings),
        ),
    )
    if config.run.tuned:
        draft = take_tuned(draft)
        limits = limit_tiles(draft.config, model=model, backend=backend)
    return plan_lanes(plan_pools(plan_grid(draft, limits)))


def _engine_scale(config: Config, model: ModelSpec, info: MediaInfo, *, height: int, width: int) -> int:
    """The smallest enlargement that the network can fold to and that gives the output size exactly."""
    if config.scale.fold:
        for scale in model.output_scales:
            if (info.video.height * scale, info.video.width * scale) == (height, width):
                return scale
    return model.scale


def _output_path(config: Config, info: MediaInfo, model: ModelSpec, *, container: str, height: int, width: int) -> Path:
    name = config.output.format_name(
        source=info.path, height=height, width=width, model=model.name, factor=height / info.video.height
    )
    return place_output(config.output.dir, name, container=container)

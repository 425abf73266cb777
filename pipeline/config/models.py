"""What a run can be told: one frozen pydantic model per concern, joined in `Config`.

Every field has a default, a constraint, a unit and a docstring, which is also its text in ``configs/schema.json``
(checked by ``tools/check_config_docs.py``). Rules about several keys live in ``Section.rules`` and name all of them.
Reading files is `pipeline.config.load`'s work, digests are `pipeline.config.digest`'s.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.config.infer import InferSection
from pipeline.config.inputs import InputSection
from pipeline.config.outputs import OutputSection
from pipeline.config.run import QueueSection, RunSection
from pipeline.config.types import (
    Auto,
    OptionName,
    OptionText,
    Rate,
    RuleBroken,
    Section,
    SidePx,
    ThreadCount,
    allow_unquoted,
    name_fields,
    quote_choice,
)


class SyntheticSection(Section):
    """The film that decode.kind synthetic makes up: a moving gradient with a readable frame counter."""

    height: SidePx = 180
    """Height in pixels."""
    width: SidePx = 320
    """Width in pixels."""
    frame_count: Annotated[int, Field(ge=0, le=10_000_000)] = 100
    """Length in frames."""
    rate: Rate = Fraction(24)
    """Frames per second: a number, or a ratio in quotes such as "24000/1001"."""


class DecodeSection(Section):
    """How films are read."""

    kind: Literal["auto", "libav", "nvdec", "synthetic"] = "auto"
    """Decoder. auto: the fastest one that this machine has and the film allows. libav: software. nvdec: the decoder of
    an NVIDIA GPU, for 4:2:0 films. synthetic: no file is read, a test film is made up."""
    threads: ThreadCount = 0
    """Threads of the software decoder. 0: as many as there are processor cores."""
    deinterlace: Literal["off", "auto", "bwdif"] = "off"
    """What is done about interlaced films, known by their flags and by the look of frames from all over them. off: they
    are refused. auto: they are deinterlaced with bwdif, where they are interlaced. bwdif: every frame of every film
    is."""
    deinterlace_rate: Literal["frame", "field"] = "frame"
    """What is made of each interlaced frame. frame: one frame. field: one of each field, which keeps motion as smooth
    as it was and doubles the frame rate."""
    field_order: Literal["auto", "top", "bottom", "progressive"] = "auto"
    """Which field of an interlaced frame is shown first, no unit. auto: as flags and pictures say. top, bottom: for
    films that are flagged wrongly. progressive: films have no fields, whatever flags and pictures say."""
    synthetic: SyntheticSection = Field(default_factory=SyntheticSection)
    """The made-up film; read only with kind synthetic."""


class TileSection(Section):
    """How frames are cut for the network."""

    max_px: Auto | Annotated[int, Field(ge=16, le=16384)] = "auto"
    """Longest side of a tile in input pixels; a frame no larger than this is not cut. auto: the largest tile that
    run.memory_mb allows and the engine takes."""
    overlap_px: Auto | Annotated[int, Field(ge=0, le=1024)] = "auto"
    """Input pixels that neighbouring tiles share at least. auto: enough that no seam is visible with the model."""
    blend: Literal["linear", "cut"] = "linear"
    """What happens where tiles overlap. linear: a ramp from one to the other. cut: a hard change in the middle."""

    def rules(self) -> Iterator[RuleBroken]:
        """A tile must be more than its two borders."""
        if isinstance(self.max_px, int) and isinstance(self.overlap_px, int) and 2 * self.overlap_px >= self.max_px:
            yield RuleBroken(
                keys=("tile.overlap_px", "tile.max_px"),
                text=f"must be less than half of tile.max_px (got {self.overlap_px}, tile.max_px is {self.max_px})",
            )


class FitSection(Section):
    """A box that the picture is fitted into."""

    height: SidePx = 2160
    """Largest height of the picture in pixels."""
    width: SidePx = 3840
    """Largest width of the picture in pixels."""


class ScaleSection(Section):
    """The size of the result. With none of factor, height, width and fit: the network's own enlargement."""

    factor: Annotated[float, Field(gt=0, le=16)] | None = None
    """Enlargement per side, no unit: 2, 3, 4, 1.5 ..."""
    height: SidePx | None = None
    """Height of the result in pixels; the width follows from the picture's shape."""
    width: SidePx | None = None
    """Width of the result in pixels; the height follows from the picture's shape."""
    fit: FitSection | None = None
    """A box, height and width in pixels: the result is the largest that fits into it in the picture's shape."""
    filter: Literal["lanczos"] = "lanczos"
    """Resampler from the network's output to the wanted size. lanczos: antialiased Lanczos with three lobes."""
    light: Literal["auto", "linear", "gamma"] = "auto"
    """What the resampler averages. linear: light. gamma: coded values. auto: the better one for the direction."""
    fold: bool = True
    """Whether an exact downscale is folded into the network where it can be, which saves time."""

    def rules(self) -> Iterator[RuleBroken]:
        """One way of saying the size, not two."""
        given = [key for key in ("factor", "height", "width", "fit") if getattr(self, key) is not None]
        if len(given) > 1:
            names = [f"scale.{key}" for key in given]
            yield RuleBroken(
                keys=tuple(reversed(names)),
                text=f"only one of scale.factor, scale.height, scale.width and scale.fit can be given "
                f"(got {', '.join(names[:-1])} and {names[-1]})",
            )


class EncodeSection(Section):
    """How the result is written."""

    kind: Annotated[
        Literal[
            "auto",
            "h264_nvenc",
            "hevc_nvenc",
            "av1_nvenc",
            "libx264",
            "libx265",
            "libsvtav1",
            "ffv1",
            "prores_ks",
            "png",
            "null",
        ],
        BeforeValidator(quote_choice),
        Field(json_schema_extra=allow_unquoted),
    ] = "auto"
    """Encoder. auto: the first one for encode.codec that works here with these settings: NVIDIA's hardware (the names
    with nvenc), then software. png: numbered pictures. null: nothing is written, for measuring."""
    codec: Literal["h264", "hevc", "av1"] = "h264"
    """Video format with kind auto; a named kind has its own. h264 plays everywhere; choose hevc for 10-bit films,
    which few players take in h264."""
    quality: Annotated[float, Field(ge=0, le=100)] | None = None
    """Quality in the encoder's own unit (CRF for libx264, libx265 and libsvtav1, CQ for nvenc: smaller is better).
    null: the encoder's default here, visually lossless."""
    preset: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Speed against file size, in the encoder's own words (p1, fast, to p7, small, for nvenc). null: the encoder's
    default here."""
    bit_depth: Literal["source", 8, 10] = "source"
    """Bits per sample. source: as in the film, or the nearest that the encoder can do."""
    chroma: Annotated[
        Literal["source", "420", "422", "444"], BeforeValidator(quote_choice), Field(json_schema_extra=allow_unquoted)
    ] = "source"
    """Chroma sampling. source: as in the film, or the nearest that the encoder can do."""
    dither: bool = False
    """Whether rounding to bit_depth is dithered, which hides banding and costs file size."""
    threads: ThreadCount = 0
    """Threads of the encoder. 0: its own choice."""
    options: Mapping[OptionName, OptionText] = Field(default_factory=dict)
    """More options, passed to the encoder as they are: its option names and their values."""


class Config(Section):
    """One run, completely."""

    version: Literal[1] = 1
    """Version of this file format, no unit."""
    input: InputSection = Field(default_factory=InputSection)
    """The films."""
    decode: DecodeSection = Field(default_factory=DecodeSection)
    """How films are read."""
    tile: TileSection = Field(default_factory=TileSection)
    """How frames are cut for the network."""
    infer: InferSection = Field(default_factory=InferSection)
    """The network and what runs it."""
    scale: ScaleSection = Field(default_factory=ScaleSection)
    """The size of the result: at most one of factor, height, width and fit."""
    encode: EncodeSection = Field(default_factory=EncodeSection)
    """How the result is written."""
    output: OutputSection = Field(default_factory=OutputSection)
    """Where the result goes."""
    queues: QueueSection = Field(default_factory=QueueSection)
    """How much may wait between two stages."""
    run: RunSection = Field(default_factory=RunSection)
    """The run as a whole."""

    def rules(self) -> Iterator[RuleBroken]:
        """The rules between sections."""
        synthetic = self.decode.kind == "synthetic"
        if not synthetic and not self.input.paths:
            yield RuleBroken(
                keys=("input.paths", "decode.kind"),
                text="must name at least one file unless decode.kind is synthetic",
            )
        if synthetic and self.input.paths:
            yield RuleBroken(
                keys=("input.paths", "decode.kind"),
                text=f"must be empty when decode.kind is synthetic, which reads no file (got {self.input.paths[0]})",
            )
        if synthetic and self.input.watch:
            yield RuleBroken(
                keys=("input.watch", "decode.kind"),
                text="must be false when decode.kind is synthetic, which reads no file",
            )
        if len(self.input.paths) > 1 and not name_fields(self.output.name) & {"stem", "folder"}:
            yield RuleBroken(
                keys=("output.name", "input.paths"),
                text=f"must contain {{stem}} or {{folder}} when input.paths names several files "
                f"(got {self.output.name!r})",
            )

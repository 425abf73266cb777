"""What the table of encoders says about one of them: the columns, and the pixel formats that rows are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pipeline.frames import ChromaLocation, SampleFormat, Subsampling

Colour = Literal["yuv", "rgb"]
Product = Literal["film", "pictures", "nothing"]
SegmentContainer = Literal["mp4", "mov"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatKey:
    """What tells two pixel formats apart as far as an encoder's abilities are concerned."""

    colour: Colour
    subsampling: Subsampling
    bit_depth: int

    @classmethod
    def of(cls, sample_format: SampleFormat) -> FormatKey:
        """The key of a sample format."""
        return cls(
            colour="rgb" if sample_format.matrix == "rgb" else "yuv",
            subsampling=sample_format.subsampling,
            bit_depth=sample_format.bit_depth,
        )

    def __str__(self) -> str:
        kind = "RGB" if self.colour == "rgb" else ":".join(self.subsampling)
        return f"{self.bit_depth}-bit {kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How our three planes become one libav picture."""

    name: str
    """libav's name."""
    plane_order: tuple[int, int, int] = (0, 1, 2)
    """Which of our planes is libav's plane (or, packed, sample) 0, 1, 2."""
    is_packed: bool = False
    """All samples of a pixel in one plane instead of three planes."""
    packed_samples: int = 3
    """Samples of a pixel there; a fourth is 0."""
    is_semiplanar: bool = False
    """Cb and Cr by turns in one plane, the second one."""
    shift_bits: int = 0
    """How many bits up in its word a sample stands: 6 for 10 bits in the upper ones of 16."""
    dtype: str = "<u2"
    """numpy dtype of one sample, byte order included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityOption:
    """The number that trades size for quality."""

    name: str
    """libav option that takes it."""
    minimum: float
    maximum: float
    default: float | None
    """None: not set unless asked for."""
    factor: int = 1
    """The option's value is the quality times this."""
    whole: bool = False
    """Only whole numbers are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """One encoder: a row of the table."""

    name: str
    """libav's encoder name, or our own for what libav has no part in."""
    is_hardware: bool = False
    """Whether libav having it says little: it works only where the GPU and its driver open a session. ``auto`` takes it
    only after a trial with the real settings."""
    codec: str
    """libav's codec name of what comes out; empty if nothing does."""
    opener: str
    """``module:callable`` that opens it; called with ``(path, spec, device=...)``."""
    product: Product = "film"
    pixel_formats: Mapping[FormatKey, PixelFormat]
    """Every format it takes."""
    surface_formats: Mapping[FormatKey, str] = field(default_factory=lambda: MappingProxyType({}))
    """libav's names of those that it also takes from a GPU's memory."""
    limited_range_only: bool = False
    """The bitstream cannot say "full range"."""
    full_range_only: bool = False
    """Decoders always take the samples as full range."""
    chroma_locations: tuple[ChromaLocation, ...] = ("left", "center", "topleft", "top", "bottomleft", "bottom")
    """Sitings that the bitstream or its containers can state."""
    minimum_px: int = 1
    """Smallest height and width."""
    needs_even: bool = False
    """Height and width must be whole chroma samples."""
    quality: QualityOption | None = None
    bits_per_px: float = 0.0
    """Size of the result with the default settings, for the estimate of disk space: bits per output pixel, measured on
    the demo film at four times its size."""
    presets: tuple[str, ...] = ()
    """From slow to fast where there is such an order; empty if the encoder has none."""
    preset_option: str = "preset"
    default_preset: str = ""
    containers: tuple[str, ...] = ()
    """File formats (``mkv``, ``mp4``, ``mov``) that can hold the result; the first is the customary one."""
    iso_tag: str = ""
    """Sample entry to ask for in MP4 and MOV; empty: the muxer's choice."""
    segment_container: SegmentContainer = "mp4"
    """Container of segments and of the joined stream. Both keep the time base and every pts exactly, also with
    B-frames (tests/contract/test_encoders.py). NUT was tried: it cannot hold ProRes nor times before 0, and its
    decoding times have to be guessed when it is read, which spoils B-frames at uneven distances."""
    pipe_format: str = ""
    """libav format of the joined stream on its way to ffmpeg; empty: the segment container, fragmented."""
    fixed_options: tuple[tuple[str, str], ...] = ()
    """Always set; the config's own options win."""
    params_option: str = ""
    """libav option that takes the library's own ``key=value:key=value`` list; empty if there is none."""
    fixed_params: tuple[tuple[str, str], ...] = ()
    avx512_params: tuple[tuple[str, str], ...] = ()
    """Set as well where the processor has AVX-512, unless the preset is one of the next and no option is given."""
    avx512_presets: tuple[str, ...] = ()
    """Presets whose bits are the same with AVX-512 as without."""
    copies_input: bool = False
    """It copies a picture into memory of its own before libav's ``encode`` returns, so that ours can be lent to it
    (tests/contract/test_lent_pictures.py)."""
    threads_param: str = ""
    """Key in that list for the thread count; empty: libav's own ``threads``."""
    mastering_param: str = ""
    """Key in that list for the mastering display; empty if it cannot be written."""
    mastering_as_decimals: bool = False
    """Chromaticities and luminances as decimal numbers instead of ST 2086's integers."""
    light_param: str = ""
    """Key in that list for the content light level."""
    reorder_frames: int = 0
    """Most frames by which it reorders, for an encoder that does not tell libav."""
    reorder_option: str = ""
    """Option whose value, if it is set, bounds that as well: the number of B-frames in a row."""
    rate_options: tuple[str, ...] = ()
    """Options that choose another rate control than constant quality; given one of them, neither the default quality
    nor ``quality_options`` are set."""
    quality_options: tuple[tuple[str, str], ...] = ()
    """Set with a quality, so that it is obeyed."""
    environment: tuple[tuple[str, str], ...] = ()
    """Environment variables that the library reads when it is first opened; set unless already set."""

    def pixel_format(self, sample_format: SampleFormat) -> PixelFormat | None:
        """How it takes this sample format; None if it cannot."""
        return self.pixel_formats.get(FormatKey.of(sample_format))

    def surface_format(self, sample_format: SampleFormat) -> str:
        """libav's name of this sample format in a GPU's memory; empty if the encoder takes it from the host only."""
        return self.surface_formats.get(FormatKey.of(sample_format), "")


def yuv_formats(subsamplings: Iterable[Subsampling], bit_depths: Iterable[int]) -> dict[FormatKey, PixelFormat]:
    """libav's planar Y'CbCr formats, samples in the low bits."""
    depths = tuple(bit_depths)
    return {
        FormatKey(colour="yuv", subsampling=subsampling, bit_depth=depth): PixelFormat(
            name=f"yuv{subsampling}p" + ("" if depth == 8 else f"{depth}le"), dtype="|u1" if depth == 8 else "<u2"
        )
        for subsampling in subsamplings
        for depth in depths
    }


def gbr_formats(bit_depths: Iterable[int]) -> dict[FormatKey, PixelFormat]:
    """libav's planar R'G'B' formats, whose planes are in the order G, B, R; samples in the low bits."""
    return {
        FormatKey(colour="rgb", subsampling="444", bit_depth=depth): PixelFormat(
            name="gbrp" + ("" if depth == 8 else f"{depth}le"),
            plane_order=(1, 2, 0),
            dtype="|u1" if depth == 8 else "<u2",
        )
        for depth in bit_depths
    }

"""One picture from its file: decoded by libav, upright, its colours apart from its alpha.

What libav does not say of a picture (orientation, colour profile) is in ``pipeline.inputs.picture_header``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.container import error_text, open_media
from pipeline.decode.transparency import fill_transparent
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import ColourTags, SampleFormat
from pipeline.inputs.picture_header import PictureHeader, read_header
from pipeline.tags import PlanarLayout, layout_of, resolve_format

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Float = NDArray[np.float32]

_CONVERT_HINT = "convert it to PNG first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded picture, as stored."""

    path: Path
    image: VideoFrame
    header: PictureHeader
    codec: str
    tags: ColourTags
    layout: PlanarLayout
    format: SampleFormat
    """Of the planes that ``layout`` describes."""
    guesses: tuple[str, ...]
    """One sentence for each thing that the file does not say."""
    alpha: Float | None
    """(H, W), 0 transparent to 1 opaque, as stored; None where it is opaque throughout."""

    @property
    def is_turned(self) -> bool:
        """Whether rows and columns are exchanged to see it upright."""
        return self.header.orientation >= 5

    @property
    def height(self) -> int:
        """Upright, pixels."""
        return int(self.image.width if self.is_turned else self.image.height)

    @property
    def width(self) -> int:
        """Upright, pixels."""
        return int(self.image.height if self.is_turned else self.image.width)

    @property
    def is_plain(self) -> bool:
        """Whether its planes can be used as they are."""
        return self.header.orientation == 1 and self.alpha is None

    def upright_rgb(self) -> Float:
        """(3, H, W) R'G'B', nominally [0, 1], upright; colours nobody sees are like those beside them."""
        from pipeline.colour import planes_to_rgb
        from pipeline.decode.planes import PlaneReader

        height, width = self.image.height, self.image.width
        planes, _ = PlaneReader(self.format, height=height, width=width).read(self.image, self.layout)
        rgb = np.empty((3, height, width), dtype=np.float32)
        planes_to_rgb(planes, self.format, out=rgb)
        if self.alpha is not None:
            rgb = fill_transparent(rgb, self.alpha)
        upright: Float = turn_upright(rgb, self.header.orientation)
        return upright

    def upright_alpha(self) -> Float | None:
        """(H, W) alpha, upright; None where it is opaque throughout."""
        return None if self.alpha is None else turn_upright(self.alpha, self.header.orientation)


def read_picture(path: Path) -> Picture:
    """Decode a picture; of a file with several, the first.

    Raises:
        UnsupportedMedia: It is no picture that can be handled.
        MediaError: It cannot be read.
    """
    import av

    header = read_header(path)
    if header is not None and header.is_animated:
        raise UnsupportedMedia(
            f"{path} is an animated WebP, which libav cannot decode",
            path=path,
            hint="convert it to GIF or to a film first, with a program that reads it (ImageMagick does)",
        )
    try:
        with open_media(path) as container:
            image = next(container.decode(video=0), None)
            codec = container.streams.video[0].codec_context.codec.canonical_name if image is not None else ""
            is_one_of_many = image is not None and container.format.name == "apng"
    except (av.error.FFmpegError, IndexError) as exc:
        raise MediaError(
            f"{path} cannot be decoded: {error_text(exc)}", path=path, hint="look at it in a viewer"
        ) from exc
    if image is None:
        raise UnsupportedMedia(f"{path} holds no picture", path=path, hint="leave it out of the inputs")
    header = header or PictureHeader(height=image.height, width=image.width)
    layout = layout_of(image.format.name)
    if header.is_in_inks:
        raise UnsupportedMedia(f"{path} is in CMYK, the colours of inks", path=path, hint="convert it to RGB first")
    if layout is None:
        raise UnsupportedMedia(
            f"{path} has pixel format {image.format.name}, which cannot be read into 8 to 16-bit planes",
            path=path,
            hint=_CONVERT_HINT,
        )
    tags = ColourTags(
        matrix=image.colorspace,
        primaries=image.color_primaries,
        transfer=image.color_trc,
        # JPEG has no other range (JFIF 1.02); that of WebP is in its own specification (RFC 9649 2.5: as VP8's)
        full_range={1: False, 2: True}.get(int(image.color_range)),
    )
    sample_format, guesses = resolve_format(
        tags, pixel_format=image.format.name, height=image.height, width=image.width, codec=codec
    )
    if is_one_of_many:
        guesses += ("the file is an animation: its first picture is taken; named .apng it is a film",)
    return Picture(
        path=path,
        image=image,
        header=header,
        codec=codec,
        tags=tags,
        layout=layout,
        format=sample_format,
        guesses=tuple(guess for guess in guesses if guess != layout.loss or not _may_have_alpha(image)),
        alpha=_read_alpha(image) if _may_have_alpha(image) else None,
    )


def turn_upright(planes: Any, orientation: int) -> Any:
    """Turn and mirror as EXIF's orientation says; planes lie in the last two axes. Contiguous."""
    if orientation >= 5:
        planes = planes.swapaxes(-1, -2)
    # after rows and columns were exchanged. Source: Exif 2.32, table 6 (tag 0x0112)
    if orientation in (2, 3, 6, 7):
        planes = planes[..., ::-1]
    if orientation in (3, 4, 7, 8):
        planes = planes[..., ::-1, :]
    return np.ascontiguousarray(planes)


def _may_have_alpha(image: VideoFrame) -> bool:
    name = image.format.name
    return name == "pal8" or name.startswith(("rgba", "bgra", "argb", "abgr", "ya8", "ya16", "yuva", "gbrap"))


def _read_alpha(image: VideoFrame) -> Float | None:
    is_deep = image.format.components[-1].bits > 8
    rgba = image.reformat(format="rgba64le" if is_deep else "rgba").to_ndarray()
    alpha = rgba[..., 3].astype(np.float32) / np.float32(65535 if is_deep else 255)
    return None if alpha.min() >= 1 else alpha

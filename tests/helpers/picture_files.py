"""Pictures of every kind that is read, written by Pillow and ffmpeg, not by this project."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from helpers import media
from numpy.typing import NDArray
from PIL import Image, ImageCms

HEIGHT, WIDTH = 20, 28
TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: np.rot90(pixels, 2),
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2),
    8: np.rot90,
}
"""What makes a stored picture upright, by EXIF's orientation."""
UNTURNS = {**TURNS, 6: TURNS[8], 8: TURNS[6]}
"""The way back."""


def colours(height: int = HEIGHT, width: int = WIDTH, *, phase: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3): a picture that looks another way from every side."""
    y, x = np.mgrid[0:height, 0:width]
    planes = ((x + phase) * 255 // (width + phase), y * 255 // height, (x * y * 7) % 256)
    return np.dstack(planes).astype(np.uint8)


def coverage(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """(H, W): transparent in one corner, opaque in another, a ramp between."""
    y, x = np.mgrid[0:height, 0:width]
    return np.clip((x + y) * 12 - 120, 0, 255).astype(np.uint8)


@cache
def profile(kind: str = "sRGB") -> bytes:
    """An ICC profile; it holds the time at which it is made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


def exif(orientation: int, *, make: str = "") -> Image.Exif:
    """An EXIF block."""
    block = Image.Exif()
    block[0x0112] = orientation
    if make:
        block[0x010F] = make
    return block


def write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """Write uint8 pixels: (H, W), or with 2, 3 or 4 channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "L" if pixels.ndim == 2 else {2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    Image.fromarray(pixels, mode=None).convert(mode).save(path, **options)
    return path


def write_deep(path: Path, pixel_format: str) -> NDArray[np.uint16]:
    """Write a picture of 16 bits with ffmpeg, and return its pixels: (H, W, C)."""
    channels = {"gray16": 1, "ya16": 2, "rgb48": 3, "rgba64": 4}[pixel_format[:-2]]
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    pixels = ((x * 1999 + y * 257 * 9 + c * 20011) % 65536).astype(np.uint16)
    raw = path.with_suffix(".raw")
    raw.write_bytes(pixels.astype("<u2").tobytes())
    source = {1: "gray16le", 2: "ya16le", 3: "rgb48le", 4: "rgba64le"}[channels]
    media.run_ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", source, "-s", f"{WIDTH}x{HEIGHT}", "-i", str(raw)),
        *("-pix_fmt", pixel_format, str(path)),
    )
    raw.unlink()
    return pixels


def write_counters(
    folder: Path,
    *,
    count: int,
    height: int,
    width: int,
    suffix: str = "png",
    first: int = 1,
    name: str = "frame_{:04d}",
    orientation: int = 1,
) -> list[Path]:
    """A sequence of which picture ``i`` shows ``i``, upright."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        frame = media.make_counter_frame(index, height=height, width=width, pixel_format="rgb24", full_range=True)
        pixels = np.ascontiguousarray(UNTURNS[orientation](frame.to_ndarray()))
        path = folder / f"{name.format(first + index)}.{suffix}"
        options = {"quality": 95} if suffix == "jpg" else {}
        Image.fromarray(pixels).save(path, exif=exif(orientation), **options)
        paths.append(path)
    return paths

"""Results that went wrong: the pictures of a good one, changed and encoded anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from helpers.media import real_film, run_ffmpeg
from numpy.typing import NDArray

Planes = list[NDArray[np.uint8]]
"""Y', Cb, Cr of one 8-bit 4:2:0 picture."""
Spoil = Callable[[list[Planes]], list[Planes]]

FRAMES = 24
_MOVED = "scroll=horizontal=0.011,crop=160:96:80:40"


def write_source(path: Path, *options: str) -> Path:
    """A second of a drawn film, moved past the camera, 160x96, BT.709, with a sound track."""
    run_ffmpeg(
        *("-i", str(real_film("bigbuckbunny")), "-f", "lavfi", "-i", "sine=duration=1"),
        *(
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-vf",
            "scale=320:180,scroll=horizontal=0.011,crop=160:96:80:40",
            "-frames:v",
            str(FRAMES),
            "-shortest",
        ),
        *("-c:v", "libx264", "-crf", "12", "-g", "12", "-pix_fmt", "yuv420p", "-colorspace", "bt709"),
        *("-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv", "-c:a", "aac"),
        *("-metadata:s:a:0", "language=deu", "-metadata:s:a:0", "title=Stereo", *options, str(path)),
    )
    return path


def read_pictures(path: Path) -> list[Planes]:
    """All pictures of an 8-bit 4:2:0 film."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            height, width = frame.height, frame.width
            flat = frame.to_ndarray(format="yuv420p").ravel()
            parts = np.split(flat, [height * width, height * width * 5 // 4])
            shapes = [(height, width), (height // 2, width // 2), (height // 2, width // 2)]
            found.append([part.reshape(shape).copy() for part, shape in zip(parts, shapes, strict=True)])
    return found


def write_pictures(path: Path, pictures: list[Planes]) -> Path:
    """A BT.709 film of these pictures, nearly lossless, 25 a second."""
    height, width = pictures[0][0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        for planes in pictures:
            flat = np.concatenate([plane.ravel() for plane in planes]).reshape(height * 3 // 2, width)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(flat), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def each(change: Callable[[Planes], Planes]) -> Spoil:
    """The same done to all pictures."""
    return lambda pictures: [change(planes) for planes in pictures]


def at(number: int, change: Callable[[Planes], Planes]) -> Spoil:
    """Done to one picture."""
    return lambda pictures: [change(p) if n == number else p for n, p in enumerate(pictures)]


def swapped(pictures: list[Planes]) -> list[Planes]:
    return [*pictures[:7], pictures[8], pictures[7], *pictures[9:]]


def dropped(pictures: list[Planes]) -> list[Planes]:
    """One is missing, and the last is there twice, so that the number is right."""
    return [*pictures[:9], *pictures[10:], pictures[-1]]


def repeated(pictures: list[Planes]) -> list[Planes]:
    return [*pictures[:5], pictures[4], *pictures[6:]]


def cut_short(pictures: list[Planes]) -> list[Planes]:
    return pictures[:-3]


def moved(planes: Planes, *, luma_px: int = 0, chroma_px: int = 0) -> Planes:
    """To the right."""
    return [np.roll(plane, chroma_px if n else luma_px, axis=1) for n, plane in enumerate(planes)]


def black(planes: Planes) -> Planes:
    return [np.full_like(plane, 128 if n else 16) for n, plane in enumerate(planes)]


def zeroed(planes: Planes) -> Planes:
    """What becomes of NaN on its way to codes: 0 in all of R', G' and B', or in the codes themselves."""
    return [np.zeros_like(plane) for plane in planes]


def without_tile(planes: Planes) -> Planes:
    """A tile of 64 pixels is black."""
    return [_with_tile(plane, 128 if n else 16, side=32 if n else 64) for n, plane in enumerate(planes)]


def _with_tile(plane: NDArray[np.uint8], value: int, *, side: int) -> NDArray[np.uint8]:
    spoilt = plane.copy()
    spoilt[side : 2 * side, 2 * side : 3 * side] = value
    return spoilt


def with_tile_elsewhere(planes: Planes) -> Planes:
    """Two tiles of 64 pixels have changed places."""
    spoilt = [plane.copy() for plane in planes]
    for n, (plane, old) in enumerate(zip(spoilt, planes, strict=True)):
        side = 32 if n else 64
        plane[:side, :side], plane[side : 2 * side, 3 * side : 4 * side] = (
            old[side : 2 * side, 3 * side : 4 * side],
            old[:side, :side],
        )
    return spoilt


def tinted(planes: Planes) -> Planes:
    """Eight codes more of Cr: a slight red."""
    return [planes[0], planes[1], np.clip(planes[2].astype(int) + 8, 0, 255).astype(np.uint8)]


def exchanged(planes: Planes) -> Planes:
    return [planes[0], planes[2], planes[1]]


def grey(planes: Planes) -> Planes:
    return [planes[0], *(np.full_like(plane, 128) for plane in planes[1:])]


def recoloured(planes: Planes, turn: NDArray[np.float64], offset: tuple[float, float, float]) -> Planes:
    """Codes through a matrix; chroma is taken as it lies for the luma of its 2x2 pixels."""
    wide = [np.repeat(np.repeat(plane, 2, 0), 2, 1) for plane in planes[1:]]
    values = np.stack([planes[0], *wide]).astype(np.float64) - np.array([16, 128, 128])[:, None, None]
    made = np.tensordot(turn, values, axes=1) + (np.array([16, 128, 128]) + offset)[:, None, None]
    codes = np.clip(np.rint(made), 0, 255).astype(np.uint8)
    return [codes[0], codes[1, ::2, ::2].copy(), codes[2, ::2, ::2].copy()]


def code_matrix(kr: float, kb: float) -> NDArray[np.float64]:
    """(3, 3), from limited 8-bit Y', Cb, Cr, less their zeros, to R'G'B' in [0, 1]. Source: ITU-T H.273 8.3."""
    kg = 1 - kr - kb
    to_rgb = np.array(
        [[1, 0, 2 * (1 - kr)], [1, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg], [1, 2 * (1 - kb), 0]]
    )
    return to_rgb / np.array([219, 224, 224])


BT709, BT601, BT2020 = code_matrix(0.2126, 0.0722), code_matrix(0.299, 0.114), code_matrix(0.2627, 0.0593)


def read_as(wrong: NDArray[np.float64]) -> Spoil:
    """BT.709 codes taken for others on the way in."""
    turn = np.linalg.inv(BT709) @ wrong
    return each(lambda planes: recoloured(planes, turn, (0, 0, 0)))


def taken_for_full(pictures: list[Planes]) -> list[Planes]:
    """Limited range read as full, written as limited."""
    turn = np.diag([219 / 255, 224 / 255, 224 / 255])
    return [recoloured(planes, turn, (16 * 219 / 255, 0, 0)) for planes in pictures]


def taken_for_limited(pictures: list[Planes]) -> list[Planes]:
    """Written as full range, labelled as limited."""
    turn = np.diag([255 / 219, 255 / 224, 255 / 224])
    return [recoloured(planes, turn, (-16, 0, 0)) for planes in pictures]

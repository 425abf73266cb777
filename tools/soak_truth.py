"""What a film is, told so that two of them can be compared: every frame, every time, every packet. For ``soak.py``."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.decode.container import open_container

Fingerprint = Mapping[str, str]
"""Parts of a film by name, each as a number or a digest."""

_SUBTITLES = "1\n00:00:00,200 --> 00:00:00,900\nfirst\n\n2\n00:00:01,000 --> 00:00:01,500\nsecond\n"
_CHAPTERS = (
    ";FFMETADATA1\ntitle=soak {seed}\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=800\ntitle=one\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=800\nEND=1600\ntitle=two\n"
)


def make_film(path: Path, *, frame_count: int, height: int, width: int, seed: int, is_even: bool = True) -> Path:
    """Write a film with B-frames, sound, subtitles, chapters and tags.

    Args:
        path: Its file; the suffix says the container, Matroska or MP4.
        frame_count: Its length at 25 frames a second.
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        seed: Films of different seeds differ in every frame and in sound.
        is_even: Whether frames come at an even pace; otherwise every seventh is left out.
    """
    source = f"testsrc2=size={width}x{height}:rate=25,hue=h={seed * 47 % 360}"
    even = "" if is_even else ",select='not(eq(mod(n\\,7)\\,3))'"
    shown = frame_count if is_even else sum(n % 7 != 3 for n in range(frame_count))
    subtitles, chapters = path.with_suffix(".srt"), path.with_suffix(".ffmeta")
    subtitles.write_text(_SUBTITLES, encoding="ascii")
    chapters.write_text(_CHAPTERS.format(seed=seed), encoding="ascii")
    command = [
        *(str(find_ffmpeg().path), "-v", "error", "-y"),
        *("-f", "lavfi", "-i", source + even),
        *("-f", "lavfi", "-i", f"sine=frequency={200 + 30 * seed}:duration={frame_count / 25}"),
        *("-i", str(subtitles), "-i", str(chapters)),
        *("-map", "0:v", "-map", "1:a", "-map", "2:s", "-map_metadata", "3", "-map_chapters", "3"),
        *("-fps_mode", "passthrough", "-frames:v", str(shown)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "24", "-threads", "1"),
        *("-c:a", "aac", "-c:s", "mov_text" if path.suffix == ".mp4" else "srt", str(path)),
    ]
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    finally:
        subtitles.unlink()
        chapters.unlink()
    return path


def fingerprint(path: Path) -> Fingerprint:
    """Decode a film whole.

    Raises:
        ValueError: It cannot be read: a result that is not whole.
    """
    import av

    try:
        return {**_stream_parts(path), **_picture_parts(path)}
    except av.FFmpegError as exc:
        raise ValueError(f"{path.name} cannot be read: {exc}") from exc


def _stream_parts(path: Path) -> Fingerprint:
    """Every packet of every stream, and what the container says."""
    parts: dict[str, str] = {}
    with open_container(path) as container:
        parts["container"] = container.format.name
        parts["chapters"] = repr([(one["start"], one["end"], one["metadata"]) for one in container.chapters()])
        for stream in container.streams:
            parts[f"stream {stream.index}"] = (
                f"{stream.type} {stream.codec_context.name if stream.codec_context else ''}"
            )
        packets = {stream.index: hashlib.sha256() for stream in container.streams}
        for packet in container.demux():
            if packet.size:
                times = (packet.pts, packet.dts, packet.duration, packet.time_base)
                packets[packet.stream_index].update(repr((times, packet.is_keyframe)).encode() + bytes(packet))
    return parts | {f"packets of stream {index}": digest.hexdigest() for index, digest in packets.items()}


def _picture_parts(path: Path) -> Fingerprint:
    """Every frame, and its time."""
    with open_container(path) as container:
        count, pictures, times_shown = 0, hashlib.sha256(), hashlib.sha256()
        for frame in container.decode(video=0):
            count += 1
            pictures.update(_pixels(frame))
            times_shown.update(repr((frame.pts, frame.time_base)).encode())
    return {"frames": str(count), "pictures": pictures.hexdigest(), "times": times_shown.hexdigest()}


def _pixels(frame: Any) -> bytes:
    """All samples of a frame."""
    pixels: bytes = frame.to_ndarray().tobytes()
    return pixels


def differing_parts(found: Fingerprint, wanted: Fingerprint) -> list[str]:
    """Names of the parts that differ, with what they are; empty for the same film."""
    return [
        f"{name}: {found.get(name, 'missing')[:24]}, not {wanted.get(name, 'there')[:24]}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]

"""Makes a film of exactly so many frames out of a shorter or longer one, in another size if wanted, to measure with.

    python tools/film_clip.py FILM CLIP.mp4 --frames N [--height PX]

The film is repeated or cut; sound and subtitles are left out. It is encoded anew, by libx264 at CRF 12 (its default is
23, 0 is lossless in 8 bits), with a keyframe every 24 frames at least, so that no lane decodes much before its segment.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.assembly.ffmpeg import find_ffmpeg, run_ffmpeg
from pipeline.errors import MediaError, PipelineError
from pipeline.probe import probe_media

CRF = 12
KEYFRAME_EVERY = 24


def make_clip(film: Path, clip: Path, *, frame_count: int, height: int | None = None) -> None:
    """Write a film's first frames, from the beginning again where it is too short.

    Args:
        film: What is read; its first video stream is used.
        clip: The MP4 file to write; replaced if it is there.
        frame_count: Frames of the clip, at least 1.
        height: Of the clip, pixels; its width follows, rounded to even. None: the film's own size.

    Raises:
        ValueError: ``frame_count`` is below 1.
        MediaError: The film cannot be read, or the clip does not have the frames that it should have.
        PipelineError: There is no ffmpeg program, or it failed.
    """
    if frame_count < 1:
        raise ValueError(f"a clip has at least one frame, not {frame_count}")
    scale = [] if height is None else ["-vf", f"scale=-2:{height}:flags=lanczos"]
    run_ffmpeg(
        find_ffmpeg(),
        [
            *("-stream_loop", "-1", "-i", str(film), "-map", "0:v:0", "-frames:v", str(frame_count), *scale),
            *("-c:v", "libx264", "-preset", "veryfast", "-crf", str(CRF), "-g", str(KEYFRAME_EVERY)),
            *("-f", "mp4", str(clip)),
        ],
        output=clip,
    )
    found = probe_media(clip).video.frame_count_from_header
    if found != frame_count:
        raise MediaError(
            f"{clip} has {found} frames, not {frame_count}", path=clip, hint=f"look whether {film} plays to its end"
        )


def describe_clip(*, frame_count: int, height: int | None = None) -> str:
    """What a clip is, in words, for results."""
    size = "" if height is None else f", scaled to {height} lines"
    return f"repeated or cut to {frame_count} frames{size}, libx264 CRF {CRF}, keyframes every {KEYFRAME_EVERY}"


def main(argv: list[str] | None = None) -> int:
    """Write a clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, required=True, help="frames of the clip")
    parser.add_argument("--height", type=int, help="of the clip, pixels (default: the film's)")
    arguments = parser.parse_args(argv)
    try:
        make_clip(arguments.film, arguments.clip, frame_count=arguments.frames, height=arguments.height)
    except PipelineError as exc:
        print(f"error: {exc}" + (f"\n  {exc.hint}" if exc.hint else ""), file=sys.stderr)
        return 1
    print(f"{arguments.clip}: {describe_clip(frame_count=arguments.frames, height=arguments.height)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

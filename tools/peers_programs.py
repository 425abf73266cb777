"""The programs that ``bench_peers.py`` knows: how each is found and used.

Commands follow the programs' own documentation: vs-mlrt's ``vsov`` plugin as VapourSynth lists it (v17.1),
realesrgan-ncnn-vulkan's ``-h``, Video2X 6 (docs/book/src/running/command-line.md), TheAnimeScripter's PARAMETERS.MD,
NVEncC 9 (NVEncC_Options.en.md, ``--vpp-onnx``). Where a program cannot use the encoder or the weights that all others
use, its ``remark`` says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.peers_task import Command, Found, Peer, Step, Task

TOOLS = Path(__file__).resolve().parent
SECONDS_TO_ANSWER = 60
NCNN_NAMES = {
    "realesr-animevideov3": "realesr-animevideov3",
    "RealESRGAN_x4plus": "realesrgan-x4plus",
    "RealESRGAN_x4plus_anime_6B": "realesrgan-x4plus-anime",
}
"""Source: realesrgan-ncnn-vulkan, ``-n``."""
VIDEO2X_NAMES = {
    "realesr-animevideov3": "realesr-animevideov3",
    "RealESRGAN_x4plus": "realesrgan-plus",
    "RealESRGAN_x4plus_anime_6B": "realesrgan-plus-anime",
}
"""Source: Video2X, ``--realesrgan-model``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ourselves:
    """This project, through its command line."""

    precision: str
    """``fp32``, or ``auto``: what it takes itself."""
    folder: Path = TOOLS.parent
    remark: str = "sound, checks of the result and report included"

    @property
    def name(self) -> str:
        """For the table."""
        return "nightscale" if self.precision == "auto" else f"nightscale, {self.precision}"

    def find(self, *, device: str, model: str) -> Found:
        """See ``Peer``. The version says what it computes with: that it is the GPU, and how."""
        what = f"model={model!r}, precision={self.precision!r}, device={device!r}"
        says = "print(c.backend, 'in', c.precision, 'on', c.device)"
        said = _answer((*self._python, "-c", f"from engines import choose_backend; c = choose_backend({what}); {says}"))
        return Found(version="this tree" if said is None else f"this tree, {said.strip()}")

    def steps(self, task: Task) -> Sequence[Step]:
        """See ``Peer``."""
        config = {
            "version": 1,
            "input": {"paths": [str(task.clip)]},
            "infer": {"model": task.model, "precision": self.precision, "device": task.device},
            "scale": {"factor": task.scale},
            "encode": {"kind": "libx264", "preset": task.preset, "quality": task.crf},
            "output": {"dir": str(task.result.parent), "name": task.result.stem, "overwrite": True, "container": "mp4"},
            "run": {"progress": "off"},
        }
        path = task.folder / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return [((*self._python, "-m", "pipeline", "run", str(path)),)]

    @property
    def _python(self) -> Command:
        """Python with this tree, wherever it is started."""
        folders = (str(self.folder), os.environ.get("PYTHONPATH", ""))
        return ("env", f"PYTHONPATH={os.pathsep.join(filter(None, folders))}", sys.executable)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialWay:
    """What Real-ESRGAN's own video script does, through torch."""

    name: str = "Real-ESRGAN's script (torch)"
    remark: str = "its steps, written anew in tools/peers_torch.py; float32 on a processor, float16 on a GPU"

    def find(self, *, device: str, model: str) -> Found:
        """See ``Peer``."""
        del model
        asks = "import torch; print(torch.__version__, torch.cuda.is_available())"
        said = _answer((sys.executable, "-c", asks))
        if said is None:
            return Found(missing="torch is not installed")
        version, has_cuda = said.split()
        return Found(missing="torch sees no GPU") if device == "cuda" and has_cuda != "True" else Found(version=version)

    def steps(self, task: Task) -> Sequence[Step]:
        """See ``Peer``."""
        script = (sys.executable, str(TOOLS / "peers_torch.py"), str(task.clip), str(task.result))
        what = ("--model", task.model, "--size", f"{task.width}x{task.height}", "--rate", task.rate)
        how = ("--device", task.device, "--preset", task.preset, "--crf", str(task.crf), "--ffmpeg", task.ffmpeg)
        return [((*script, *what, *how),)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VapourSynth:
    """vs-mlrt's OpenVINO filter in a VapourSynth script, as its users write it."""

    vspipe: str | None
    """Path of the program; None looks for it."""
    precision: str
    """``f32`` or ``bf16``, as OpenVINO is told."""
    remark: str = "OpenVINO with one stream, BestSource, y4m into ffmpeg"

    @property
    def name(self) -> str:
        """For the table."""
        return f"vs-mlrt, OpenVINO {self.precision}"

    def find(self, *, device: str, model: str) -> Found:
        """See ``Peer``."""
        del model
        if device != "cpu":
            return Found(missing="its OpenVINO filter runs on processors")
        program = self.vspipe or shutil.which("vspipe")
        if program is None:
            return Found(missing="no vspipe on PATH; name it with --vspipe")
        python = Path(program).resolve().parent / "python"
        asks = "import vapoursynth as vs; print(vs.core.ov.Version()['version'], vs.core.bs.VideoSource and '')"
        said = _answer((str(python), "-c", asks))
        if said is None:
            return Found(missing="its VapourSynth lacks the plugins ov (vapoursynth-mlrt-ov) or bs (bestsource)")
        return Found(version=said.strip())

    def steps(self, task: Task) -> Sequence[Step]:
        """See ``Peer``."""
        script = task.folder / "enlarge.vpy"
        names = {"bt709": "709", "smpte170m": "170m"}
        script.write_text(
            "import vapoursynth as vs\n"
            f"clip = vs.core.bs.VideoSource({str(task.clip)!r}, cachemode=0)\n"
            f"clip = vs.core.resize.Bicubic(clip, format=vs.RGBS, matrix_in_s={names[task.matrix]!r})\n"
            f"clip = vs.core.ov.Model([clip], network_path={str(task.onnx)!r}, device='CPU', num_streams=1,\n"
            f"    config=lambda: {{'INFERENCE_PRECISION_HINT': {self.precision!r}}})\n"
            f"clip = vs.core.resize.Bicubic(clip, format=vs.YUV420P8, matrix_s={names[task.matrix]!r})\n"
            "clip.set_output()\n"
        )
        program = self.vspipe or "vspipe"
        encode = (task.ffmpeg, "-loglevel", "error", "-i", "-", *task.encoder, "-y", str(task.result))
        return [((program, "--container", "y4m", str(script), "-"), encode)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NcnnVulkan:
    """The command-line program of Real-ESRGAN's authors for any GPU with Vulkan, through folders of PNG."""

    name: str = "realesrgan-ncnn-vulkan"
    remark: str = "its own weights (the same networks in float16); PNG before and after"

    def find(self, *, device: str, model: str) -> Found:
        """See ``Peer``."""
        return _program(self.name, NCNN_NAMES, device=device, model=model)

    def steps(self, task: Task) -> Sequence[Step]:
        """See ``Peer``."""
        small, large = task.folder / "small", task.folder / "large"
        small.mkdir()
        large.mkdir()
        quiet = (task.ffmpeg, "-loglevel", "error")
        return [
            ((*quiet, "-i", str(task.clip), str(small / "%06d.png")),),
            ((self.name, "-i", str(small), "-o", str(large), "-n", NCNN_NAMES[task.model], "-s", str(task.scale)),),
            (
                (
                    *(*quiet, "-framerate", task.rate, "-i", str(large / "%06d.png")),
                    *(*task.encoder, "-y", str(task.result)),
                ),
            ),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Video2x:
    """Video2X 6."""

    name: str = "video2x"
    remark: str = "its own weights (ncnn, float16)"

    def find(self, *, device: str, model: str) -> Found:
        """See ``Peer``."""
        return _program(self.name, VIDEO2X_NAMES, device=device, model=model)

    def steps(self, task: Task) -> Sequence[Step]:
        """See ``Peer``."""
        files: Command = (self.name, "-i", str(task.clip), "-o", str(task.result))
        what = ("-p", "realesrgan", "-s", str(task.scale), "--realesrgan-model", VIDEO2X_NAMES[task.model])
        return [((*files, *what, "-c", "libx264", "-e", f"preset={task.preset}", "-e", f"crf={task.crf}"),)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimeScripter:
    """TheAnimeScripter, with this project's graph as its custom model."""

    name: str = "TheAnimeScripter"
    remark: str = "started by TAS_COMMAND; its networks are others, so it gets this project's graph"

    def find(self, *, device: str, model: str) -> Found:
        """See ``Peer``."""
        del model
        if "TAS_COMMAND" not in os.environ:
            return Found(missing="the environment variable TAS_COMMAND does not say how it is started")
        return Found(missing="it needs a GPU") if device == "cpu" else Found(version=os.environ["TAS_COMMAND"])

    def steps(self, task: Task) -> Sequence[Step]:
        """See ``Peer``."""
        files = (*os.environ["TAS_COMMAND"].split(), "--input", str(task.clip), "--output", str(task.result))
        what = ("--upscale", "--upscale_method", "compact-tensorrt", "--upscale_factor", str(task.scale))
        return [((*files, *what, "--custom_model", str(task.onnx), "--custom_encoder", " ".join(task.encoder)),)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NvEnc:
    """rigaya's NVEncC, decoding and inferring; its frames go to the same libx264 as everybody's."""

    name: str = "nvencc"
    remark: str = "ONNX Runtime with TensorRT in float16, raw frames in NUT into ffmpeg"

    def find(self, *, device: str, model: str) -> Found:
        """See ``Peer``."""
        del model
        return _program(self.name, None, device=device, model="")

    def steps(self, task: Task) -> Sequence[Step]:
        """See ``Peer``."""
        network = f"model={task.onnx},provider=tensorrt,prec=fp16"
        infer = (
            self.name,
            "-i",
            str(task.clip),
            "--vpp-onnx",
            network,
            "-c",
            "raw",
            "--output-format",
            "nut",
            "-o",
            "-",
        )
        encode = (task.ffmpeg, "-loglevel", "error", "-f", "nut", "-i", "-", *task.encoder, "-y", str(task.result))
        return [(infer, encode)]


def all_peers(*, vspipe: str | None) -> tuple[Peer, ...]:
    """Every program, this project first.

    Args:
        vspipe: Path of VapourSynth's program; None looks for it.
    """
    return (
        Ourselves(precision="auto"),
        Ourselves(precision="fp32"),
        OfficialWay(),
        VapourSynth(vspipe=vspipe, precision="f32"),
        VapourSynth(vspipe=vspipe, precision="bf16"),
        NcnnVulkan(),
        Video2x(),
        AnimeScripter(),
        NvEnc(),
    )


def _program(name: str, models: dict[str, str] | None, *, device: str, model: str) -> Found:
    """A program that runs on a GPU alone, by its name."""
    if shutil.which(name) is None:
        return Found(missing=f"no {name} on PATH")
    if device == "cpu":
        return Found(missing="it needs a GPU")
    if models is not None and model not in models:
        return Found(missing=f"it has no {model}")
    return Found(version="found on PATH")


def _answer(command: Command) -> str | None:
    """What a command prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

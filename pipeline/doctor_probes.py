"""What ``doctor`` looks for: one function per finding. None of them raises for something that is not there."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline import __version__
from pipeline.doctor import Finding
from pipeline.errors import PipelineError
from pipeline.host import cpu_flags, installed_version, probe_host

NVIDIA_EXTRA = 'pip install "nightscale[nvidia]"'
PROBE_TIMEOUT_S = 10.0
"""Bound on nvidia-smi, which can hang when a driver is broken."""
GIB = 1 << 30
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16")
"""Instruction sets (names of /proc/cpuinfo) that decide how fast the network runs on the processor."""
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Memory limit of the container in bytes, or ``max``. Source: Linux, Documentation/admin-guide/cgroup-v2.rst."""


def check_python() -> Finding:
    """The interpreter and this program."""
    return Finding(
        name="nightscale", state="ok", found=f"{__version__}, Python {platform.python_version()}, {sys.executable}"
    )


def check_processor() -> Finding:
    """Model, cores and the instruction sets that matter."""
    host = probe_host()
    flags = [flag for flag in CPU_FLAGS if flag in cpu_flags()]
    return Finding(
        name="processor",
        state="ok",
        found=f"{host['cpu_model'] or 'unknown model'}, {host['cpu_count_usable']} of {host['cpu_count']} cores "
        f"usable, {' '.join(flags) or 'no vector extensions known here'}",
    )


def check_memory() -> Finding:
    """Total and available memory, and the container's limit."""
    total = int(probe_host()["memory_bytes"] or 0)
    available = read_field(Path("/proc/meminfo"), "MemAvailable").split()
    found = f"{total / GIB:.1f} GiB"
    if available:
        found += f", {int(available[0]) * 1024 / GIB:.1f} GiB available"  # kB there means KiB: proc(5)
    limit = read_text(CONTAINER_LIMIT).strip()
    if limit.isdigit() and int(limit) < total:
        found += f", limited to {int(limit) / GIB:.1f} GiB by the container"
    return Finding(name="memory", state="ok", found=found)


def check_disk() -> Finding:
    """Free space of the current folder."""
    try:
        usage = shutil.disk_usage(Path.cwd())
    except OSError as exc:
        return Finding(name="disk", state="optional", found=f"the current folder cannot be looked at: {exc.strerror}")
    return Finding(name="disk", state="ok", found=f"{usage.free / GIB:.1f} GiB free in {Path.cwd()}")


def check_gpu() -> Finding:
    """NVIDIA GPUs and driver, as nvidia-smi tells."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            query, capture_output=True, stdin=subprocess.DEVNULL, timeout=PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        reason = "no nvidia-smi" if isinstance(exc, FileNotFoundError) else f"nvidia-smi failed: {exc}"
        return Finding(
            name="NVIDIA GPU",
            state="optional",
            found=f"none found ({reason}); the network runs on the processor",
            fix="with a GPU in this machine: install NVIDIA's driver, https://www.nvidia.com/drivers",
        )
    rows = []
    for line in answer.stdout.decode("utf-8", "replace").splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4:
            rows.append(f"{parts[0]}, driver {parts[1]}, {parts[2]}, compute capability {parts[3]}")
    if not rows:
        return Finding(name="NVIDIA GPU", state="optional", found="nvidia-smi lists none")
    return Finding(name="NVIDIA GPU", state="ok", found="; ".join(rows))


def check_nvdec() -> Finding:
    """The driver's decoder library and the package that uses it."""
    return check_codec_library(name="NVDEC", library="libnvcuvid.so.1", package="PyNvVideoCodec")


def check_nvenc() -> Finding:
    """The driver's encoder library; that it loads does not mean that the GPU has an encoder."""
    return check_codec_library(name="NVENC", library="libnvidia-encode.so.1", package="")


def check_codec_library(*, name: str, library: str, package: str) -> Finding:
    """Look for a codec library of NVIDIA's driver and, if named, for the Python package that drives it."""
    version = installed_version(package) if package else None
    try:
        ctypes.CDLL(library)
    except OSError:
        found = f"no {library}: it comes with NVIDIA's driver (in a container: NVIDIA_DRIVER_CAPABILITIES=video)"
        return Finding(name=name, state="optional", found=found)
    if package and version is None:
        return Finding(name=name, state="optional", found=f"{library} is here, {package} is not", fix=NVIDIA_EXTRA)
    detail = f", {package} {version}" if package else " (data-centre GPUs may still have no encoder)"
    return Finding(name=name, state="ok", found=f"{library}{detail}")


def check_tensorrt() -> Finding:
    """TensorRT, by its Python module."""
    return check_module(
        name="TensorRT",
        modules=("tensorrt", "tensorrt_bindings"),
        packages=("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-bindings"),
        fix="pip install tensorrt --extra-index-url https://pypi.nvidia.com",
    )


def check_tensorrt_rtx() -> Finding:
    """TensorRT for RTX, by its Python module."""
    return check_module(
        name="TensorRT-RTX",
        modules=("tensorrt_rtx", "tensorrt_rtx_bindings"),
        packages=("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings"),
        fix=NVIDIA_EXTRA,
    )


def check_cuda_core() -> Finding:
    """cuda.core, through which kernels and streams are driven."""
    return check_module(name="cuda-core", modules=("cuda.core",), packages=("cuda-core",), fix=NVIDIA_EXTRA)


def check_onnxruntime() -> Finding:
    """ONNX Runtime."""
    fix = 'pip install "nightscale[onnxruntime]"'
    return check_module(
        name="ONNX Runtime", modules=("onnxruntime",), packages=("onnxruntime", "onnxruntime-gpu"), fix=fix
    )


def check_module(*, name: str, modules: tuple[str, ...], packages: tuple[str, ...], fix: str) -> Finding:
    """Look for an optional Python module without importing it: GPU libraries take seconds and memory to load."""
    if not any(has_module(module) for module in modules):
        return Finding(name=name, state="optional", found="not installed", fix=fix)
    version = next(filter(None, map(installed_version, packages)), None)
    return Finding(name=name, state="ok", found=version or "installed, version unknown")


def check_openvino() -> Finding:
    """OpenVINO, its devices and what the processor computes natively."""
    try:
        openvino = importlib.import_module("openvino")
    except ImportError as exc:
        return Finding(name="OpenVINO", state="missing", found=f"cannot be imported: {exc}", fix="pip install openvino")
    try:
        core = openvino.Core()
        devices = list(core.available_devices)
        abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") if "CPU" in devices else []
    except RuntimeError as exc:  # all errors of its C++ side
        found = f"{openvino.__version__} does not start: {str(exc).strip().splitlines()[0]}"
        return Finding(name="OpenVINO", state="missing", found=found, fix="pip install --force-reinstall openvino")
    bf16 = "with bf16" if "BF16" in abilities else "without bf16"
    return Finding(name="OpenVINO", state="ok", found=f"{openvino.__version__}, devices {' '.join(devices)}, {bf16}")


def check_pyav() -> Finding:
    """PyAV, with the libav inside it."""
    try:
        av = importlib.import_module("av")
    except ImportError as exc:
        return Finding(name="PyAV", state="missing", found=f"cannot be imported: {exc}", fix="pip install av")
    return Finding(name="PyAV", state="ok", found=f"{av.__version__} with libav of FFmpeg {av.ffmpeg_version_info}")


def check_encoders() -> Finding:
    """The encoders of our table, and NVIDIA's, that PyAV's libav was built with."""
    from pipeline.encode.table import ENCODERS

    try:
        codec = importlib.import_module("av.codec.codec")
    except ImportError:
        return Finding(name="encoders", state="missing", found="none without PyAV", fix="pip install av")

    def is_built_in(name: str) -> bool:
        try:
            codec.Codec(name, "w")
        except codec.UnknownCodecError:
            return False
        return True

    wanted = [name for name, spec in ENCODERS.items() if spec.codec]
    here = [name for name in wanted if is_built_in(name)]
    lacking = [name for name in wanted if name not in here]
    nvenc = [name for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc") if is_built_in(name)]
    found = " ".join([*here, *nvenc])
    if lacking:
        found = f"{found or 'none'}; this libav lacks {' '.join(lacking)}"
        fix = "pip install --force-reinstall --only-binary av av"
        return Finding(name="encoders", state="optional" if here else "missing", found=found, fix=fix)
    return Finding(name="encoders", state="ok", found=found)


def check_ffmpeg() -> Finding:
    """The ffmpeg program that joins the result."""
    from pipeline.assembly.ffmpeg import find_ffmpeg

    try:
        program = find_ffmpeg()
    except PipelineError as exc:
        return Finding(name="ffmpeg", state="missing", found=str(exc), fix=exc.hint)
    return Finding(name="ffmpeg", state="ok", found=f"{program.version}, {program.path}")


def check_weights() -> Finding:
    """The weight files of all models of the table."""
    from engines import DEFAULT_MODEL, MODELS, WeightsError, find_weights_file

    here, lacking, fix = [], [], ""
    for name, model in MODELS.items():
        if not model.weights_file:
            continue
        try:
            find_weights_file(model)
        except WeightsError as exc:
            lacking.append(name)
            fix = exc.hint
        else:
            here.append(name)
    if not lacking:
        return Finding(name="weights", state="ok", found=", ".join(here))
    found = f"{', '.join(here) or 'none'}; not installed: {', '.join(lacking)}"
    return Finding(name="weights", state="missing" if DEFAULT_MODEL in lacking else "optional", found=found, fix=fix)


def has_module(name: str) -> bool:
    """Whether a module could be imported, without importing it (only its parent packages)."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # no parent package; a module that an import hook left half made
        return False


def read_text(path: Path) -> str:
    """A small system file's text; empty if it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_field(path: Path, *names: str) -> str:
    """Value of the first line ``name : value`` of a system file with one of the names; empty if there is none."""
    for line in read_text(path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


PROBES: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_processor,
    check_memory,
    check_disk,
    check_pyav,
    check_encoders,
    check_ffmpeg,
    check_openvino,
    check_onnxruntime,
    check_weights,
    check_gpu,
    check_nvdec,
    check_nvenc,
    check_cuda_core,
    check_tensorrt,
    check_tensorrt_rtx,
)
"""Everything, in the order in which it is shown."""

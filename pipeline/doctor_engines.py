"""What ``doctor`` looks for that runs networks: GPUs, libraries, weights, compiled engines.

No library of a GPU is loaded for it, and nothing raises for something that is not there.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from engines.backends import INSTALL
from engines.errors import EngineError, WeightsError
from engines.gpu.driver import has_nvidia_driver
from pipeline.doctor import Finding
from pipeline.host import installed_version

NVIDIA_EXTRA = 'pip install "nightscale[nvidia]"'
PROBE_TIMEOUT_S = 10.0
"""Bound on nvidia-smi, which can hang when a driver is broken."""
GIB = 1 << 30


def check_gpu() -> Finding:
    """NVIDIA GPUs and driver, as nvidia-smi tells; without it, as CUDA does."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            query, capture_output=True, stdin=subprocess.DEVNULL, timeout=PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        rows = list_gpus()  # containers often lack the program
        if rows:
            return Finding(name="NVIDIA GPU", state="ok", found="; ".join(rows))
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


def list_gpus() -> list[str]:
    """The GPUs that CUDA shows, in words; none if there is no driver or the bindings are not installed."""
    if not has_nvidia_driver():
        return []
    from engines.gpu.cuda import list_devices

    try:
        devices = list_devices()
    except EngineError:
        return []
    return [
        f"{device.name}, driver {device.driver_version}, {device.total_bytes // 2**20} MiB, "
        f"compute capability {'.'.join(map(str, device.compute_capability))}"
        for device in devices
    ]


def check_cuda_bindings() -> Finding:
    """cuda.bindings, through which memory, streams and kernels are driven."""
    return check_module(name="CUDA bindings", modules=("cuda.bindings",), packages=("cuda-bindings",), fix=NVIDIA_EXTRA)


def check_nvrtc() -> Finding:
    """NVIDIA's runtime compiler, which makes machine code of our kernels."""
    version = installed_version("nvidia-cuda-nvrtc")
    if version is None:
        found = "not installed as a package; a CUDA toolkit's own serves too"
        return Finding(name="NVRTC", state="optional", found=found, fix=NVIDIA_EXTRA)
    return Finding(name="NVRTC", state="ok", found=version)


def check_cudnn() -> Finding:
    """cuDNN's front end for Python, through which backend cudnn runs networks."""
    return check_module(name="cuDNN", modules=("cudnn",), packages=("nvidia-cudnn-frontend",), fix=INSTALL["cudnn"])


def check_tensorrt() -> Finding:
    """TensorRT, by its Python module."""
    return check_module(
        name="TensorRT",
        modules=("tensorrt", "tensorrt_bindings"),
        packages=("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-bindings"),
        fix=INSTALL["tensorrt"],
    )


def check_tensorrt_rtx() -> Finding:
    """TensorRT for RTX, by its Python module."""
    return check_module(
        name="TensorRT-RTX",
        modules=("tensorrt_rtx", "tensorrt_rtx_bindings"),
        packages=("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings"),
        fix=INSTALL["tensorrt_rtx"],
    )


def check_torch() -> Finding:
    """PyTorch, and for which CUDA it was built, read from its files: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return Finding(name="PyTorch", state="optional", found="not installed", fix=INSTALL["torch"])
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    version = installed_version("torch") or "version unknown"
    # One line of the file that its build writes: cuda: Optional[str] = '13.0', or = None.
    cuda = re.search(r"""^cuda\b.*=\s*['"]([0-9.]+)['"]""", text, re.MULTILINE)
    if cuda is not None:
        return Finding(name="PyTorch", state="ok", found=f"{version}, built for CUDA {cuda[1]}")
    found = f"{version}, built without CUDA"
    if has_nvidia_driver():
        fix = "pip install --force-reinstall torch"
        return Finding(name="PyTorch", state="optional", found=f"{found}, so the GPU is out of its reach", fix=fix)
    return Finding(name="PyTorch", state="ok", found=found)


def check_onnxruntime() -> Finding:
    """ONNX Runtime and what it can run on."""
    version = next(filter(None, map(installed_version, ("onnxruntime", "onnxruntime-gpu"))), None)
    fix = INSTALL["onnxruntime"]
    if not has_module("onnxruntime"):
        return Finding(name="ONNX Runtime", state="optional", found="not installed", fix=fix)
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as exc:
        return Finding(name="ONNX Runtime", state="optional", found=f"cannot be imported: {exc}", fix=fix)
    providers = [name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers()]
    return Finding(
        name="ONNX Runtime", state="ok", found=f"{version or runtime.__version__}, providers {' '.join(providers)}"
    )


def check_openvino() -> Finding:
    """OpenVINO, its devices and what the processor computes natively."""
    try:
        openvino = importlib.import_module("openvino")
    except ImportError as exc:
        return Finding(
            name="OpenVINO", state="optional", found=f"cannot be imported: {exc}", fix="pip install openvino"
        )
    try:
        core = openvino.Core()
        devices = list(core.available_devices)
        abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") if "CPU" in devices else []
    except RuntimeError as exc:  # all errors of its C++ side
        found = f"{openvino.__version__} does not start: {str(exc).strip().splitlines()[0]}"
        return Finding(name="OpenVINO", state="optional", found=found, fix="pip install --force-reinstall openvino")
    bf16 = "with bf16" if "BF16" in abilities else "without bf16"
    return Finding(name="OpenVINO", state="ok", found=f"{openvino.__version__}, devices {' '.join(devices)}, {bf16}")


def check_weights() -> Finding:
    """The weight files of all models of the table."""
    from engines import DEFAULT_MODEL, MODELS
    from engines.weights import find_weights_files, models_dir

    here, lacking = [], {}
    for name, model in MODELS.items():
        if not model.files:
            continue
        try:
            find_weights_files(model)
        except WeightsError as exc:
            lacking[name] = exc.hint
        else:
            here.append(name)
    if not lacking:
        return Finding(name="weights", state="ok", found=f"{', '.join(here)}; more go into {models_dir()}")
    found = f"{', '.join(here) or 'none'}; not here: {', '.join(lacking)}"
    if DEFAULT_MODEL in lacking:
        return Finding(name="weights", state="missing", found=found, fix=lacking[DEFAULT_MODEL])
    fix = next(iter(lacking.values())) if len(lacking) == 1 else "python -m engines list says where to get each"
    return Finding(name="weights", state="optional", found=found, fix=fix)


def check_engine_cache() -> Finding:
    """The folder of compiled engines, and what it holds."""
    from engines.cache.store import EngineStore, default_cache_dir

    folder = default_cache_dir()
    try:
        entries = EngineStore(folder).entries()
    except EngineError as exc:
        return Finding(name="engines", state="optional", found=str(exc), fix=exc.hint)
    engine_count = sum(entry.kind == "engine" for entry in entries)
    damaged_count = sum(entry.kind == "damaged" for entry in entries)
    size_gib = sum(entry.file_bytes for entry in entries if entry.kind != "foreign") / GIB
    found = f"{engine_count} compiled, {size_gib:.2f} GiB in {folder}"
    if damaged_count:
        found += f"; {damaged_count} damaged, compiled anew when needed"
    return Finding(name="engines", state="ok", found=found)


def check_module(*, name: str, modules: tuple[str, ...], packages: tuple[str, ...], fix: str) -> Finding:
    """Look for an optional Python module without importing it: GPU libraries take seconds and memory to load."""
    if not any(has_module(module) for module in modules):
        return Finding(name=name, state="optional", found="not installed", fix=fix)
    version = next(filter(None, map(installed_version, packages)), None)
    return Finding(name=name, state="ok", found=version or "installed, version unknown")


def has_module(name: str) -> bool:
    """Whether a module could be imported, without importing it (only its parent packages)."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # no parent package; a module that an import hook left half made
        return False


ENGINE_PROBES: tuple[Callable[[], Finding], ...] = (
    check_openvino,
    check_torch,
    check_onnxruntime,
    check_gpu,
    check_cuda_bindings,
    check_nvrtc,
    check_cudnn,
    check_tensorrt,
    check_tensorrt_rtx,
    check_weights,
    check_engine_cache,
)
"""Everything that runs networks, in the order in which it is shown."""

"""The kernels of ``engines.cudnn.ends`` as host functions of a C++ compiler, over numpy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path

from engines.cudnn.compile import SOURCES, KernelSource

COMPILER = shutil.which("g++") or shutil.which("clang++")
_PLATFORM = Path(__file__).with_name("cudnn_on_cpu.cuh")
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-Wall", "-Wno-unknown-pragmas")


def run_on_cpu(source: KernelSource, call, *, folder: Path) -> None:
    """Run one launch; addresses in the arguments are the host's."""
    arguments, blocks = call
    function = getattr(_library(source, folder), source.name)
    function(ctypes.byref(arguments), *blocks)


def _library(source: KernelSource, folder: Path) -> ctypes.CDLL:
    digest = hashlib.sha256(repr(source).encode()).hexdigest()[:24]
    library = folder / f"{digest}.so"
    if not library.is_file():
        headers = folder / "headers"
        headers.mkdir(exist_ok=True)
        shutil.copy(_PLATFORM, headers / "platform.cuh")
        shutil.copy(SOURCES / f"{source.name}.cu", headers)
        kernel = headers / f"{source.name}.cu"
        command = [COMPILER, *_FLAGS, f"-I{headers}", *source.macros, "-x", "c++", str(kernel), "-o", str(library)]
        subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))

"""What ``doctor`` looks for: one function per finding. None of them raises for something that is not there.

What runs networks is looked for in `pipeline.doctor_engines`.
"""

from __future__ import annotations

import ctypes
import importlib
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline import __version__
from pipeline.doctor import Finding
from pipeline.doctor_engines import ENGINE_PROBES, NVIDIA_EXTRA
from pipeline.errors import PipelineError
from pipeline.host import cpu_flags, installed_version, probe_host

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


def check_nvdec() -> Finding:
    """The driver's decoder library and the package that uses it."""
    return check_codec_library(name="NVDEC", library="libnvcuvid.so.1", package="PyNvVideoCodec")


def check_nvenc() -> Finding:
    """The driver's encoder library, and for which codecs a session opens: not every GPU has an encoder."""
    from pipeline.encode.table import ENCODERS

    finding = check_codec_library(name="NVENC", library="libnvidia-encode.so.1", package="")
    if finding.state != "ok":
        return finding
    opened, refused = [], []
    for name in (name for name, spec in ENCODERS.items() if spec.is_hardware):
        reason = refuse_session(name)
        if reason:
            refused.append(reason)
        else:
            opened.append(name)
    if not opened:
        return Finding(name="NVENC", state="optional", found=refused[0])
    found = f"a session opens for {' '.join(opened)}"
    return Finding(name="NVENC", state="ok", found="; ".join((found, *refused)))


def refuse_session(name: str) -> str:
    """Why no session of a hardware encoder opens, in a line; empty if one does."""
    try:
        session = importlib.import_module("pipeline.encode.session")
    except ImportError as exc:
        return f"no session can be tried: {exc}"
    try:
        session.try_session(name)
    except PipelineError as exc:
        return str(exc)
    return ""


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
    detail = f", {package} {version}" if package else ""
    return Finding(name=name, state="ok", found=f"{library}{detail}")


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

    wanted = [name for name, spec in ENCODERS.items() if spec.codec and not spec.is_hardware]
    here = [name for name in wanted if is_built_in(name)]
    lacking = [name for name in wanted if name not in here]
    nvenc = [name for name, spec in ENCODERS.items() if spec.is_hardware and is_built_in(name)]
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
    check_nvdec,
    check_nvenc,
    *ENGINE_PROBES,
)
"""Everything, in the order in which it is shown."""

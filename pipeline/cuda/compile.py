"""CUDA C to machine code for one kind of GPU, by NVRTC. Needs neither a GPU nor a driver nor any CUDA header."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SetupError

THREADS = 256
"""Threads of a block where a kernel asks for no other number: eight warps, which every GPU can hold several times."""

SOURCES = Path(__file__).parent / "sources"
"""The kernels and what they include."""

_HINT = "choose device cpu, or report this with the whole message"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBuild:
    """One kernel in one of its variants."""

    name: str
    """Of the kernel and of its file in ``sources``."""
    defines: tuple[tuple[str, str | int], ...] = ()
    """Macros; each source says which it needs."""
    threads: int = THREADS
    """Of a block."""

    @property
    def macros(self) -> tuple[str, ...]:
        """All macros as compilers take them."""
        return (f"-DTHREADS={self.threads}", *(f"-D{name}={value}" for name, value in self.defines))


class KernelCompiler:
    """Compiles for one architecture.

    Args:
        capability: Compute capability of the GPU, (9, 0) ...

    Raises:
        SetupError: NVRTC is not installed, or too new for the GPU.
    """

    def __init__(self, capability: tuple[int, int]) -> None:
        self._nvrtc = _load_nvrtc()
        self.version: tuple[int, int] = tuple(self._call("nvrtcVersion"))
        self.architecture = self._choose(capability)
        """``sm_90`` for machine code; ``compute_90`` for PTX, which the driver of a GPU newer than NVRTC translates."""

    def key(self, build: KernelBuild) -> str:
        """Name of everything that the compiled kernel depends on: 64 hexadecimal digits."""
        digest = hashlib.sha256()
        parts = [f"nvrtc {self.version}", build.name, *self._options(build)]
        parts += [text for path in sorted(SOURCES.glob("*.cu*")) for text in (path.name, path.read_text("utf-8"))]
        for part in parts:
            digest.update(f"{len(part)}:{part}".encode())
        return digest.hexdigest()

    def compile(self, build: KernelBuild) -> bytes:
        """Compile one kernel.

        Returns:
            What ``cuModuleLoadData`` loads. The function in it has the kernel's name.

        Raises:
            SetupError: The compiler refuses it; the message holds its log.
        """
        headers = sorted(SOURCES.glob("*.cuh"))
        source = (SOURCES / f"{build.name}.cu").read_bytes()
        program = self._call(
            "nvrtcCreateProgram",
            source,
            f"{build.name}.cu".encode(),
            len(headers),
            [path.read_bytes() for path in headers],
            [path.name.encode() for path in headers],
        )
        try:
            options = [option.encode() for option in self._options(build)]
            (error,) = self._nvrtc.nvrtcCompileProgram(program, len(options), options)
            if int(error) != 0:
                log = self._read(program, "nvrtcGetProgramLog").rstrip(b"\0").decode("utf-8", errors="replace").strip()
                raise SetupError(
                    f"NVRTC {self.version[0]}.{self.version[1]} cannot compile the kernel {build.name} for "
                    f"{self.architecture} ({error.name}):\n{log}",
                    missing=f"kernel {build.name}",
                    hint=_HINT,
                )
            return self._read(program, "nvrtcGetCUBIN" if self.architecture.startswith("sm_") else "nvrtcGetPTX")
        finally:
            self._nvrtc.nvrtcDestroyProgram(program)

    def _options(self, build: KernelBuild) -> tuple[str, ...]:
        return (f"--gpu-architecture={self.architecture}", "--std=c++17", *build.macros)

    def _choose(self, capability: tuple[int, int]) -> str:
        number = 10 * capability[0] + capability[1]
        known = [int(value) for value in self._call("nvrtcGetSupportedArchs")]
        older = [value for value in known if value <= number]
        if not older:
            raise SetupError(
                f"NVRTC {self.version[0]}.{self.version[1]} compiles for compute capability {min(known) / 10:.1f} and "
                f"above; this GPU has {number / 10:.1f}",
                missing="NVRTC for this GPU",
                hint="choose device cpu, or install an older nvidia-cuda-nvrtc",
            )
        # Machine code runs on every later minor version of the same major one. Source: CUDA C++ Programming Guide,
        # "Binary Compatibility".
        is_binary = max(older) // 10 == capability[0]
        return f"{'sm' if is_binary else 'compute'}_{max(older)}"

    def _read(self, program: Any, name: str) -> bytes:
        """What NVRTC holds for a program, by the function that copies it."""
        content = b" " * int(self._call(f"{name}Size", program))
        self._call(name, program, content)  # the binding writes into the bytes object
        return content

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._nvrtc, name)(*arguments)
        if int(error) != 0:
            raise SetupError(f"NVRTC failed: {name} gave {error.name}", missing="NVRTC", hint=_HINT)
        return values[0] if len(values) == 1 else tuple(values)


def _load_nvrtc() -> Any:
    hint = 'pip install "nightscale[nvidia]"'
    try:
        from cuda.bindings import nvrtc
    except ImportError as exc:
        raise SetupError(f"CUDA cannot be used from Python: {exc}", missing="cuda-bindings", hint=hint) from exc
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as exc:  # cuda.pathfinder: the library is not on this machine
        raise SetupError(
            "NVIDIA's runtime compiler is not installed (libnvrtc cannot be loaded)",
            missing="nvidia-cuda-nvrtc",
            hint=hint,
        ) from exc
    return nvrtc

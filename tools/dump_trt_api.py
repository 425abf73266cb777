"""Write down which names, signatures and enum members a TensorRT module really has, for the double in the tests.

TensorRT's Python bindings are one compiled module that needs NVIDIA's libraries. To read names it is enough that those
libraries exist: this tool compiles empty ones (a C compiler is needed), unpacks a bindings wheel beside them and
imports it in a child process. TensorRT for RTX is read where it is installed.

    python tools/dump_trt_api.py --wheel tensorrt_cu13_bindings-11.4.0.106-cp311-none-manylinux_2_28_x86_64.whl
    python tools/dump_trt_api.py --module tensorrt_rtx_bindings

Each call writes one file, ``tests/helpers/trt_signatures/<library>-<version>.json``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

CLASSES = (
    "Builder",
    "Dims",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IErrorRecorder",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IRuntimeCache",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
)
"""Classes written with all their members; of the others only the name."""

STAND_IN_SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""All that the bindings import from NVIDIA's libraries. Source: ``nm -D --undefined-only`` of 10.13, 10.16 and 11.4."""

STAND_IN_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
FOLDER = Path(__file__).resolve().parents[1] / "tests" / "helpers" / "trt_signatures"


def describe_module(module: Any, *, library: str) -> dict[str, Any]:
    """Return every public name of the module, with the members of ``CLASSES`` and of all enums."""
    names = sorted(name for name in dir(module) if not name.startswith("_"))
    enums = {}
    for name in names:
        value = getattr(module, name)
        if isinstance(value, type) and hasattr(value, "__members__"):
            enums[name] = _members_of_enum(value)
    return {
        "library": library,
        "version": module.__version__,
        "names": [name for name in names if name not in enums and name not in CLASSES],
        "enums": enums,
        "classes": {name: _members_of_class(getattr(module, name)) for name in CLASSES if hasattr(module, name)},
    }


def _members_of_enum(kind: Any) -> dict[str, int]:
    return {name: int(value) for name, value in kind.__members__.items()}


def _members_of_class(kind: type) -> dict[str, Any]:
    """Methods with their overloads, properties with r or rw, nested enums with their members."""
    methods: dict[str, list[str]] = {}
    properties: dict[str, str] = {}
    enums: dict[str, dict[str, int]] = {}
    for owner in reversed(kind.__mro__):
        if owner.__name__ in ("object", "pybind11_object"):
            continue
        for name, value in vars(owner).items():
            if name.startswith("_") and name not in ("__init__", "__len__", "__getitem__"):
                continue
            if name.startswith("add_") and owner.__name__ == "INetworkDefinition":
                continue  # networks come from the parser; these are half of all text
            if isinstance(value, property):
                properties[name] = "rw" if value.fset is not None else "r"
            elif isinstance(value, type):
                enums[name] = _members_of_enum(value)
            elif callable(value):
                methods[name] = _signatures(name, value.__doc__ or "")
    return {"methods": methods, "properties": properties, "enums": enums}


def _signatures(name: str, docstring: str) -> list[str]:
    """The signature lines that pybind11 puts in front of a docstring, without module names."""
    found = re.findall(rf"^(?:\d+\. )?({re.escape(name)}\(self.*)$", docstring, flags=re.MULTILINE)
    return [_plain_types(line) for line in found]


def _plain_types(signature: str) -> str:
    """Spell the types of one signature without modules and without what only differs between pybind11 versions."""
    for pattern, replacement in (
        (r"\b(tensorrt\w*_bindings\.)?tensorrt(_rtx)?\.", ""),
        (r"\btyping\.SupportsInt\b( \| typing\.SupportsIndex)?", "int"),
        (r": (typing_extensions\.Buffer|collections\.abc\.Buffer|buffer)\b", ": bytes"),
        (r"\bnvinfer1::", ""),
        (r"\bcollections\.abc\.Sequence\b", "list"),
        (r"\bList\[", "list["),
        (r"= <(\w+)\.(\w+): -?\d+>", r"= \1.\2"),
        (r"\btyping\.", ""),
    ):
        signature = re.sub(pattern, replacement, signature)
    return signature


def _dump_here(module_name: str) -> dict[str, Any]:
    module = importlib.import_module(module_name)
    return describe_module(module, library="tensorrt_rtx" if "rtx" in module_name else "tensorrt")


def dump_wheel(wheel: Path) -> dict[str, Any]:
    """Read a bindings wheel over empty stand-ins for NVIDIA's libraries, in a child process."""
    major = wheel.name.split("-")[1].split(".")[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        source = folder / "stand_in.c"
        source.write_text("".join(f"void *{symbol};\n" for symbol in STAND_IN_SYMBOLS))
        for library in STAND_IN_LIBRARIES:
            file = f"lib{library}.so.{major}"
            subprocess.run(["cc", "-shared", "-o", folder / file, f"-Wl,-soname,{file}", source], check=True)
        answer = subprocess.run(
            [sys.executable, Path(__file__), "--module", "tensorrt_bindings", "--print"],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"LD_LIBRARY_PATH": name, "PYTHONPATH": name},
        )
    described: dict[str, Any] = json.loads(answer.stdout)
    return described


def main(arguments: list[str] | None = None) -> None:
    """Write one signature file, or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help="a tensorrt bindings wheel for this Python; needs no library")
    source.add_argument("--module", help="an installed module, such as tensorrt_rtx_bindings")
    parser.add_argument("--print", action="store_true", help="print instead of writing a file")
    chosen = parser.parse_args(arguments)
    described = dump_wheel(chosen.wheel) if chosen.wheel else _dump_here(chosen.module)
    text = json.dumps(described, indent=None, separators=(",", ":"), sort_keys=True)
    if chosen.print:
        print(text)
        return
    version = ".".join(described["version"].split(".")[:2])
    target = FOLDER / f"{described['library']}-{version}.json"
    target.write_text(text.replace('},"', '},\n"').replace('],"', '],\n"') + "\n")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()

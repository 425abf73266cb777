"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "engines")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tools").glob("*.py"))]
HEAVY = (
    "torch",
    "tensorrt",
    "tensorrt_rtx",
    "av",
    "numba",
    "openvino",
    "onnx",
    "onnxruntime",
    "ffmpeg",
    "rich",
    "cuda",
    "PyNvVideoCodec",
    "cudnn",
)
LOADED_WHEN_USED = {
    "engines/cudnn/emulation.py",
    "pipeline/decode/deinterlacing.py",
    "pipeline/decode/field_scan.py",
    "pipeline/decode/film_pass.py",
    "pipeline/decode/frame_filter.py",
    "pipeline/decode/image_watch.py",
    "pipeline/decode/libav.py",
    "pipeline/decode/nvdec.py",
    "pipeline/decode/nvdec_pass.py",
    "pipeline/decode/packets.py",
    "pipeline/decode/pass_decoder.py",
    "pipeline/encode/libav.py",
    "pipeline/encode/pictures.py",
    "pipeline/encode/session.py",
    "pipeline/encode/surfaces.py",
    "pipeline/show/live.py",
    "engines/torch_modules.py",
}
"""Modules that are one use of a library; whoever opens them imports them inside a function."""
BANNED_FILE_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}
BANNED_WORDS = ("Manager", "Handler", "Processor", "Helper", "Util")


def identifier(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports_of(tree: ast.AST) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.module, node.lineno))
    return found


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of the packages, parsed, by its path."""
    return {identifier(path): ast.parse(path.read_text()) for path in MODULES}


def test_a_module_fits_in_the_head() -> None:
    assert not [identifier(path) for path in SOURCES if len(path.read_text().splitlines()) > 500]
    assert not [identifier(path) for path in SOURCES if path.name in BANNED_FILE_NAMES]


def test_dependencies_point_one_way(trees: dict[str, ast.Module]) -> None:
    for name, tree in trees.items():
        banned = {"tools", "tests"} | ({"pipeline"} if name.startswith("engines/") else set())
        wrong = [(target, line) for target, line in imports_of(tree) if target.split(".")[0] in banned]
        assert not wrong, f"{name} imports {wrong}"


def test_stages_know_neither_threads_nor_channels() -> None:
    tree = ast.parse((ROOT / "pipeline/stages.py").read_text())
    assert not {target for target, _ in imports_of(tree)} & {
        "pipeline.graph.runtime",
        "pipeline.graph.channel",
        "threading",
    }


def test_threads_live_in_the_runtime_alone(trees: dict[str, ast.Module]) -> None:
    allowed = {
        "pipeline/graph/runtime.py",
        "pipeline/graph/channel.py",
        "pipeline/graph/line.py",  # a type only
        "pipeline/graph/pool.py",
        "pipeline/graph/shared_runner.py",
        "pipeline/graph/watch.py",
        "engines/trt/progress.py",  # a lock: TensorRT reports progress from threads of its own
    }
    banned = {"threading", "queue", "concurrent.futures", "multiprocessing"}
    users = {name for name, tree in trees.items() if banned & {target for target, _ in imports_of(tree)}}
    assert users <= allowed


def test_exceptions_are_caught_by_name(trees: dict[str, ast.Module]) -> None:
    allowed = {"pipeline/graph/runtime.py", "pipeline/cli.py", "engines/cli.py"}
    for name, node in ((name, node) for name, tree in trees.items() for node in ast.walk(tree)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except at {name}:{node.lineno}"
            caught = ast.unparse(node.type)
            if caught in {"Exception", "BaseException"}:
                reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                assert reraises or name in allowed, f"{caught} swallowed at {name}:{node.lineno}"


def test_names_say_what_a_thing_is(trees: dict[str, ast.Module]) -> None:
    for module, tree in trees.items():
        names = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        wrong = [name for name in names if any(word in name for word in BANNED_WORDS)]
        assert not wrong, f"{module} names {wrong}"


def test_nothing_is_changed_through_global(trees: dict[str, ast.Module]) -> None:
    for module, tree in trees.items():
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global)]
        assert not lines, f"global in {module}:{lines}"


def test_importing_the_packages_loads_no_heavy_library() -> None:
    names = [
        identifier(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in MODULES
        if not identifier(path).startswith(("pipeline/cpu/", "engines/backends/"))
        and identifier(path) not in LOADED_WHEN_USED
        and path.name != "__main__.py"
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        f"    loaded = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "    assert not loaded, f'importing {name} loads {loaded}'"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_listed_sorted_and_real(package: str) -> None:
    face = importlib.import_module(package)
    assert list(face.__all__) == sorted(face.__all__, key=str.casefold)
    assert all(hasattr(face, name) for name in face.__all__)


def test_installed_packages_are_exactly_the_folders() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = sorted({identifier(path.parent).replace("/", ".") for path in MODULES})
    assert sorted(listed) == folders


def test_the_readme_gives_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in ("demo", "tests"):
        assert f"<!-- command: {command} -->" in readme
    assert "python -m pipeline run configs/demo.yaml" in readme
    assert "tools/check_repo.py" in readme


def test_the_ci_script_runs_the_readme_command() -> None:
    assert "README.md" in (ROOT / ".ci/run").read_text()

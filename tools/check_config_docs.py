"""Check that every config field has a default, a constraint, a unit and a docstring, by reading the source.

    python tools/check_config_docs.py [FILE ...]

Prints one line per field that lacks something; the exit status is 1 if there is one. Without arguments it checks the
modules of the config models.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = tuple(
    ROOT / "pipeline/config" / name
    for name in ("models.py", "inputs.py", "infer.py", "outputs.py", "run.py", "types.py")
)

OPEN_TYPES = {"int", "float", "str", "bytes", "Any", "object", "dict", "list", "set", "Path", "Fraction"}
"""Types that take any value and so need a constraint."""
NUMBERS = {"int", "float", "SidePx", "ThreadCount", "QueueLength", "Rate"}
"""Types and aliases whose values count or measure something."""
UNIT_IN_NAME = re.compile(r"_(px|s|ms|mb|bytes|frames|tiles|batches|count)$|^threads$")
UNIT_IN_TEXT = re.compile(
    r"\b(pixels|seconds|frames|frames per second|threads|bits|MiB|no unit|own unit)\b", re.IGNORECASE
)


def names_without_constraint(annotation: ast.expr) -> Iterator[str]:
    """Yield the open types of an annotation that no ``Annotated[..., Field(...)]`` or validator limits."""
    if isinstance(annotation, ast.Subscript):
        outer = annotation.value
        if isinstance(outer, ast.Name) and outer.id == "Literal":
            return
        if isinstance(outer, ast.Name) and outer.id == "Annotated" and isinstance(annotation.slice, ast.Tuple):
            if any(isinstance(item, ast.Call) for item in annotation.slice.elts[1:]):
                return
            yield from names_without_constraint(annotation.slice.elts[0])
            return
        yield from names_without_constraint(annotation.slice)
    elif isinstance(annotation, ast.Name):
        if annotation.id in OPEN_TYPES:
            yield annotation.id
    else:
        for child in ast.iter_child_nodes(annotation):
            if isinstance(child, ast.expr):
                yield from names_without_constraint(child)


def field_problems(field: ast.AnnAssign, *, docstring: str) -> Iterator[str]:
    """Yield what one field lacks."""
    name = field.target.id if isinstance(field.target, ast.Name) else ast.unparse(field.target)
    if field.value is None:
        yield "has no default"
    if not docstring.strip():
        yield "has no docstring"
    for open_type in names_without_constraint(field.annotation):
        yield f"has no constraint on {open_type}"
    types = {node.id for node in ast.walk(field.annotation) if isinstance(node, ast.Name)}
    if types & NUMBERS and not (UNIT_IN_NAME.search(name) or UNIT_IN_TEXT.search(docstring)):
        yield "has no unit, neither at the end of its name nor in its docstring"


def check_source(source: str, *, file_name: str) -> list[str]:
    """Check all sections of one module; one line per problem."""
    problems = []
    tree = ast.parse(source)
    sections = {"Section"}
    for section in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        if not any(isinstance(base, ast.Name) and base.id in sections for base in section.bases):
            continue
        sections.add(section.name)
        if not ast.get_docstring(section):
            problems.append(f"{file_name}:{section.lineno}: {section.name} has no docstring")
        for index, statement in enumerate(section.body):
            if not isinstance(statement, ast.AnnAssign):
                continue
            after = section.body[index + 1] if index + 1 < len(section.body) else None
            has_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            docstring = str(after.value.value) if has_text else ""  # type: ignore[union-attr]
            name = f"{section.name}.{ast.unparse(statement.target)}"
            problems += [
                f"{file_name}:{statement.lineno}: {name} {text}"
                for text in field_problems(statement, docstring=docstring)
            ]
    return problems


def main(argv: list[str] | None = None) -> int:
    """Check files; 1 if anything is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=FILES, help="modules with config sections")
    arguments = parser.parse_args(argv)
    problems = [
        problem
        for path in arguments.files
        for problem in check_source(path.read_text(encoding="utf-8"), file_name=path.name)
    ]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Write what is generated from the config models: configs/schema.json and configs/example.yaml.

    python tools/make_schema.py [--check]

With --check nothing is written; the exit status is 1 if a file is not what would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipeline.config.schema import config_schema, example_yaml

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def generated() -> dict[str, str]:
    """Text of each generated file by its name."""
    schema = json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"
    return {"schema.json": schema, "example.yaml": example_yaml()}


def main(argv: list[str] | None = None) -> int:
    """Write the files, or only compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    parser.add_argument("--folder", type=Path, default=CONFIGS, help="where the files are (default: configs/)")
    arguments = parser.parse_args(argv)
    stale = []
    for name, text in generated().items():
        path = arguments.folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'is out of date' if arguments.check else 'written'}")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())

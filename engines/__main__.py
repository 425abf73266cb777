"""``python -m engines``."""

from engines.cli import entry

if __name__ == "__main__":
    entry()

"""``python -m pipeline``: the command line and nothing else."""

from pipeline.cli import entry

if __name__ == "__main__":
    entry()

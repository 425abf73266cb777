"""Video upscaling as a graph of threads joined by bounded channels; see README.md beside this file."""

__version__ = "0.1.0"

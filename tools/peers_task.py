"""What every program of ``bench_peers.py`` is given, and the forms in which one says how it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Command = tuple[str, ...]
Step = tuple[Command, ...]
"""Commands that run at the same time, each one's standard output the next one's standard input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One film through one program."""

    clip: Path
    """H.264 in MP4, no sound, 8-bit 4:2:0."""
    result: Path
    """The MP4 file to make: H.264 by libx264, 8-bit 4:2:0."""
    folder: Path
    """Empty, for whatever a program needs beside it."""
    model: str
    """As this project names it."""
    onnx: Path
    """The same network as a graph for the clip's size, float32, NCHW in [0, 1]."""
    scale: int
    """The network's own."""
    height: int
    """Of the clip, pixels."""
    width: int
    rate: str
    """Frames per second as a fraction, ``24/1``."""
    matrix: str
    """``bt709`` or ``smpte170m``."""
    device: str
    """``cpu`` or ``cuda``."""
    preset: str
    """Of libx264."""
    crf: int
    ffmpeg: str
    """Path of the program."""

    @property
    def encoder(self) -> Command:
        """Arguments for ffmpeg that encode as all do."""
        return ("-c:v", "libx264", "-preset", self.preset, "-crf", str(self.crf), "-pix_fmt", "yuv420p", "-an")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A program, or why there is none."""

    version: str = ""
    """As it calls itself."""
    missing: str = ""
    """Why it cannot take part; empty if it can."""


class Peer(Protocol):
    """A program that enlarges films, and how it is used."""

    @property
    def name(self) -> str:
        """For the table."""
        ...

    @property
    def remark(self) -> str:
        """In what it differs from the others, if in anything."""
        ...

    def find(self, *, device: str, model: str) -> Found:
        """Look whether it is installed and can run that model there."""
        ...

    def steps(self, task: Task) -> Sequence[Step]:
        """How it is run, one step after the other."""
        ...

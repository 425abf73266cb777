"""Which kernel was chosen for which step, kept on disk under everything that could change it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from engines.atomic import write_atomic
from engines.cudnn.calibrating import Calibration
from engines.cudnn.fused import FusedSignature
from engines.cudnn.joins import JoinSignature

logger = logging.getLogger(__name__)

OWN_ENGINE: Final = -1
"""In place of the number of cuDNN's engine: a kernel of ours."""

NOT_JOINED: Final = -2
"""The same for two steps that a joined kernel of ours does not run rightly."""

_SCHEMA = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceKey:
    """All that decides which kernel is fastest and whether it is right, beside the signature."""

    onnx_sha256: str
    """Of the network at one shape."""
    gpu_name: str
    """``NVIDIA H200`` ..."""
    compute_capability: tuple[int, int]
    """(9, 0) ..."""
    driver_version: str
    """Of the display driver."""
    cudnn_version: int
    """91900 is 9.19.0."""
    frontend_version: str
    """Of cudnn-frontend."""
    precision: str = "fp16"
    """In which the network computes."""

    @property
    def digest(self) -> str:
        """SHA-256 over all fields and this engine's own sources."""
        text = json.dumps([_SCHEMA, source_digest(), asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@cache  # files of the package do not change while it runs
def source_digest() -> str:
    """SHA-256 over the engine's own files: what another version of it found out is not believed."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted((*folder.glob("*.py"), *(folder / "sources").glob("*.cu*"))):
        content = path.read_bytes()
        digest.update(f"{path.name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A kernel, in words that make it again in another process. It was compared with the plain one and right."""

    engine: int
    """Number of cuDNN's engine, or `OWN_ENGINE`."""
    knobs: tuple[tuple[str, int], ...] = ()
    """(name of ``cudnn.knob_type``, value), ascending."""
    milliseconds: float
    """Median when it was chosen."""
    name: str
    """As cuDNN names the plan; the file of a kernel of ours."""

    @property
    def is_own(self) -> bool:
        """Whether it is a kernel of ours."""
        return self.engine == OWN_ENGINE


class ChoiceStore:
    """What is known of one network on one GPU: a JSON file with its own checksum, read once, replaced whole.

    Args:
        folder: Made when something is saved.
        key: What it is valid for.
    """

    def __init__(self, folder: Path, key: ChoiceKey) -> None:
        self._path = folder / f"cudnn-{key.digest[:32]}.json"
        self._choices: dict[str, Choice] = {}
        self.psnr_db: float | None = None
        """How close the network came to float32 when it was compared with it; None if it never was."""
        self.calibration: Calibration | None = None
        """What of it runs in float8; None in any other precision, and if that was not found out yet."""
        try:
            self._read(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            self._choices = {}
            self.psnr_db = self.calibration = None
            logger.warning("%s is damaged and will be made again: %s", self._path, exc)

    def find(self, signature: FusedSignature | JoinSignature) -> Choice | None:
        """What was chosen for a signature."""
        return self._choices.get(digest_of(signature))

    def add(self, signature: FusedSignature | JoinSignature, choice: Choice) -> None:
        """Remember a choice until `save`."""
        self._choices[digest_of(signature)] = choice

    def save(self) -> None:
        """Write all; a folder that cannot be written costs the next start its time, not this one its run."""
        choices = {name: asdict(one) for name, one in sorted(self._choices.items())}
        calibration = None if self.calibration is None else asdict(self.calibration)
        content = _plain({"choices": choices, "psnr_db": self.psnr_db, "calibration": calibration})
        sealed = json.dumps({"sha256": _checksum(content), "content": content}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, sealed.encode())
        except OSError as exc:
            logger.warning("the choice of kernels cannot be kept in %s: %s", self._path, exc)

    def _read(self, stored: bytes) -> None:
        sealed = json.loads(stored)
        content = sealed["content"]
        if _checksum(content) != sealed["sha256"]:
            raise ValueError("its checksum is another")
        self._choices = {
            name: Choice(
                engine=int(one["engine"]),
                knobs=tuple((str(knob), int(value)) for knob, value in one["knobs"]),
                milliseconds=float(one["milliseconds"]),
                name=str(one["name"]),
            )
            for name, one in content["choices"].items()
        }
        self.psnr_db = None if content["psnr_db"] is None else float(content["psnr_db"])
        found = content["calibration"]
        if found is not None:
            self.calibration = Calibration(
                names=tuple(map(str, found["names"])),
                convolutions=int(found["convolutions"]),
                peaks=tuple((str(name), float(peak)) for name, peak in found["peaks"]),
                psnr_db=float(found["psnr_db"]),
            )


def digest_of(signature: FusedSignature | JoinSignature) -> str:
    """Name of a signature in a file."""
    return hashlib.sha256(json.dumps(asdict(signature), sort_keys=True).encode()).hexdigest()[:32]


def _plain(content: Any) -> Any:
    """As it will be when it was read back: lists instead of tuples."""
    return json.loads(json.dumps(content))


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

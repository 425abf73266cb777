"""What a network sees of an HDR film: not its codes, but a curve of their light that looks like SDR.

The curve is a power of light: ``seen = (light / peak) ** (1 / gamma)``, each of R, G and B by itself, so that the
mastering peak is 1. It is applied to the source's R'G'B' before the network, and undone after the enlarged picture has
its output size. Like the curves of ``pipeline.transfer`` it is odd below 0 and straight above code 1, so that values
outside [0, 1] come back unchanged. The loops are in ``pipeline.cpu.seen``, the GPU's in ``cuda/sources/seen.cuh``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.flat import flat_output
from pipeline.transfer import TransferCurve, transfer_curve

if TYPE_CHECKING:
    from pipeline.media import VideoTrack

HdrView = Literal["auto", "direct", "curve"]
"""``infer.hdr``."""

_GAMMAS = MappingProxyType({"pq": 3.2, "hlg": 2.4})
"""Measured with tools/measure_hdr.py; the table is in pipeline/README.md, with what the codes themselves come to."""

_NAMES = MappingProxyType({"pq": "PQ", "hlg": "HLG"})

_PQ_FULL_CD_M2 = 10_000.0
"""Light of PQ's code 1. Source: ITU-R BT.2100-2 table 4."""

_UNKNOWN_PEAK_CD_M2 = 4000.0
"""Peak of a PQ film that does not say. Measured (pipeline/README.md): a film of 1000 cd/m2 seen so loses 0.4 dB at most
against its own peak; one of 4000 seen as one of 1000 loses up to 1.3 dB."""

_LEAST_PEAK_CD_M2 = 1000.0
"""Dimmer masters are seen as one of these: it is the dimmest that was measured, and metadata is sometimes nonsense."""

FAMILIES = MappingProxyType({"pq": 2, "hlg": 3})
"""Families by the number that the kernels know them by: those of ``pipeline.resample``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCurve:
    """From an HDR film's codes to what the network sees, and back."""

    family: Literal["pq", "hlg"]
    """What the codes are."""
    gamma: float
    peak_cd_m2: float = 0.0
    """PQ: light that the network sees as 1. HLG: 0, as its light is relative; code 1 is seen as 1."""

    @property
    def text(self) -> str:
        """In words: what the network sees."""
        at_one = f", {self.peak_cd_m2:g} cd/m2 as 1" if self.family == "pq" else ""
        return f"light to the power of 1/{self.gamma:g}{at_one}"

    @property
    def resampling_curve(self) -> TransferCurve:
        """How what the network makes relates to light, for a change of size in light."""
        return TransferCurve(family="power", constants=(self.gamma, 0.0, 0.0, 0.0, 1.0), slope=self.gamma)

    @property
    def constants(self) -> NDArray[np.float32]:
        """All that the kernels need.

        Returns:
            Eleven float32. PQ: c1, c2, c3 (ITU-R BT.2100-2 table 4); HLG: a, b, c (table 5). What the network sees of
            code 1, how fast that rises there, 1 over each. Exponents: from light (PQ: its power of m1) to what is seen,
            and back; of PQ also 1 / m2 and m2.
        """
        curve = _film_curve(self.family)
        top = 1.0
        exponent = 1 / self.gamma
        powers = (0.0, 0.0)
        parts: tuple[float, ...] = curve.constants
        if self.family == "pq":
            m1, m2, *parts_list = curve.constants
            top = (_PQ_FULL_CD_M2 / self.peak_cd_m2) ** exponent
            exponent /= m1
            powers = (1 / m2, m2)
            parts = tuple(parts_list)
        # At code 1 light is 1 and rises by the film's slope; its power by a gamma-th of that, times what it is there.
        slope = top * curve.slope / self.gamma
        return np.array([*parts, top, slope, 1 / top, 1 / slope, exponent, 1 / exponent, *powers], dtype=np.float32)

    def show(self, rgb: NDArray[np.float32]) -> None:
        """Turn codes into what the network sees.

        Args:
            rgb: (3, H, W) R'G'B' with contiguous rows, nominally [0, 1]; overwritten. Nothing is clamped.

        Raises:
            ValueError: Rows are not contiguous, or the array cannot be written.
        """
        from pipeline.cpu.seen import show_codes

        show_codes(*self._arguments(rgb))

    def restore(self, rgb: NDArray[np.float32]) -> None:
        """Turn what a network made of such values into codes: the way back of ``show``.

        Args:
            rgb: As ``show`` takes it; overwritten.

        Raises:
            ValueError: As ``show``.
        """
        from pipeline.cpu.seen import restore_codes

        restore_codes(*self._arguments(rgb))

    def _arguments(self, rgb: NDArray[np.float32]) -> tuple[Any, ...]:
        if rgb.ndim != 3 or rgb.dtype != np.float32:
            raise ValueError(f"need float32 of shape (3, H, W), not {rgb.dtype} {rgb.shape}")
        flat, strides = flat_output(rgb)
        return flat, strides, rgb.shape, FAMILIES[self.family], self.constants


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenChoice:
    """What the network sees of a film."""

    curve: SeenCurve | None = None
    """None: its codes as they are."""
    reason: str = ""
    """In words, for HDR films; empty for others, of which there is nothing to say."""


def choose_seen(hdr: HdrView, video: VideoTrack) -> SeenChoice:
    """Decide what the network sees of a film.

    Args:
        hdr: ``auto`` and ``curve``: the curve, for PQ and HLG. ``direct``: the codes. Both the same for SDR: its codes.
        video: The film; its transfer and its light metadata count.
    """
    curve = transfer_curve(video.tags.transfer)
    if curve is None or curve.family == "power":
        return SeenChoice()
    family = curve.family
    if hdr == "direct":
        return SeenChoice(reason=f"the {_NAMES[family]} film's codes as they are, as infer.hdr says")
    if family == "hlg":
        seen = SeenCurve(family="hlg", gamma=_GAMMAS["hlg"])
        return SeenChoice(curve=seen, reason=f"the HLG film's {seen.text}")
    peak_cd_m2, source = _find_peak(video)
    seen = SeenCurve(family="pq", gamma=_GAMMAS["pq"], peak_cd_m2=peak_cd_m2)
    return SeenChoice(curve=seen, reason=f"the PQ film's {seen.text} ({source})")


def _find_peak(video: VideoTrack) -> tuple[float, str]:
    """Brightest light to expect of a PQ film in cd/m2, and who says so."""
    from pipeline.decode.sidedata import LUMINANCE_UNIT_CD_M2

    stated = 0.0
    source = "the film does not say how bright it is"
    if found := re.search(r"L\((\d+),", video.mastering_display):
        stated, source = float(int(found[1]) * LUMINANCE_UNIT_CD_M2), "its mastering display"
    if not stated and (found := re.match(r"(\d+),", video.content_light)):
        stated, source = float(found[1]), "its brightest pixel"
    if not stated:
        return _UNKNOWN_PEAK_CD_M2, "the film does not say how bright it is"
    return min(max(stated, _LEAST_PEAK_CD_M2), _PQ_FULL_CD_M2), source


def _film_curve(family: Literal["pq", "hlg"]) -> TransferCurve:
    curve = transfer_curve({"pq": 16, "hlg": 18}[family])
    assert curve is not None
    return curve

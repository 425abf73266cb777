"""Finds out by running it what a user's network does with pictures: enlargement, axes, range of values, sizes.

One small synthetic picture is run at a few sizes on the CPU. The picture is smooth, its three colours differ, and a
network that upscales pictures gives something near to it, enlarged; from that the range of values follows.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError
from engines.layers import IMAGE_CHANNELS
from engines.networks.onnx_facts import Facts
from engines.networks.onnx_signature import Layout, Signature
from engines.networks.onnx_trial import Trial, TrialFailed, open_trial
from engines.networks.onnx_wrapping import with_input_sides

if TYPE_CHECKING:
    from onnx import ModelProto

_MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64)
"""Divisors of the tile's sides that are tried, in this order. Window and unshuffle factors of published networks are
among them: 2 and 4 (unshuffle), 7, 8, 10, 12, 14, 16 (windows), 32 and 64 (encoders with five or six halvings)."""

_TRIAL_SIDES_PX = (16, 128)
"""Least sides of the tiles that are tried: small first, as the network's whole cost is paid for each."""

_TELLING_ERROR = 0.1
"""Mean error, black to white being 1, below which a picture counts as reproduced. Measured on the trial picture with
animevideov3, x4plus_anime_6B and x4plus: 0.025 to 0.037; as networks for 0 to 255 that get 0 to 1: 0.29 to 0.59."""

_CORNER_DB = 30.0
"""PSNR in the corner of a tile, with and without more picture beside it, from which on a network of fixed size counts
as one of free size. Measured with the same networks on tiles of 32 pixels: 40 to 83 dB; moved by two pixels, as wrong
sizes inside a network would at least do: 17 to 20 dB."""

PEAKS = (1.0, 255.0)
"""Values of white that are considered."""


def probe(model: ModelProto, *, signature: Signature, path: Path) -> Facts:
    """Run a network on small pictures and tell what it does.

    Args:
        model: A float32 graph (``onnx_widening``), not changed.
        signature: Of that graph.
        path: Named in errors.

    Raises:
        ModelFileError: It cannot be run, or what it gives is not its input, enlarged by a whole number.
    """
    failures: list[ModelFileError] = []
    for layout in signature.layouts:
        try:
            return _Probe(model, signature=signature, layout=layout, path=path).facts()
        except ModelFileError as exc:
            failures.append(exc)
    raise failures[0]


def trial_picture(*, height: int, width: int) -> NDArray[np.float32]:
    """Draw the picture that networks are tried with: (1, 3, H, W) float32 RGB in [0.1, 0.9], smooth, colours differ."""
    rows = np.arange(height, dtype=np.float64)[:, None]
    columns = np.arange(width, dtype=np.float64)[None, :]
    waves = [
        np.sin(rows / period + phase) * np.cos(columns / (period + 2.0) + 2.0 * phase)
        for period, phase in ((9.0, 0.3), (11.0, 1.4), (13.0, 2.9))
    ]
    picture: NDArray[np.float32] = (0.5 + 0.4 * np.stack(waves)[None]).astype(np.float32)
    return picture


class _Probe:
    """The trials of one network, taken as one of a layout."""

    def __init__(self, model: ModelProto, *, signature: Signature, layout: Layout, path: Path) -> None:
        self._model = model
        self._signature = signature
        self._layout: Layout = layout
        self._path = path
        self._output_layout: Layout = layout
        self._is_fixed = signature.height is not None or signature.width is not None
        self._batch = signature.batch or 1

    def facts(self) -> Facts:
        """Run all trials."""
        if self._is_fixed:
            return self._facts_of_fixed()
        trial = self._open(freed=True)
        multiple, picture, result = self._first_working_size(trial)
        return self._facts(trial, multiple=multiple, picture=picture, result=result)

    def _facts_of_fixed(self) -> Facts:
        """A file of one size: free it if that gives the same picture, else keep to that size."""
        given = self._open(freed=False)
        height = self._signature.height or max(self._signature.width or 0, _TRIAL_SIDES_PX[0])
        width = self._signature.width or max(self._signature.height or 0, _TRIAL_SIDES_PX[0])
        whole = trial_picture(height=height, width=width)
        try:
            original = self._run(given, whole)
        except TrialFailed as exc:
            raise ModelFileError(
                f"{self._path} does not run on a picture of its own size, {width}x{height}: {exc}",
                hint="export the network again",
            ) from exc
        try:
            trial = self._open(freed=True)
            multiple, picture, result = self._first_working_size(trial)
            if self._is_same_picture(trial, original=original, height=height, width=width, multiple=multiple):
                return self._facts(trial, multiple=multiple, picture=picture, result=result)
        except ModelFileError:
            pass  # it has its size inside
        return self._facts(given, multiple=math.gcd(height, width), picture=whole, result=original, is_fixed=True)

    def _facts(
        self,
        trial: Trial,
        *,
        multiple: int,
        picture: NDArray[np.float32],
        result: NDArray[np.float32],
        is_fixed: bool = False,
    ) -> Facts:
        """Tell what a network does that makes ``result`` of ``picture``."""
        height, width = picture.shape[2:]
        input_peak, output_peak = self._peaks(trial, picture=picture, result=result)
        can_vary = not is_fixed or self._signature.batch is None
        takes_any_batch = can_vary and self._takes_other_batch(trial, picture=picture, result=result)
        return Facts(
            scale=result.shape[2] // height,
            input_layout=self._layout,
            output_layout=self._output_layout,
            input_peak=input_peak,
            output_peak=output_peak,
            size_multiple=multiple,
            min_px=min(height, width) if is_fixed else self._least_side(trial, multiple=multiple, working_px=height),
            fixed_batch=None if takes_any_batch else self._batch,
            fixed_height=height if is_fixed else None,
            fixed_width=width if is_fixed else None,
        )

    def _open(self, *, freed: bool) -> Trial:
        """Load the graph with free sides or its own."""
        model = self._model
        if freed:
            model = with_input_sides(
                model,
                input_name=self._signature.input_name,
                layout=self._layout,
                batch="batch",
                height="height",
                width="width",
            )
        try:
            return open_trial(model)
        except TrialFailed as exc:
            raise ModelFileError(
                f"{self._path} cannot be loaded: {exc}", hint="export the network again, with opset 17 to 20"
            ) from exc

    def _first_working_size(self, trial: Trial) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]:
        """Find the smallest divisor of the sides with which the network runs, a picture of such sides and its result.

        The sides tried are odd multiples of the divisor and differ, so that a greater divisor is not met by chance.

        Raises:
            ModelFileError: None works; the reason is that of the last attempt that ran, else of the first.
        """
        failures: list[ModelFileError] = []
        for least_px in _TRIAL_SIDES_PX:
            for multiple in _MULTIPLES:
                height = multiple * (math.ceil(least_px / multiple) | 1)
                picture = trial_picture(height=height, width=height + 2 * multiple)
                try:
                    result = self._run(trial, picture)
                except TrialFailed as exc:
                    failures.append(exc)
                except ModelFileError as exc:
                    failures.insert(0, exc)
                else:
                    return multiple, picture, result
        if isinstance(failures[0], TrialFailed):
            raise ModelFileError(
                f"{self._path} runs with no size of picture that was tried: {failures[0]}",
                hint="the network must take 1x3xHxW pictures; export it with free height and width",
            ) from failures[0]
        raise failures[0]

    def _run(self, trial: Trial, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a picture (N, 3, H, W) and return (N, 3, s*H, s*W).

        Raises:
            TrialFailed: The library cannot run that size.
            ModelFileError: The result is not an enlarged picture, or not finite.
        """
        tiles = np.repeat(picture, self._batch // len(picture), axis=0) if len(picture) < self._batch else picture
        if self._layout == "nhwc":
            tiles = np.ascontiguousarray(tiles.transpose(0, 2, 3, 1))
        result = trial.run(tiles)[self._signature.output_name]
        return self._as_picture(result, count=len(tiles), height=picture.shape[2], width=picture.shape[3])

    def _as_picture(self, result: NDArray[np.float32], *, count: int, height: int, width: int) -> NDArray[np.float32]:
        """Check that a result is a picture and return it as (N, 3, s*H, s*W)."""
        words = "x".join(map(str, result.shape))
        came_from = f"{self._path}: a picture of {width}x{height} pixels gives {words}"
        if result.ndim != 4 or result.shape[0] != count or IMAGE_CHANNELS not in (result.shape[1], result.shape[3]):
            raise ModelFileError(
                f"{came_from}, which is no RGB picture",
                hint="give a network that upscales pictures (1x3xHxW to 1x3xsHxsW)",
            )
        layouts: tuple[Layout, ...] = (self._layout, "nhwc" if self._layout == "nchw" else "nchw")
        self._output_layout = next(
            layout for layout in layouts if result.shape[1 if layout == "nchw" else 3] == IMAGE_CHANNELS
        )
        picture = result if self._output_layout == "nchw" else result.transpose(0, 3, 1, 2)
        down, across = picture.shape[2] / height, picture.shape[3] / width
        if down != across or down != int(down) or down < 1:
            raise ModelFileError(
                f"{came_from}: {across:g} times as wide and {down:g} times as high, not a whole enlargement",
                hint="give a network that enlarges both sides by the same whole number",
            )
        if not np.isfinite(picture).all():
            raise ModelFileError(
                f"{came_from} with values that are not finite (NaN or infinite)",
                hint="the weights are damaged or overflow; download or export the network again",
            )
        return picture

    def _peaks(self, trial: Trial, *, picture: NDArray[np.float32], result: NDArray[np.float32]) -> tuple[float, float]:
        """Tell which values of white the network takes and gives: those with which it reproduces the picture best.

        1 and 1 unless that does not reproduce it and another does.
        """
        scale = result.shape[2] // picture.shape[2]
        wanted = picture.repeat(scale, axis=2).repeat(scale, axis=3)
        errors = {}
        for input_peak in PEAKS:
            try:
                given = result if input_peak == 1.0 else self._run(trial, picture * np.float32(input_peak))
            except ModelFileError:
                continue  # not finite beyond its range
            for output_peak in PEAKS:
                errors[input_peak, output_peak] = float(np.mean(np.abs(given / output_peak - wanted)))
        usual = errors[PEAKS[0], PEAKS[0]]
        best = min(errors, key=lambda peaks: errors[peaks])
        return best if errors[best] < _TELLING_ERROR < usual else (PEAKS[0], PEAKS[0])

    def _least_side(self, trial: Trial, *, multiple: int, working_px: int) -> int:
        """Find the shortest side that works, by halving; a side that works is taken to mean that longer ones do."""
        low, high = 0, working_px // multiple  # `high` works, `low` does not
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self._run(trial, trial_picture(height=middle * multiple, width=middle * multiple))
            except ModelFileError:
                low = middle
            else:
                high = middle
        return high * multiple

    def _takes_other_batch(self, trial: Trial, *, picture: NDArray[np.float32], result: NDArray[np.float32]) -> bool:
        """Whether the network takes more tiles than before at once and treats each as it would alone."""
        count = self._batch + 1
        turned = np.ascontiguousarray(picture[:, ::-1])
        try:
            both = self._run(trial, np.concatenate([picture, *[turned] * (count - 1)]))
            single = self._run(trial, turned)
        except ModelFileError:
            return False
        return bool(
            np.allclose(both[:1], result[:1], rtol=1e-3, atol=1e-3)
            and np.allclose(both[-1:], single[:1], rtol=1e-3, atol=1e-3)
        )

    def _is_same_picture(
        self, trial: Trial, *, original: NDArray[np.float32], height: int, width: int, multiple: int
    ) -> bool:
        """Whether a freed network gives the same picture at the file's size, and much the same with more beside it."""
        same = self._run(trial, trial_picture(height=height, width=width))
        if same.shape != original.shape or not np.allclose(same, original, rtol=1e-3, atol=1e-3):
            return False
        more = multiple * max(1, 8 // multiple)
        larger = self._run(trial, trial_picture(height=height + more, width=width + more))
        rows, columns = original.shape[2] // 2, original.shape[3] // 2
        corner, larger_corner = original[:, :, :rows, :columns], larger[:, :, :rows, :columns]
        peak = float(np.ptp(corner)) or 1.0
        error = float(np.mean(np.square((corner - larger_corner) / peak, dtype=np.float64)))
        return error == 0.0 or -10.0 * math.log10(error) >= _CORNER_DB

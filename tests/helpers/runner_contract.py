"""What every backend has to keep, whatever runs inside it. Subclass ``RunnerContract`` once per backend."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import BackendUnavailable, EngineError, Runner, UnsupportedShape, choose_backend, find_model, open_runner
from engines.tiles import adversarial_tiles, film_tiles
from engines.verify import run_once


class OnDevice:
    """Something that claims to lie on a GPU, as far as a runner can see without reading it."""

    __cuda_array_interface__: ClassVar[dict[str, Any]] = {
        "shape": (1, 3, 20, 28),
        "typestr": "<f4",
        "data": (256, False),
        "version": 3,
    }


class RunnerContract:
    """Tests that a backend inherits by naming itself and a model that it can run.

    A backend whose runners take arrays on the GPU also overrides ``to_device`` and ``to_host``.
    """

    backend: ClassVar[str]
    device: ClassVar[str] = "auto"
    model: ClassVar[str | Path] = "realesr-animevideov3"
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    """Those that it has on every machine."""
    gated_precisions: ClassVar[tuple[str, ...]] = ()
    """Those that it has for networks that survive them."""
    refused_precision: ClassVar[str]
    refused_model: ClassVar[str]

    def open(self, **changes: Any) -> Runner:
        arguments = {"model": self.model, "backend": self.backend, "device": self.device, "height": 20, "width": 28}
        return open_runner(**(arguments | changes))

    def to_device(self, array: NDArray[Any]) -> Any:
        """Copy an array to the GPU, as an object that a runner takes."""
        raise AssertionError(f"{type(self).__name__} must say how to bring arrays to the GPU")

    def to_host(self, array: Any) -> NDArray[Any]:
        """Copy it back, after everything that is in the current stream."""
        raise AssertionError(f"{type(self).__name__} must say how to bring arrays back")

    def stream(self) -> Any:
        """The stream in which ``to_device`` and ``to_host`` copy."""
        return None

    def buffers(self, runner: Runner) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        spec = runner.spec
        tiles = film_tiles(height=spec.height, width=spec.width, batch=spec.batch).astype(spec.io_dtype)
        return tiles, np.full(spec.output_shape, np.nan, dtype=spec.io_dtype)

    def test_spec_says_what_was_opened(self) -> None:
        with self.open(batch=2) as runner:
            spec = runner.spec
            assert (spec.model.name, spec.backend, spec.batch) == (find_model(self.model).name, self.backend, 2)
            assert spec.input_shape == (2, 3, 20, 28)
            assert spec.output_shape == (2, 3, 20 * spec.model.scale, 28 * spec.model.scale)
            assert spec.slots >= 1
            assert spec.device

    def test_opens_as_it_was_chosen(self) -> None:
        choice = choose_backend(model=self.model, backend=self.backend, device=self.device)
        with self.open() as runner:
            assert (runner.spec.backend, runner.spec.precision) == (choice.backend, choice.precision)
            assert (runner.spec.device, runner.spec.slots) == (choice.device, choice.slots)
        assert find_model(self.model).name in choice.reason
        assert choice.precision in choice.reason or choice.backend == "resize"

    def test_device_that_was_chosen_can_be_asked_for(self) -> None:
        """``device_id`` is a resolved ``device``: the same words give the same choice."""
        choice = choose_backend(model=self.model, backend=self.backend, device=self.device)
        again = choose_backend(model=self.model, backend=self.backend, device=choice.device_id)
        assert (again.device_id, again.device, again.precision) == (choice.device_id, choice.device, choice.precision)

    def test_device_that_it_lacks_is_refused_with_a_hint(self) -> None:
        with pytest.raises(BackendUnavailable, match="abacus") as caught:
            self.open(device="abacus")
        assert caught.value.missing == "abacus"
        assert caught.value.hint

    def test_writes_every_value_of_out_and_leaves_the_tiles_alone(self) -> None:
        with self.open() as runner:
            tiles, out = self.buffers(runner)
            before = tiles.copy()
            runner.infer(tiles, out=out).wait()
            assert np.isfinite(out).all()
            assert np.array_equal(tiles, before)

    def test_same_input_gives_identical_output(self) -> None:
        for precision in ("auto", *self.precisions):
            with self.open(precision=precision) as runner:
                tiles, first = self.buffers(runner)
                runner.infer(tiles, out=first).wait()
                for _ in range(3):
                    again = np.empty_like(first)
                    runner.infer(tiles, out=again).wait()
                    assert np.array_equal(first, again)

    def test_another_runner_gives_identical_output(self) -> None:
        with self.open() as left, self.open() as right:
            tiles, _ = self.buffers(left)
            assert np.array_equal(run_once(left, tiles), run_once(right, tiles))

    def test_read_only_tiles_are_as_good_as_others(self) -> None:
        with self.open() as runner:
            tiles, wanted = self.buffers(runner)
            runner.infer(tiles, out=wanted).wait()
            tiles.flags.writeable = False
            assert np.array_equal(run_once(runner, tiles), wanted)

    def test_float16_arrays_hold_the_rounded_result(self) -> None:
        """Of ``precisions``, the widest: only the arrays are float16, so one rounding step of each end is allowed."""
        with self.open(precision=self.precisions[0]) as wide:
            with self.open(precision=self.precisions[0], io_dtype="float16") as narrow:
                tiles, _ = self.buffers(narrow)
                assert tiles.dtype == np.float16
                result = run_once(narrow, tiles)
                wanted = run_once(wide, tiles.astype(np.float32))
            assert result.dtype == np.float16
            np.testing.assert_allclose(result.astype(np.float32), wanted, rtol=2**-10, atol=2**-10)

    def test_row_of_a_batch_does_not_depend_on_the_others(self) -> None:
        precision = self.precisions[0]
        with self.open(batch=2, precision=precision) as pair, self.open(precision=precision) as single:
            tiles, _ = self.buffers(pair)
            together = run_once(pair, tiles)
            for row in range(2):
                alone = run_once(single, tiles[row : row + 1])
                np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=1e-5)

    def test_results_land_in_their_own_arrays_with_all_slots_in_flight(self) -> None:
        with self.open() as runner:
            kinds = list(adversarial_tiles(height=20, width=28).values())
            wanted = [run_once(runner, tiles) for tiles in kinds]
            flying: deque[tuple[int, NDArray[np.float32], Any]] = deque()
            landed = []
            for turn in range(4 * runner.spec.slots):
                if len(flying) == runner.spec.slots:
                    landed.append(flying.popleft())
                out = np.empty(runner.spec.output_shape, dtype=np.float32)
                flying.append((turn % len(kinds), out, runner.infer(kinds[turn % len(kinds)], out=out)))
                for _, _, completion in landed:
                    completion.wait()
            landed.extend(flying)
            for kind, out, completion in landed:
                completion.wait()
                assert np.array_equal(out, wanted[kind])

    def test_arrays_on_the_gpu_are_taken_where_the_spec_says_so_and_refused_elsewhere(self) -> None:
        with self.open(batch=1) as runner:
            tiles, wanted = self.buffers(runner)
            if not runner.spec.takes_device_arrays:
                with pytest.raises(UnsupportedShape):
                    runner.infer(OnDevice(), out=wanted)
                return
            runner.infer(tiles, out=wanted).wait()
            device_tiles, device_out = self.to_device(tiles), self.to_device(np.full_like(wanted, np.nan))
            completion = runner.infer(device_tiles, out=device_out, stream=self.stream())
            completion.wait()
            completion.wait()
            assert np.array_equal(self.to_host(device_out), wanted)

    def test_host_and_gpu_arrays_are_not_mixed_in_one_call(self) -> None:
        with self.open() as runner:
            tiles, out = self.buffers(runner)
            with pytest.raises(UnsupportedShape):
                runner.infer(tiles, out=OnDevice())
            with pytest.raises(UnsupportedShape):
                runner.infer(OnDevice(), out=out)

    def test_waiting_twice_is_harmless(self) -> None:
        with self.open() as runner:
            tiles, out = self.buffers(runner)
            completion = runner.infer(tiles, out=out)
            completion.wait()
            completion.wait()
            assert np.isfinite(out).all()

    def test_more_calls_than_slots_wait_for_the_oldest_instead_of_failing(self) -> None:
        with self.open() as runner:
            tiles, wanted = self.buffers(runner)
            runner.infer(tiles, out=wanted).wait()
            outs = [np.empty_like(wanted) for _ in range(runner.spec.slots + 2)]
            completions = [runner.infer(tiles, out=out) for out in outs]
            for completion, out in zip(completions, outs, strict=True):
                completion.wait()
                assert np.array_equal(out, wanted)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 3), (15, 33)])
    def test_any_tile_size_works(self, shape: tuple[int, int]) -> None:
        height, width = shape
        with self.open(height=height, width=width) as runner:
            tiles, out = self.buffers(runner)
            runner.infer(tiles, out=out).wait()
            assert np.isfinite(out).all()

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda tiles, out: (tiles[:, :, 1:], out), id="short tiles"),
            pytest.param(lambda tiles, out: (tiles, out[..., :-1]), id="narrow out"),
            pytest.param(lambda tiles, out: (tiles[0], out), id="no batch axis"),
            pytest.param(lambda tiles, out: (tiles.astype(np.float64), out), id="float64 tiles"),
            pytest.param(lambda tiles, out: (tiles, out.astype(np.float16)), id="float16 out"),
            pytest.param(
                lambda tiles, out: (tiles.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2), out), id="strided"
            ),
            pytest.param(lambda tiles, out: (tiles.tolist(), out), id="list"),
        ],
    )
    def test_wrong_array_is_refused_before_anything_runs(self, spoil: Any) -> None:
        with self.open() as runner:
            tiles, out = spoil(*self.buffers(runner))
            with pytest.raises(UnsupportedShape):
                runner.infer(tiles, out=out)

    def test_read_only_out_is_refused(self) -> None:
        with self.open() as runner:
            tiles, out = self.buffers(runner)
            out.flags.writeable = False
            with pytest.raises(UnsupportedShape, match="read-only"):
                runner.infer(tiles, out=out)

    def test_runner_still_works_after_a_refused_call(self) -> None:
        with self.open() as runner:
            tiles, out = self.buffers(runner)
            for _ in range(runner.spec.slots + 1):
                with pytest.raises(UnsupportedShape):
                    runner.infer(tiles[..., 1:], out=out)
            runner.infer(tiles, out=out).wait()
            assert np.isfinite(out).all()

    def test_close_waits_for_what_is_in_flight_and_can_be_repeated(self) -> None:
        runner = self.open()
        tiles, wanted = self.buffers(runner)
        runner.infer(tiles, out=wanted).wait()
        out = np.full_like(wanted, np.nan)
        runner.infer(tiles, out=out)
        runner.close()
        runner.close()
        assert np.array_equal(out, wanted)

    def test_closed_runner_refuses_to_run(self) -> None:
        runner = self.open()
        tiles, out = self.buffers(runner)
        runner.close()
        with pytest.raises(EngineError, match="closed"):
            runner.infer(tiles, out=out)

    def test_precision_that_it_lacks_is_refused_with_a_hint(self) -> None:
        for precision in {self.refused_precision, "fp8"} - set(self.gated_precisions):
            with pytest.raises(EngineError, match=precision) as caught:
                self.open(precision=precision)
            assert "precision" in caught.value.hint

    def test_model_that_it_cannot_run_is_refused_with_a_hint(self) -> None:
        with pytest.raises(EngineError, match=self.refused_model) as caught:
            self.open(model=self.refused_model)
        assert caught.value.hint

    def test_threads_are_only_a_matter_of_speed(self) -> None:
        precision = self.precisions[0]
        with self.open(precision=precision, threads=1) as one, self.open(precision=precision, threads=2) as two:
            tiles, _ = self.buffers(one)
            np.testing.assert_allclose(run_once(one, tiles), run_once(two, tiles), rtol=0, atol=1e-5)

"""Which backend is chosen, why, and what is said when it cannot be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import engines
from engines import (
    BACKENDS,
    BackendChoice,
    BackendUnavailable,
    BuildOptions,
    EngineError,
    InferenceFailed,
    ModelSpec,
    OutOfDeviceMemory,
    PassedOver,
    UnknownModel,
    UnsupportedModel,
    UnsupportedPrecision,
    UnsupportedShape,
    choose_backend,
    find_model,
    open_runner,
    opening,
)
from engines.backends import INSTALL, auto_order
from engines.canary import TOLERANCE, canary_answer, canary_tile, canary_weights
from engines.reference import run_reference
from engines.runner import FinishedCompletion

NETWORK = "realesr-animevideov3"
HEAVY = (
    "torch",
    "openvino",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "cuda",
    "cudnn",
    "av",
    "numba",
    "ffmpeg",
    "rich",
)


@pytest.fixture(autouse=True)
def fresh_canary():
    """What one test finds out about a backend is not kept for the next."""
    opening._canary.cache_clear()
    yield
    opening._canary.cache_clear()


@pytest.fixture(autouse=True)
def no_driver(monkeypatch):
    """A machine without an NVIDIA GPU, wherever the tests run."""
    monkeypatch.setattr(opening, "has_nvidia_driver", lambda: False)


class StubBackend:
    """Chooses what it is told to; opens nothing that works unless it is told to."""

    def __init__(self, name, *, answer=None, fails=None):
        self.name = name
        self.answer = answer
        self.fails = fails
        self.opened = 0

    def choose(self, *, model, precision, device="auto"):
        if isinstance(self.fails, EngineError) and not isinstance(self.fails, InferenceFailed):
            raise self.fails
        return BackendChoice(
            backend=self.name, precision="fp32", device="Stub", device_id=device, reason=f"{self.name}: {model.name}"
        )

    def open(self, request):
        self.opened += 1
        if self.fails is not None:
            raise self.fails
        return StubRunner(request.runner_spec(self.name), answer=self.answer)


class StubRunner:
    def __init__(self, spec, *, answer):
        self.spec = spec
        self.answer = canary_answer() if answer is None else answer

    def infer(self, tiles, *, out, stream=None):
        out[...] = self.answer
        return FinishedCompletion()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def stubs(monkeypatch):
    """Put stand-ins into the table, on a machine with an NVIDIA driver."""
    monkeypatch.setattr(opening, "has_nvidia_driver", lambda: True)
    real = opening.load_backend

    def install(*backends):
        table = {"cudnn": absent("cudnn")} | {backend.name: backend for backend in backends}
        monkeypatch.setattr(opening, "load_backend", lambda name: table.get(name) or real(name))

    return install


def absent(name):
    return StubBackend(name, fails=BackendUnavailable(f"{name} is not installed", missing=name, hint=f"get {name}"))


@pytest.fixture
def without(monkeypatch):
    """Make a library look uninstalled, and its backend not yet imported."""

    def remove(*libraries: str) -> None:
        for library in libraries:
            monkeypatch.delitem(sys.modules, f"engines.backends.{library}", raising=False)
            for name in [name for name in sys.modules if name.partition(".")[0] == library]:
                monkeypatch.delitem(sys.modules, name)
            monkeypatch.setitem(sys.modules, library, None)

    return remove


def test_auto_takes_openvino_for_a_network_and_says_why():
    choice = choose_backend(model=NETWORK)
    assert choice.backend == "openvino"
    assert choice.precision in ("bf16", "fp32")
    assert NETWORK in choice.reason
    assert choice.precision in choice.reason


def test_auto_says_what_it_passed_over_in_the_order_of_preference():
    passed_over = choose_backend(model=NETWORK).passed_over
    assert [(each.backend, each.device) for each in passed_over] == [
        ("cudnn", "cuda"),
        ("tensorrt", "cuda"),
        ("tensorrt_rtx", "cuda"),
        ("torch", "cuda"),
        ("onnxruntime", "cuda"),
        ("openvino", "gpu"),
    ]
    assert [each.reason for each in passed_over[:5]] == ["no NVIDIA GPU"] * 5
    assert "gpu" in passed_over[5].reason


def test_auto_imports_no_gpu_library_where_there_is_no_driver():
    code = "import sys; from engines import choose_backend, opening; opening.has_nvidia_driver = lambda: False\n"
    code += f"assert choose_backend(model={NETWORK!r}).backend == 'openvino'\n"
    libraries = ("torch", "tensorrt", "tensorrt_rtx", "cuda", "cudnn", "onnxruntime")
    code += f"print([name for name in {libraries!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_backend_that_computes_the_canary_is_taken(stubs):
    stubs(absent("tensorrt"), StubBackend("tensorrt_rtx"))
    choice = choose_backend(model=NETWORK)
    assert (choice.backend, choice.device_id) == ("tensorrt_rtx", "cuda")
    assert choice.passed_over == (
        PassedOver(backend="cudnn", device="cuda", reason="cudnn is not installed", hint="get cudnn"),
        PassedOver(backend="tensorrt", device="cuda", reason="tensorrt is not installed", hint="get tensorrt"),
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fails": InferenceFailed("no kernel image", hint="update the driver")}, "no kernel image"),
        ({"fails": OutOfDeviceMemory("the GPU is full")}, "the GPU is full"),
        ({"answer": 0.0}, "wrong answer"),
        ({"answer": np.nan}, "wrong answer"),
    ],
)
def test_backend_that_fails_the_canary_is_passed_over_with_the_reason(stubs, changes, words):
    stubs(StubBackend("tensorrt", **changes), StubBackend("tensorrt_rtx"))
    choice = choose_backend(model=NETWORK)
    assert choice.backend == "tensorrt_rtx"
    assert words in choice.passed_over[1].reason


def test_canary_runs_once_per_process_for_a_choice(stubs):
    broken, working = StubBackend("tensorrt", answer=0.0), StubBackend("tensorrt_rtx")
    stubs(broken, working)
    first = choose_backend(model=NETWORK)
    assert choose_backend(model=NETWORK) == first
    assert choose_backend(model="RealESRGAN_x4plus_anime_6B").passed_over == first.passed_over
    assert (broken.opened, working.opened) == (1, 1)


def test_named_backend_is_taken_at_its_word(stubs):
    broken = StubBackend("tensorrt", answer=0.0)
    stubs(broken)
    choice = choose_backend(model=NETWORK, backend="tensorrt")
    assert (choice.backend, choice.passed_over, broken.opened) == ("tensorrt", (), 0)


@pytest.mark.parametrize(("device", "asked"), [("cuda:1", "cuda:1"), ("gpu", "cuda"), ("gpu.1", "cuda:1")])
def test_device_that_is_named_restricts_auto_to_what_runs_there(stubs, device, asked):
    stubs(StubBackend("cudnn"))
    choice = choose_backend(model=NETWORK, device=device)
    assert (choice.backend, choice.device_id, choice.passed_over) == ("cudnn", asked, ())


def test_cpu_that_is_named_passes_no_gpu_over():
    choice = choose_backend(model=NETWORK, device="cpu")
    assert (choice.backend, choice.device_id, choice.passed_over) == ("openvino", "cpu", ())


def test_device_that_nothing_has_is_an_error_with_what_each_says():
    with pytest.raises(BackendUnavailable, match=r"on device npu: .*openvino on npu") as caught:
        choose_backend(model=NETWORK, device="npu")
    assert caught.value.hint


def test_onnx_file_is_passed_over_by_torch():
    spec = ModelSpec(name="mine", architecture="onnx", scale=2, output_scales=(2,))
    with pytest.raises(UnsupportedModel, match="ONNX file") as caught:
        choose_backend(model=spec, backend="torch")
    assert "onnxruntime" in caught.value.hint
    assert choose_backend(model=spec).backend == "openvino"


@pytest.mark.parametrize(("name", "value"), [("height", 9), ("width", 6)])
def test_tile_that_a_model_cannot_take_is_refused_by_side(name, value):
    spec = replace(find_model(NETWORK), size_multiple=2, min_px=8)
    with pytest.raises(UnsupportedShape, match=f"divisible by 2; {name} is {value}"):
        open_runner(model=spec, **({"height": 16, "width": 16} | {name: value}))


def test_denoise_beside_a_model_spec_is_refused():
    with pytest.raises(EngineError, match="denoise"):
        open_runner(model=find_model(NETWORK), height=8, width=8, denoise=0.5)


def test_build_options_are_checked_before_anything_is_loaded():
    with pytest.raises(EngineError, match="min 9, opt 5"):
        open_runner(model=NETWORK, height=8, width=8, build=BuildOptions(min_px=9, opt_px=5))


def test_canary_has_the_answer_of_the_reference():
    pytest.importorskip("torch", reason="torch (export extra) is not installed")
    wanted = run_reference(canary_weights(), tiles=canary_tile())
    np.testing.assert_allclose(canary_answer(), wanted, rtol=0, atol=1e-5)


def test_canary_tells_a_network_from_plain_enlarging():
    plain = canary_tile().repeat(2, axis=2).repeat(2, axis=3)
    assert np.abs(canary_answer() - plain).max() > 10 * max(TOLERANCE.values())


def test_every_network_backend_has_an_install_command():
    assert set(INSTALL) == set(BACKENDS) - {"resize"}
    assert {each.backend for kind in ("srvgg", "nearest") for each in auto_order(kind)} == set(BACKENDS)


def test_auto_takes_resize_where_there_is_no_network():
    assert choose_backend(model="nearest-x2").backend == "resize"


def test_auto_goes_to_the_next_backend_where_the_first_lacks_the_precision():
    choice = choose_backend(model=NETWORK, precision="fp16")
    assert (choice.backend, choice.precision) == ("onnxruntime", "fp16")


def test_auto_goes_to_the_next_backend_where_the_first_is_not_installed(without):
    without("openvino", "torch")
    assert choose_backend(model=NETWORK).backend == "onnxruntime"


def test_named_backend_that_is_not_installed_is_never_replaced(without):
    without("onnxruntime")
    with pytest.raises(BackendUnavailable) as caught:
        choose_backend(model=NETWORK, backend="onnxruntime")
    assert caught.value.missing == "onnxruntime"
    assert caught.value.hint == 'pip install "nightscale[onnxruntime]"'


def test_no_backend_at_all_is_one_error_that_says_what_to_install(without):
    without("openvino", "onnxruntime", "torch")
    with pytest.raises(BackendUnavailable, match="no backend can run realesr-animevideov3") as caught:
        open_runner(model=NETWORK, height=8, width=8)
    assert "pip install openvino" in caught.value.hint


def test_unknown_backend_is_answered_with_the_known_ones():
    with pytest.raises(BackendUnavailable, match="tensorflow") as caught:
        choose_backend(model=NETWORK, backend="tensorflow")
    assert "openvino" in caught.value.hint


def test_precision_that_no_backend_has_is_an_error():
    with pytest.raises(BackendUnavailable, match="bf16") as caught:
        choose_backend(model="nearest-x2", precision="bf16")
    assert "fp32" in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"model": "no-such-model"}, UnknownModel),
        ({"model": NETWORK, "backend": "openvino", "precision": "fp16"}, UnsupportedPrecision),
        ({"model": NETWORK, "backend": "onnxruntime", "precision": "bf16"}, UnsupportedPrecision),
        ({"model": NETWORK, "backend": "resize"}, UnsupportedModel),
        ({"model": "nearest-x4", "backend": "openvino"}, UnsupportedModel),
    ],
)
def test_choosing_and_opening_refuse_the_same_things(arguments, kind):
    for attempt in (lambda: choose_backend(**arguments), lambda: open_runner(**arguments, height=8, width=8)):
        with pytest.raises(kind) as caught:
            attempt()
        assert caught.value.hint


@pytest.mark.parametrize("name", ["height", "width", "batch"])
def test_sizes_below_one_are_refused_by_name(name):
    with pytest.raises(UnsupportedShape, match=f"{name} must be at least 1, not 0"):
        open_runner(**({"model": NETWORK, "height": 8, "width": 8} | {name: 0}))


@pytest.mark.parametrize("name", ["threads", "slots"])
def test_negative_counts_are_refused_by_name(name):
    with pytest.raises(EngineError, match=f"{name} must be 0"):
        open_runner(model=NETWORK, height=8, width=8, **{name: -1})


@pytest.mark.parametrize("model", ["nearest-x4", "RealESRGAN_x4plus"])
def test_enlargement_that_a_model_cannot_give_is_refused(model):
    with pytest.raises(UnsupportedShape, match="by 2, only by 4"):
        open_runner(model=model, height=8, width=8, output_scale=2)


def test_slots_asked_for_are_the_slots_given():
    with open_runner(model=NETWORK, height=4, width=4, slots=1) as runner:
        assert runner.spec.slots == 1


def test_public_names_are_sorted_and_there():
    assert engines.__all__ == sorted(engines.__all__, key=str.casefold)
    assert all(hasattr(engines, name) for name in engines.__all__)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, engines, engines.opening, engines.graph, engines.reference, engines.measure, engines.verify\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"

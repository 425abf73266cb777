"""Which backend is chosen, why, and what is said when it cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

import engines
from engines import (
    BackendUnavailable,
    EngineError,
    UnknownModel,
    UnsupportedModel,
    UnsupportedPrecision,
    UnsupportedShape,
    choose_backend,
    open_runner,
)

NETWORK = "realesr-animevideov3"
HEAVY = ("torch", "openvino", "onnx", "onnxruntime", "av", "numba", "ffmpeg", "rich")


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


def test_auto_takes_resize_where_there_is_no_network():
    assert choose_backend(model="nearest-x2").backend == "resize"


def test_auto_goes_to_the_next_backend_where_the_first_lacks_the_precision():
    choice = choose_backend(model=NETWORK, precision="fp16")
    assert (choice.backend, choice.precision) == ("onnxruntime", "fp16")


def test_auto_goes_to_the_next_backend_where_the_first_is_not_installed(without):
    without("openvino")
    assert choose_backend(model=NETWORK).backend == "onnxruntime"


def test_named_backend_that_is_not_installed_is_never_replaced(without):
    without("onnxruntime")
    with pytest.raises(BackendUnavailable) as caught:
        choose_backend(model=NETWORK, backend="onnxruntime")
    assert caught.value.missing == "onnxruntime"
    assert caught.value.hint == 'pip install "nightscale[onnxruntime]"'


def test_no_backend_at_all_is_one_error_that_says_what_to_install(without):
    without("openvino", "onnxruntime")
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


def test_missing_weights_are_named_when_a_runner_is_opened(tmp_path):
    with pytest.raises(engines.WeightsError, match=str(tmp_path)):
        open_runner(model=NETWORK, height=8, width=8, weights_source=tmp_path)


def test_slots_asked_for_are_the_slots_given():
    with open_runner(model=NETWORK, height=4, width=4, slots=1) as runner:
        assert runner.spec.slots == 1


def test_public_names_are_sorted_and_there():
    assert engines.__all__ == sorted(engines.__all__, key=str.casefold)
    assert all(hasattr(engines, name) for name in engines.__all__)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, engines, engines.opening, engines.graph, engines.reference, engines.measure, engines.verify\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

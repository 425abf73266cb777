"""Which tile sizes an engine is compiled for, and what it says of others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines.build_options import BuildOptions
from engines.errors import EngineError, UnsupportedShape
from engines.models import find_model
from engines.trt.profile import check_model_sizes, plan_profile

DYNAMIC = BuildOptions(dynamic=True)


def test_an_engine_is_compiled_for_the_one_size_asked_for() -> None:
    profile = plan_profile(BuildOptions(), batch=2, height=64, width=96)
    assert profile.is_static
    assert profile.shapes == ((2, 3, 64, 96),) * 3
    assert profile.text == "2x3x64x96"


def test_a_dynamic_engine_takes_16_to_640_pixels_and_up_to_the_batch() -> None:
    profile = plan_profile(DYNAMIC, batch=4, height=512, width=512)
    assert profile.shapes == ((1, 3, 16, 16), (4, 3, 512, 512), (4, 3, 640, 640))
    profile.check(batch=1, height=16, width=640)


def test_a_static_engine_refuses_every_other_size() -> None:
    profile = plan_profile(BuildOptions(), batch=1, height=64, width=64)
    with pytest.raises(UnsupportedShape, match="1x3x64x64 only, not for 1x3x64x65"):
        profile.check(batch=1, height=64, width=65)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"batch": 1, "height": 641, "width": 64}, "height 641 px .* maximum of 640 px"),
        ({"batch": 1, "height": 64, "width": 1920}, "width 1920 px .* maximum of 640 px"),
        ({"batch": 2, "height": 64, "width": 64}, "batch 2 is more than the engine's maximum of 1"),
        ({"batch": 1, "height": 15, "width": 64}, "height 15 px .* minimum of 16 px"),
    ],
)
def test_a_size_beyond_the_profile_is_refused_with_its_limit(asked: dict[str, int], words: str) -> None:
    with pytest.raises(UnsupportedShape, match=words):
        plan_profile(DYNAMIC, batch=1, height=64, width=64).check(**asked)


def test_a_size_that_a_dynamic_engine_would_not_take_is_refused_before_it_is_built() -> None:
    with pytest.raises(UnsupportedShape, match="width 1280 px is more than the engine's maximum of 640 px"):
        plan_profile(DYNAMIC, batch=1, height=360, width=1280)


def test_min_above_opt_is_refused_with_all_three() -> None:
    with pytest.raises(EngineError, match="min 600, opt 512, max 640"):
        plan_profile(replace(DYNAMIC, min_px=600), batch=1, height=512, width=512)


@pytest.mark.parametrize("name", ["batch", "height", "width"])
def test_a_size_of_nothing_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedShape, match=f"{name} must be at least 1, not 0"):
        plan_profile(BuildOptions(), **{"batch": 1, "height": 8, "width": 8, name: 0})


def test_a_profile_that_the_network_does_not_take_is_refused() -> None:
    model = replace(find_model("realesr-animevideov3"), size_multiple=4, min_px=8)
    check_model_sizes(plan_profile(BuildOptions(), batch=1, height=8, width=64), model)
    with pytest.raises(UnsupportedShape, match="multiples of 4 px, not 1x3x64x66"):
        check_model_sizes(plan_profile(BuildOptions(), batch=1, height=64, width=66), model)
    with pytest.raises(UnsupportedShape, match="at least 8 px, not 1x3x4x64"):
        check_model_sizes(plan_profile(BuildOptions(), batch=1, height=4, width=64), model)

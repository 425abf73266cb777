"""The engine key: whatever changes an engine changes its key, and nothing else does."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from helpers.engine_cache import GPU, INPUT, sample_key
from hypothesis import given
from hypothesis import strategies as st

from engines.build_options import BuildOptions
from engines.cache.key import NOT_IN_KEY, EngineKey, GpuIdentity, InputRange
from engines.cache.timing import TimingScope


def changed(value):
    """Another value of the same type; unknown types fail, so that whoever adds one thinks of this test."""
    match value:
        case None:
            return 7
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case Path():
            return value / "x"
        case tuple() if value and isinstance(value[0], InputRange):
            return (replace(value[0], name="other"), *value[1:])
        case tuple() if value and isinstance(value[0], tuple):
            return ((f"{value[0][0]}x", *value[0][1:]), *value[1:])
        case tuple():
            return (*value, "x")
    raise AssertionError(f"no other value for {value!r}")


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_every_field_of_the_key_changes_the_digest_and_the_file(name):
    key = sample_key(plugins={"libmine.so": b"one"})
    other = replace(key, **{name: changed(getattr(key, name))})
    assert other.digest != key.digest
    assert other.file_stem != key.file_stem


@pytest.mark.parametrize("name", [field.name for field in fields(BuildOptions)])
def test_every_build_option_changes_the_key_unless_it_is_listed_with_a_reason(name):
    options = BuildOptions()
    other = replace(options, **{name: changed(getattr(options, name))})
    assert (sample_key(options=other) == sample_key()) == (name in NOT_IN_KEY)


def test_options_left_out_of_the_key_exist_and_have_a_reason():
    assert set(NOT_IN_KEY) <= {field.name for field in fields(BuildOptions)}
    assert all(len(reason) > 20 for reason in NOT_IN_KEY.values())


@pytest.mark.parametrize("name", ["name", "minimum", "optimum", "maximum"])
def test_every_part_of_a_profile_changes_the_key(name):
    value = getattr(INPUT, name)
    other = replace(INPUT, **{name: "x" if name == "name" else (2, *value[1:])})
    assert sample_key(inputs=[other]).digest != sample_key().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": replace(GPU, name="NVIDIA GeForce RTX 4080")},
        {"gpu": replace(GPU, compute_capability="9.0")},
        {"gpu": None},
        {"compiler": "tensorrt_rtx"},
        {"compiler_version": "10.13.3.10"},
        {"onnx": b"a graph and its weight5"},
        {"precision": "fp32"},
        {"io_dtype": "float16"},
        {"output_scale": 2},
        {"inputs": [INPUT, replace(INPUT, name="second")]},
        {"flags": ["tf32"]},
        {"tactic_sources": ["CUDNN"]},
        {"plugins": {"libmine.so": b"one"}},
    ],
    ids="-".join,
)
def test_every_axis_of_a_build_has_a_key_of_its_own(changes):
    assert sample_key(**changes).digest != sample_key().digest


def test_plugins_count_by_content_and_name():
    digests = {
        sample_key(plugins=plugins).digest for plugins in ({"a.so": b"1"}, {"a.so": b"2"}, {"b.so": b"1"}, None, {})
    }
    assert len(digests) == 4


def test_a_driver_update_keeps_the_key():
    assert sample_key(gpu=replace(GPU, driver_version="590.10")) == sample_key()


def test_targets_of_rtx_replace_the_gpu_in_any_order():
    keys = {
        sample_key(compiler="tensorrt_rtx", gpu=gpu, options=BuildOptions(compute_capabilities=targets))
        for gpu in (GPU, None, replace(GPU, name="other", compute_capability="12.0"))
        for targets in (("8.9", "12.0"), ("12.0", "8.9"), ("12.0", "8.9", "8.9"))
    }
    assert len(keys) == 1
    assert keys.pop().target == "SM 8.9, 12.0"


def test_without_targets_the_gpu_stays_in_the_key_of_rtx():
    assert sample_key(compiler="tensorrt_rtx").digest != sample_key(compiler="tensorrt_rtx", gpu=None).digest
    assert sample_key(compiler="tensorrt_rtx").target == "NVIDIA GeForce RTX 4090 (SM 8.9)"


def test_without_targets_and_gpu_the_compiler_decides_for_what_it_compiles():
    assert sample_key(compiler="tensorrt_rtx", gpu=None).target == "the compiler's default GPUs"


def test_flags_and_sources_count_as_sets():
    one = sample_key(flags=["a", "b"], tactic_sources=["c", "d"])
    assert one == sample_key(flags=["b", "a", "a"], tactic_sources=["d", "c"])


def test_an_option_that_is_no_plain_value_is_refused():
    with pytest.raises(TypeError, match="Path"):
        sample_key(options=replace(BuildOptions(), workspace_bytes=Path("x")))


def test_the_digest_is_the_same_in_every_process_and_version():
    """Caches outlive programs: a digest that drifts would rebuild every engine."""
    key = EngineKey(
        model="m",
        onnx_sha256="00" * 32,
        inputs=(INPUT,),
        precision="fp16",
        io_dtype="float32",
        output_scale=4,
        compiler="tensorrt",
        compiler_version="10.13.3.9",
        options=(("optimization_level", None),),
    )
    assert key.schema == 1
    assert key.digest == "8edaae53195d1c9954b57a2075ab0cbf16bb8897689514229b62c4c9fc0e7b8a"


def test_a_key_survives_json():
    options = BuildOptions(workspace_bytes=1 << 30, compute_capabilities=("8.9",), version_compatible=True)
    key = sample_key(options=options, flags=["b", "a"], plugins={"p.so": b"x"}, tactic_sources=["t"])
    again = EngineKey.from_json(json.loads(json.dumps(key.to_json())))
    assert again == key
    assert again.digest == key.digest


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_a_key_of_another_version_is_not_read(name):
    value = sample_key().to_json()
    del value[name]
    with pytest.raises(ValueError, match=name):
        EngineKey.from_json(value)
    with pytest.raises(ValueError, match="later"):
        EngineKey.from_json({**sample_key().to_json(), "later": 1})


@pytest.mark.parametrize("broken", [{"inputs": [1]}, {"inputs": 5}, {"options": []}, {"flags": None}, {"plugins": 3}])
def test_a_key_of_wrong_types_is_not_read(broken):
    with pytest.raises(ValueError, match="not readable"):
        EngineKey.from_json({**sample_key().to_json(), **broken})


@given(st.text(max_size=300))
def test_any_model_name_gives_a_file_name_that_every_file_system_takes(name):
    stem = sample_key(model=name).file_stem
    assert re.fullmatch(r"[A-Za-z0-9+_][A-Za-z0-9.+_-]*-1x3x64x96-fp16-[0-9a-f]{12}", stem)
    assert len(f".{stem}.engine.4194304.part") <= 255


def test_file_names_say_shape_and_precision():
    dynamic = replace(INPUT, minimum=(1, 3, 16, 16), optimum=(2, 3, 512, 512), maximum=(4, 3, 640, 640))
    assert sample_key().file_stem.startswith("realesr-animevideov3-1x3x64x96-fp16-")
    assert sample_key(inputs=[dynamic]).file_stem.startswith("realesr-animevideov3-1x3x16x16-to-4x3x640x640-fp16-")
    assert sample_key(inputs=[dynamic]).shape_text == "1x3x16x16 to 4x3x640x640"
    assert sample_key().shape_text == "1x3x64x96"


SCOPE = TimingScope(compiler="tensorrt", compiler_version="10.13.3.9", gpu=GPU)


@pytest.mark.parametrize(
    "other",
    [
        replace(SCOPE, compiler="tensorrt_rtx"),
        replace(SCOPE, compiler_version="11.4"),
        replace(SCOPE, gpu=replace(GPU, name="other")),
        replace(SCOPE, gpu=replace(GPU, compute_capability="9.0")),
        replace(SCOPE, gpu=replace(GPU, driver_version="590.1")),
        replace(SCOPE, workspace_bytes=1 << 30),
    ],
)
def test_measurements_are_not_shared_across_scopes(other):
    assert other.digest != SCOPE.digest
    assert other.file_name != SCOPE.file_name


def test_measurements_outlive_an_update_within_a_driver_branch():
    assert replace(SCOPE, gpu=replace(GPU, driver_version="580.99.01")) != SCOPE
    assert replace(SCOPE, gpu=replace(GPU, driver_version="580.99.01")).file_name == SCOPE.file_name


def test_the_name_of_a_timing_cache_says_whose_it_is():
    name = replace(SCOPE, workspace_bytes=1 << 30).file_name
    assert name.startswith("tensorrt-10.13.3.9-NVIDIA_GeForce_RTX_4090-sm8.9-1073741824B-")
    assert replace(SCOPE, gpu=GpuIdentity(name="a/../b", compute_capability="8.9")).file_name.count("/") == 0

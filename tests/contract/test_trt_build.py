"""Engines are built for real: TensorRT for RTX compiles without a GPU. Full TensorRT is stood for by its double."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from helpers.trt_double import make_trt
from onnx import TensorProto, helper

from engines.build_options import BuildOptions
from engines.cache.key import GpuIdentity
from engines.errors import BackendUnavailable, BuildCancelled, BuildFailed
from engines.models import find_model
from engines.networks import GraphOptions, Network, load_network
from engines.spec import Precision
from engines.trt.builder import BuiltPlan, build_plan
from engines.trt.library import TrtLibrary, library_of, load_trt
from engines.trt.profile import Profile, plan_profile
from engines.trt.settings import plan_settings

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is an extra: nightscale[nvidia]")

GPU = GpuIdentity(name="NVIDIA GeForce RTX 4090", compute_capability="8.9", driver_version="580.65.06")
SRVGG, RRDB = "realesr-animevideov3", "RealESRGAN_x4plus_anime_6B"
ROOT = Path(__file__).resolve().parents[2]


class Listener:
    """Keeps what it hears; stops the build after ``stop_after`` reports."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.events: list[str] = []
        self.shares: list[float] = []

    def begin(self, text: str) -> None:
        self.events.append(f"begin {text}")

    def progress(self, *, phase: str, share: float) -> bool:
        self.shares.append(share)
        return self.stop_after is None or len(self.shares) < self.stop_after

    def end(self) -> None:
        self.events.append("end")


def real_rtx() -> TrtLibrary:
    return load_trt("tensorrt_rtx")


def double(flavour: str) -> TrtLibrary:
    name = "tensorrt_rtx" if "rtx" in flavour else "tensorrt"
    return library_of(name, make_trt(flavour, SimpleNamespace(compute_capability=(8, 9))))  # type: ignore[arg-type]


@pytest.fixture(params=["real rtx", "tensorrt-10.13", "tensorrt-10.16", "tensorrt-11.4", "tensorrt_rtx-1.7"])
def library(request: pytest.FixtureRequest) -> TrtLibrary:
    return real_rtx() if request.param == "real rtx" else double(request.param)


@pytest.fixture(scope="module")
def srvgg() -> Network:
    return load_network(find_model(SRVGG))


def graph_of(network: Network, precision: Precision, profile: Profile) -> bytes:
    batch, height, width = profile.opt if profile.is_static else (None, None, None)
    graph = network.graph(GraphOptions(precision=precision, batch=batch, height=height, width=width))
    return bytes(graph.SerializeToString(deterministic=True))


def build(
    library: TrtLibrary,
    content: bytes,
    options: BuildOptions | None = None,
    *,
    gpu: GpuIdentity | None = GPU,
    profile: Profile | None = None,
    **arguments: Any,
) -> BuiltPlan:
    options = options or BuildOptions()
    return build_plan(
        library,
        onnx=content,
        profile=profile or plan_profile(options, batch=1, height=32, width=32),
        settings=plan_settings(library, options, gpu=gpu),
        **arguments,
    )


def small_graph(*nodes: onnx.NodeProto, shape: tuple[int | str, ...] = (1, 3, 32, 32)) -> bytes:
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Relu", ["input"], ["output"], name="relu")],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("own.ops", 1)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


class TestEveryLibrary:
    """TensorRT-RTX as it is, and the doubles of all versions that are supported."""

    def test_it_compiles_a_static_and_a_dynamic_engine(self, library: TrtLibrary, srvgg: Network) -> None:
        for options in (BuildOptions(), BuildOptions(dynamic=True, min_px=16, opt_px=32, max_px=64)):
            profile = plan_profile(options, batch=1, height=32, width=32)
            built = build(library, graph_of(srvgg, "fp32", profile), options)
            assert built.layer_count > 17
            assert len(built.plan) > 1_000_000  # all weights are inside: 620,000 of 4 bytes

    def test_the_listener_hears_one_begin_growing_shares_and_one_end(self, library: TrtLibrary) -> None:
        listener = Listener()
        build(library, small_graph(), text="a small engine", listener=listener)
        assert listener.events == [f"begin a small engine with {library.title}", "end"]
        assert listener.shares == sorted(listener.shares)
        assert listener.shares[-1] == 1.0

    def test_a_listener_that_says_no_cancels_the_build(self, library: TrtLibrary) -> None:
        listener = Listener(stop_after=2)
        with pytest.raises(BuildCancelled, match="the build of a small engine was stopped"):
            build(library, small_graph(), text="a small engine", listener=listener)
        assert listener.events[-1] == "end"
        assert len(listener.shares) == 2

    def test_what_a_listener_raises_reaches_the_caller(self, library: TrtLibrary) -> None:
        class Broken(Listener):
            def progress(self, *, phase: str, share: float) -> bool:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            build(library, small_graph(), listener=Broken())

    def test_an_empty_network_is_refused_although_the_parser_takes_it(self, library: TrtLibrary) -> None:
        with pytest.raises(BuildFailed, match="0 inputs and 0 outputs instead of one of each"):
            build(library, b"")

    def test_a_constant_network_does_not_take_another_size(self, library: TrtLibrary) -> None:
        other = plan_profile(BuildOptions(), batch=1, height=64, width=32)
        with pytest.raises(BuildFailed, match=r"input has the shape \(1, 3, 32, 32\), which profile 1x3x64x32"):
            build(library, small_graph(), profile=other)

    def test_a_network_of_one_channel_is_refused_with_its_shape(self, library: TrtLibrary) -> None:
        with pytest.raises(BuildFailed, match=r"\(1, 1, 32, 32\)"):
            build(library, small_graph(shape=(1, 1, 32, 32)))

    def test_a_profile_out_of_order_is_refused_by_the_library_too(self, library: TrtLibrary) -> None:
        wrong = Profile(min=(1, 64, 64), opt=(1, 32, 32), max=(1, 128, 128))
        with pytest.raises(BuildFailed, match=r"refuses profile 1x3x64x64\.\.1x3x32x32\.\.1x3x128x128"):
            build(library, small_graph(shape=("n", 3, "h", "w")), profile=wrong)


class TestRtx:
    """TensorRT-RTX as it is."""

    @pytest.mark.parametrize(
        ("model", "precision"), [(SRVGG, "fp32"), (SRVGG, "fp16"), (SRVGG, "bf16"), (RRDB, "fp32"), (RRDB, "fp16")]
    )
    @pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
    def test_both_architectures_compile_for_two_generations(
        self, model: str, precision: Precision, dynamic: bool
    ) -> None:
        options = BuildOptions(dynamic=dynamic, compute_capabilities=("8.9", "12.0"))
        profile = plan_profile(options, batch=1, height=64, width=96)
        content = graph_of(load_network(find_model(model)), precision, profile)
        built = build(real_rtx(), content, options, gpu=None, profile=profile)
        assert len(built.plan) > 0.9 * len(content)
        assert built.scratch_bytes is not None
        assert built.scratch_bytes > 0
        assert built.weights_bytes is not None
        assert built.weights_bytes > 0.9 * len(content)

    def test_all_unsupported_operators_are_listed_with_their_nodes(self) -> None:
        content = small_graph(
            helper.make_node("Relu", ["input"], ["a"], name="fine"),
            helper.make_node("Foo", ["a"], ["b"], name="first", domain="own.ops"),
            helper.make_node("Unique", ["b"], ["c"], name="second"),
            helper.make_node("Bar", ["c"], ["output"], domain="own.ops"),
        )
        with pytest.raises(BuildFailed) as caught:
            build(real_rtx(), content)
        for words in ("3 of the network's nodes", "Foo (node first)", "Unique (node second)", "Bar (node number 3)"):
            assert words in str(caught.value)
        assert "fine" not in str(caught.value)
        assert "onnxruntime" in caught.value.hint

    @pytest.mark.parametrize("content", [b"hello world, not onnx", small_graph()[:40]], ids=["text", "truncated"])
    def test_a_file_that_is_no_network_is_refused(self, content: bytes) -> None:
        with pytest.raises(BuildFailed, match=r"0 inputs and 0 outputs|cannot read the network: .*parse the ONNX"):
            build(real_rtx(), content)

    def test_bfloat16_for_a_gpu_without_it_says_so(self, srvgg: Network) -> None:
        options = BuildOptions(compute_capabilities=("7.5",))
        content = graph_of(srvgg, "bf16", plan_profile(options, batch=1, height=32, width=32))
        with pytest.raises(BuildFailed, match=r"target\(s\) sm75, because the model contains HW-specific") as caught:
            build(real_rtx(), content, options)
        assert "fp16" in caught.value.hint
        assert ".cpp" not in str(caught.value)

    def test_too_little_workspace_says_so(self) -> None:
        options = BuildOptions(workspace_bytes=1024, compute_capabilities=("8.9",))
        content = graph_of(load_network(find_model(RRDB)), "fp16", plan_profile(options, batch=1, height=32, width=32))
        with pytest.raises(BuildFailed) as caught:
            build(real_rtx(), content, options)
        assert "workspace" in caught.value.hint

    def test_the_libraries_own_log_is_kept_apart_from_build_to_build(self) -> None:
        with pytest.raises(BuildFailed):
            build(real_rtx(), b"hello")
        built = build(real_rtx(), small_graph())
        assert any("Engine generation completed" in line for line in built.log_tail)
        assert not [note for note in built.notes if "hello" in note]


class TestSettings:
    """Options that a library does not have are refused or said, by name."""

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (BuildOptions(version_compatible=True), "version_compatible"),
            (BuildOptions(hardware_compatibility="ampere_plus"), "hardware_compatibility ampere_plus"),
            (BuildOptions(compute_capabilities=("8.9", "9.0")), "compute_capabilities: .* capability 9.0"),
        ],
    )
    def test_rtx_refuses_what_it_cannot_do(self, options: BuildOptions, words: str) -> None:
        with pytest.raises(BuildFailed, match=words) as caught:
            plan_settings(real_rtx(), options, gpu=GPU)
        assert caught.value.hint

    def test_rtx_says_which_options_change_nothing(self) -> None:
        notes = plan_settings(real_rtx(), BuildOptions(optimization_level=5, max_aux_streams=2), gpu=GPU).notes
        assert [note.split(" changes nothing")[0] for note in notes] == ["optimization_level 5", "max_aux_streams 2"]

    def test_rtx_compiles_for_the_gpu_here_unless_others_are_named(self) -> None:
        def targets(*asked: str, gpu: GpuIdentity | None = GPU) -> tuple[str, ...]:
            options = BuildOptions(compute_capabilities=asked)
            return plan_settings(real_rtx(), options, gpu=gpu).options.compute_capabilities

        assert targets() == ("8.9",)
        assert targets("12.0", "8.6", "12.0") == ("8.6", "12.0")
        assert targets(gpu=None) == ()
        assert targets(gpu=replace(GPU, compute_capability="13.0")) == ()

    def test_rtx_refuses_an_h200_with_the_remedy_before_anything_is_built(self) -> None:
        h200 = GpuIdentity(name="NVIDIA H200", compute_capability="9.0", driver_version="580.159")
        with pytest.raises(
            BackendUnavailable, match=r"does not support compute capability 9\.0 \(NVIDIA H200\)"
        ) as caught:
            plan_settings(real_rtx(), BuildOptions(), gpu=h200)
        assert "backend tensorrt or torch" in caught.value.hint
        named = plan_settings(real_rtx(), BuildOptions(compute_capabilities=("8.9",)), gpu=h200)
        assert named.options.compute_capabilities == ("8.9",)

    def test_tensorrt_builds_on_the_gpu_here_and_nowhere_else(self) -> None:
        library = double("tensorrt-11.4")
        with pytest.raises(BuildFailed, match=r"compute_capabilities 8\.9"):
            plan_settings(library, BuildOptions(compute_capabilities=("8.9",)), gpu=GPU)
        with pytest.raises(BackendUnavailable, match="this machine has none"):
            plan_settings(library, BuildOptions(), gpu=None)

    @pytest.mark.parametrize("flavour", ["tensorrt-10.13", "tensorrt-10.16", "tensorrt-11.4"])
    def test_tensorrt_is_given_every_option(self, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
        library = double(flavour)
        configs: list[Any] = []
        create = library.trt.Builder.create_builder_config

        def remember(builder: Any) -> Any:
            configs.append(create(builder))
            return configs[-1]

        monkeypatch.setattr(library.trt.Builder, "create_builder_config", remember)
        options = BuildOptions(
            workspace_bytes=1 << 20,
            optimization_level=5,
            max_aux_streams=0,
            version_compatible=True,
            hardware_compatibility="same_compute_capability",
        )
        build(library, small_graph(), options)
        (config,) = configs
        trt = library.trt
        assert config.builder_optimization_level == 5
        assert config.max_aux_streams == 0
        assert config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        assert not config.get_flag(trt.BuilderFlag.TF32)
        assert config.hardware_compatibility_level is trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY

    @pytest.mark.parametrize("flavour", ["tensorrt-10.13", "tensorrt-11.4"])
    def test_tensorrt_keeps_its_timings_and_leaves_foreign_ones_aside(
        self, flavour: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        library = double(flavour)
        first = build(library, small_graph()).timing_cache
        assert first
        assert build(library, small_graph(), timing_cache=first).timing_cache
        assert not caplog.records
        assert build(library, small_graph(), timing_cache=b"of another GPU").timing_cache
        assert "does not fit this GPU" in caplog.text
        assert build(library, small_graph(), BuildOptions(timing_cache=False)).timing_cache is None
        assert build(real_rtx(), small_graph()).timing_cache is None


def test_ctrl_c_during_a_build_ends_the_program_with_130_and_leaves_no_engine(tmp_path: Path) -> None:
    """The signal arrives while the compiler runs, at its first progress report."""
    program = textwrap.dedent(
        """
        import os, signal, sys
        from engines.progress_bar import LineListener
        from engines import cli
        report = LineListener.progress
        def progress(self, *, phase, share):
            if not hasattr(self, "interrupted"):
                self.interrupted = True
                os.kill(os.getpid(), signal.SIGINT)
            return report(self, phase=phase, share=share)
        LineListener.progress = progress
        sys.exit(cli.main(sys.argv[1:]))
        """
    )
    arguments = ["build", "--model", RRDB, "--height", "32", "--width", "32", "--compute-capability", "8.9"]
    arguments += ["--cache-dir", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 130, result.stderr
    assert "stopped: the build of RealESRGAN_x4plus_anime_6B fp16, 1x3x32x32, for SM 8.9 was stopped" in result.stderr
    assert "Traceback" not in result.stderr
    assert "KeyboardInterrupt" not in result.stderr
    assert not list(tmp_path.glob("*.engine"))
    assert not list(tmp_path.glob("*.lock"))


def test_ctrl_c_from_outside_is_seen_though_the_compiler_does_not_look_at_python(tmp_path: Path) -> None:
    arguments = ["build", "--model", "RealESRGAN_x4plus", "--height", "64", "--width", "64"]
    arguments += ["--compute-capability", "8.9", "--cache-dir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "engines", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if line.startswith("building"):
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 130, rest
    assert "stopped: the build of RealESRGAN_x4plus" in rest
    assert not list(tmp_path.glob("*.engine"))

"""float8 in the cudnn engine: rounding, plans, the gate in front of it, and graphs on a fake GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.cudnn_world import KEY, CudnnWorld, noise
from helpers.ends_on_cpu import COMPILER
from helpers.quiet_networks import small_network

from engines import find_model
from engines.cudnn import calibrating
from engines.cudnn.calibrating import LEAST_DB, calibrate
from engines.cudnn.choices import ChoiceStore
from engines.cudnn.e4m3 import bits_of_e4m3, rounded_to_e4m3
from engines.cudnn.emulation import EmulatedPlan
from engines.cudnn.execute import CudnnNetwork
from engines.cudnn.graph import read_graph
from engines.cudnn.memory import plan_memory
from engines.cudnn.narrowing import narrow_candidates, narrow_plan
from engines.cudnn.plan import plan_network
from engines.cudnn.steps import ConvStep
from engines.errors import AccuracyFailed
from engines.networks import GraphOptions, load_network

SRVGG, RRDB, X4PLUS = "realesr-animevideov3", "RealESRGAN_x4plus_anime_6B", "RealESRGAN_x4plus"


def small(name):
    return small_network(find_model(name), growth=16)


def plan_of(name, *, height=8, width=12):
    options = GraphOptions(precision="fp16", io_dtype="float16", batch=1, height=height, width=width)
    return plan_network(read_graph(small(name).graph(options)))


def narrowed(plan):
    """A plan with all that may be narrow, its ranges from noise; its number of narrow convolutions."""
    wide = EmulatedPlan(plan)
    wide.run(noise((1, 3, plan.height, plan.width)))
    names = narrow_candidates(plan)[0]
    return narrow_plan(plan, names=names, peaks=wide.peaks), len(names)


def test_rounding_is_that_of_the_type_in_torch():
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    exact = codes[np.isfinite(codes)]
    ordered = np.unique(exact)
    between = ((ordered[1:] + ordered[:-1]) / 2).astype(np.float32)  # ties
    values = np.concatenate((exact, between, np.random.default_rng(0).normal(0, 50, 500).astype(np.float32)))
    wanted = torch.from_numpy(values).clamp(-448, 448).to(torch.float8_e4m3fn)
    np.testing.assert_array_equal(rounded_to_e4m3(values), wanted.float().numpy())
    np.testing.assert_array_equal(bits_of_e4m3(rounded_to_e4m3(values)), wanted.view(torch.uint8).numpy())
    np.testing.assert_array_equal(rounded_to_e4m3(np.float32([1e9, -1e9])), np.float32([448, -448]))


@pytest.mark.parametrize("name", [SRVGG, RRDB])
def test_the_body_is_narrow_and_both_ends_are_not(name):
    """What is stored in float8 alone takes half the memory, and what nothing reads is not stored."""
    plan = plan_of(name)
    narrow, count = narrowed(plan)
    convs = [step for step in narrow.steps if isinstance(step, ConvStep)]
    assert [step.descale is not None for step in convs].count(True) == count >= 2
    assert convs[0].descale is None
    assert convs[-1].descale is None
    types = {step.name: narrow.buffers[step.source.buffer].dtype for step in convs}
    assert all((types[step.name] == "float8") == (step.descale is not None) for step in convs)
    inner = [step for step in convs if step.name in {"body_0", "block_0_0_1"}]
    assert all(step.target is None and step.narrow_target is not None for step in inner)
    assert plan_memory(narrow).bytes <= plan_memory(plan).bytes * (1 if name == SRVGG else 1.3)


@pytest.mark.parametrize("name", [SRVGG, RRDB])
def test_a_narrow_plan_computes_nearly_the_same(name):
    plan = plan_of(name)
    tiles = noise((1, 3, plan.height, plan.width))
    narrow, _ = narrowed(plan)
    wide, result = EmulatedPlan(plan, rounds=False).run(tiles), EmulatedPlan(narrow).run(tiles)
    assert 30 < 10 * np.log10(1 / np.mean((result.astype(np.float64) - wide) ** 2)) < 70


@pytest.mark.parametrize(
    ("name", "count"),
    [
        (SRVGG, 16),
        pytest.param(RRDB, 72, marks=pytest.mark.slow),
        pytest.param(X4PLUS, 346, marks=pytest.mark.slow),
    ],
)
def test_the_networks_pass_the_gate_with_these_convolutions(name, count):
    found = calibrate(load_network(find_model(name)), output_scale=4)
    assert len(found.names) == count
    assert found.psnr_db >= LEAST_DB
    assert f"{found.psnr_db:.1f} dB" in found.note


def test_a_network_that_fp8_harms_is_refused_with_the_figure(monkeypatch):
    monkeypatch.setattr(calibrating, "LEAST_DB", 140.0)
    with pytest.raises(AccuracyFailed, match=r"in fp8 reaches \d+\.\d dB") as caught:
        calibrate(small(SRVGG), output_scale=4)
    assert "fp16" in caught.value.hint


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize(("name", "wrong"), [(SRVGG, ()), (RRDB, (8,))])
def test_what_runs_is_the_narrow_plan_and_wrong_kernels_are_noticed(tmp_path, monkeypatch, name, wrong):
    """Sums in another order may round to another float8, so that the emulation is met closely, not exactly."""
    world = CudnnWorld(tmp_path, wrong=wrong)
    world.install(monkeypatch)
    plan, _ = narrowed(plan_of(name))
    stream = world.gpu.make_stream()
    store = ChoiceStore(tmp_path, KEY)
    network = CudnnNetwork(world.cudnn, plan=plan, device=world.gpu, stream=stream, store=store, io_dtype="float16")
    if wrong:
        assert {one.choice.name for one in network.kernels.chosen.values()} == {"plan9"}
    tiles = noise((1, 3, plan.height, plan.width))
    picture = np.full(plan.output_shape, np.nan, np.float16)
    image, target = world.gpu.allocate(2 * tiles.size), world.gpu.allocate(picture.nbytes)
    stream.upload(tiles.astype(np.float16), image.pointer)
    network.enqueue(stream, image=image.pointer, picture=target.pointer)
    stream.download(target.pointer, picture)
    stream.synchronize()
    difference = picture.astype(np.float64) - EmulatedPlan(plan).run(tiles)
    assert np.mean(difference**2) < 1e-5  # 50 dB
    for one in (network, image, target, stream):
        one.close()
    world.check_clean()

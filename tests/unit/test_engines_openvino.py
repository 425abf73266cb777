"""What the OpenVINO runner does when the library fails in the middle of a run."""

from __future__ import annotations

import numpy as np
import pytest

from engines import InferenceFailed, ModelSpec, RunnerSpec
from engines.backends.openvino import OpenVinoRunner


class FailingRequest:
    """An inference request that starts or ends badly on the calls named."""

    def __init__(self, log):
        self.log = log

    def set_input_tensor(self, tensor):
        pass

    def set_output_tensor(self, tensor):
        pass

    def start_async(self):
        self.call = self.log.pop(0)
        if self.call == "start":
            raise RuntimeError("cannot start")

    def wait(self):
        if self.call == "end":
            raise RuntimeError("cannot end")


class Compiled:
    def __init__(self, *log):
        self.log = list(log)

    def create_infer_request(self):
        return FailingRequest(self.log)


SPEC = RunnerSpec(
    model=ModelSpec(name="any", architecture="srvgg", scale=1),
    backend="openvino",
    device="CPU",
    precision="fp32",
    batch=1,
    height=2,
    width=2,
    scale=1,
    slots=2,
)


def infer(runner):
    return runner.infer(np.zeros((1, 3, 2, 2), np.float32), out=np.empty((1, 3, 2, 2), np.float32))


def test_failure_reaches_its_own_caller_even_when_a_later_call_waited_first():
    runner = OpenVinoRunner(SPEC, compiled=Compiled("end", "well", "well"))
    completions = [infer(runner) for _ in range(3)]
    for _ in range(2):
        with pytest.raises(InferenceFailed, match="cannot end"):
            completions[0].wait()
    for completion in completions[1:]:
        completion.wait()
    runner.close()


def test_call_that_does_not_start_is_an_error_and_loses_no_slot():
    runner = OpenVinoRunner(SPEC, compiled=Compiled("start", "start", "start", "well"))
    for _ in range(3):
        with pytest.raises(InferenceFailed, match="cannot start"):
            infer(runner)
    infer(runner).wait()
    runner.close()


def test_closing_waits_for_all_and_does_not_raise():
    runner = OpenVinoRunner(SPEC, compiled=Compiled("end", "end"))
    first, second = infer(runner), infer(runner)
    runner.close()
    for completion in (first, second):
        with pytest.raises(InferenceFailed):
            completion.wait()

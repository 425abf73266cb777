"""cudnn-frontend's Python graph over host memory: the calls that ``engines.cudnn.fused`` makes, computed by torch.

Names and arguments are those of cudnn-frontend 1.32. A tensor is read and written through its own shape and strides at
the address given at the run, so wrong strides, numbers and addresses give wrong pictures.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from types import SimpleNamespace

import numpy as np
import torch


class _Type(Enum):
    HALF = np.float16
    FLOAT = np.float32


class _Knob(Enum):
    TILE = 1


class _NotSupported(Exception):
    """As in cudnn-frontend, no RuntimeError."""


class _Tensor:
    def __init__(self, compute=None, **fields):
        self.compute = compute
        self.fields = fields

    def set_output(self, is_output):
        assert is_output
        return self

    def set_data_type(self, data_type):
        self.fields["data_type"] = data_type
        return self

    def set_uid(self, uid):
        self.fields["uid"] = uid
        return self

    def set_dim(self, dim):
        self.fields["dim"] = dim
        return self

    def set_stride(self, stride):
        self.fields["stride"] = stride
        return self


def _view(fields, address):
    dtype = np.dtype(fields["data_type"].value)
    dims, strides = fields["dim"], fields["stride"]
    count = 1 + sum((dim - 1) * stride for dim, stride in zip(dims, strides, strict=True))
    flat = np.frombuffer((ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address), dtype)
    return np.lib.stride_tricks.as_strided(flat, dims, [stride * dtype.itemsize for stride in strides])


class _Graph:
    def __init__(self, *, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert (io_data_type, compute_data_type) == (_Type.HALF, _Type.FLOAT)
        self._tensors = []
        self._plans = []

    def tensor(self, *, name, dim, stride, data_type, uid):
        made = _Tensor(name=name, dim=dim, stride=stride, data_type=data_type, uid=uid)
        made.compute = lambda pack: torch.from_numpy(_view(made.fields, pack[uid]).astype(np.float32))
        return made

    def _node(self, compute):
        made = _Tensor(compute=compute)
        self._tensors.append(made)
        return made

    def conv_fprop(self, *, image, weight, pre_padding, post_padding, stride, dilation, compute_data_type, name):
        (top, left), (bottom, right) = pre_padding, post_padding

        def compute(pack):
            pixels = torch.nn.functional.pad(image.compute(pack), (left, right, top, bottom))
            return torch.nn.functional.conv2d(pixels, weight.compute(pack))

        return self._node(compute)

    def add(self, *, a, b, name):
        return self._node(lambda pack: a.compute(pack) + b.compute(pack))

    def mul(self, *, a, b, name):
        return self._node(lambda pack: a.compute(pack) * b.compute(pack))

    def relu(self, *, input, name):
        return self._node(lambda pack: torch.relu(input.compute(pack)))

    def leaky_relu(self, *, input, negative_slope, name):
        return self._node(lambda pack: torch.nn.functional.leaky_relu(input.compute(pack), negative_slope))

    def identity(self, *, input, name):
        return self._node(input.compute)

    def build_operation_graph(self):
        pass

    def create_execution_plans(self, heuristics):
        self._plans = [7, 8, 9]

    def create_execution_plan(self, engine, knobs):
        self._plans.append(engine)

    def get_execution_plan_count(self):
        return len(self._plans)

    def get_plan_name_at_index(self, index):
        return f"plan{self._plans[index]}"

    def build_plan_at_index(self, index):
        if self._plans[index] == 7:
            raise _NotSupported("CUDNN_STATUS_NOT_SUPPORTED")

    def get_workspace_size_plan_at_index(self, index):
        return 512 * self._plans[index]

    def get_engine_and_knobs_at_index(self, index):
        return self._plans[index], {_Knob.TILE: 3}

    def execute_plan_at_index(self, pack, workspace, index, handle):
        assert handle["stream"], "the handle has no stream"
        assert workspace, "there is no scratch memory"
        for tensor in self._tensors:
            if "uid" in tensor.fields:
                target = _view(tensor.fields, pack[tensor.fields["uid"]])
                target[...] = tensor.compute(pack).numpy().astype(target.dtype)


def make_cudnn():
    """The module."""
    return SimpleNamespace(
        pygraph=_Graph,
        data_type=_Type,
        knob_type=_Knob,
        cudnnGraphNotSupportedError=_NotSupported,
        heur_mode=SimpleNamespace(A="A", B="B", FALLBACK="FALLBACK"),
        create_handle=lambda: {"stream": 0},
        destroy_handle=lambda handle: handle.clear(),
        set_stream=lambda handle, stream: handle.update(stream=stream),
    )


class HostDevice:
    """``engines.gpu.Device`` over host memory, with a clock that only moves forward."""

    name = "host"
    compute_capability = (8, 0)

    def __init__(self):
        self.live = {}

    def make_current(self):
        pass

    def allocate(self, count):
        array = np.full(count, 0xFF, np.uint8)
        buffer = SimpleNamespace(pointer=array.ctypes.data, bytes=count)
        self.live[buffer.pointer] = array
        buffer.close = lambda: self.live.pop(buffer.pointer)
        return buffer

    def make_timed_event(self):
        return SimpleNamespace(record=lambda stream: None, wait=lambda: None, seconds_since=lambda earlier: 1e-3)


class HostStream:
    handle = 1234

    def upload(self, source, pointer):
        ctypes.memmove(pointer, source.ctypes.data, source.nbytes)

    def synchronize(self):
        pass

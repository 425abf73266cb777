"""cudnn-frontend's Python graph on the fake GPU: the calls that ``engines.cudnn.fused`` makes, computed by torch.

Names and arguments are those of cudnn-frontend 1.32. A tensor is read and written through its own shape and strides at
the address given at the run, so wrong strides, numbers and addresses give wrong pictures. Each graph has three plans:
``plan7`` is refused, ``plan8`` and ``plan9`` run; ``plan8`` needs less scratch memory.
"""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

import numpy as np
import torch


class _Type(Enum):
    HALF = np.float16
    FLOAT = np.float32
    FP8_E4M3 = np.uint8


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


def _bytes(fields):
    count = 1 + sum((dim - 1) * stride for dim, stride in zip(fields["dim"], fields["stride"], strict=True))
    return count * np.dtype(fields["data_type"].value).itemsize


def _view(gpu, fields, address):
    dtype = np.dtype(fields["data_type"].value)
    flat = gpu.bytes_at(address, _bytes(fields)).view(dtype)
    strides = [stride * dtype.itemsize for stride in fields["stride"]]
    return np.lib.stride_tricks.as_strided(flat, fields["dim"], strides)


def _floats(array):
    """Numbers of any type; bytes are e4m3."""
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array)).view(torch.float8_e4m3fn).float()
    return torch.from_numpy(array.astype(np.float32))


def _rounded(values, dtype):
    if dtype == np.uint8:
        return values.contiguous().clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    return values.numpy().astype(dtype)


class _Graph:
    gpu = None
    wrong = frozenset()
    """Plans that compute something else."""

    def __init__(self, *, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert (io_data_type, compute_data_type) == (_Type.HALF, _Type.FLOAT)
        self._inputs = []
        self._outputs = []
        self._plans = []

    def tensor(self, *, name, dim, stride, data_type, uid):
        made = _Tensor(name=name, dim=dim, stride=stride, data_type=data_type, uid=uid)
        made.compute = lambda pack: _floats(_view(self.gpu, made.fields, pack[uid]))
        self._inputs.append(made)
        return made

    def _node(self, compute):
        made = _Tensor(compute=compute)
        self._outputs.append(made)
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
        assert workspace, "there is no scratch memory"
        outputs = [tensor for tensor in self._outputs if "uid" in tensor.fields]
        factor = 0.9 if self._plans[index] in self.wrong else 1.0

        def run():
            for tensor in outputs:
                target = _view(self.gpu, tensor.fields, pack[tensor.fields["uid"]])
                target[...] = _rounded(factor * tensor.compute(pack), target.dtype)

        reads, writes = (
            tuple((pack[tensor.fields["uid"]], _bytes(tensor.fields)) for tensor in tensors)
            for tensors in (self._inputs, outputs)
        )
        scratch = (workspace, 512 * self._plans[index])
        self.gpu.enqueue(handle["stream"], run, name="cudnn", reads=reads, writes=(*writes, scratch))


def make_cudnn(gpu, *, wrong=()):
    """The module.

    Args:
        gpu: The ``FakeGpu`` whose memory it uses.
        wrong: Numbers of plans that compute something else.
    """
    return SimpleNamespace(
        pygraph=type("pygraph", (_Graph,), {"gpu": gpu, "wrong": frozenset(wrong)}),
        data_type=_Type,
        knob_type=_Knob,
        cudnnGraphNotSupportedError=_NotSupported,
        heur_mode=SimpleNamespace(A="A", B="B", FALLBACK="FALLBACK"),
        backend_version=lambda: 91900,
        __version__="1.32.0",
        create_handle=lambda: {"stream": 0},
        destroy_handle=lambda handle: handle.clear(),
        set_stream=lambda handle, stream: handle.update(stream=stream),
    )

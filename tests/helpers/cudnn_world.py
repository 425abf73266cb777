"""A fake GPU with doubles of cuDNN and of the engine's kernels on it; a C++ compiler makes those for the processor."""

from __future__ import annotations

import ctypes

import numpy as np
from helpers.cudnn_double import make_cudnn
from helpers.ends_on_cpu import run_on_cpu
from helpers.gpu_double import FakeDeviceArray, FakeGpu

import engines.backends.cudnn as backend_module
from engines.cudnn import checking, ends, execute
from engines.cudnn.choices import ChoiceKey
from engines.gpu.cuda import DeviceIdentity

KEY = ChoiceKey(
    onnx_sha256="0" * 64,
    gpu_name="Fake GPU",
    compute_capability=(8, 9),
    driver_version="580.0",
    cudnn_version=91900,
    frontend_version="1.32.0",
)


class CudnnWorld:
    """Everything that the engine finds on a machine.

    Args:
        folder: Where compiled kernels are kept.
        compute_capability: Of the GPU.
        total_bytes: Its memory.
        wrong: Plans of cuDNN's that compute something else.
    """

    def __init__(self, folder, *, compute_capability=(8, 9), total_bytes=1 << 30, wrong=()):
        self.gpu = FakeGpu(compute_capability=compute_capability, total_bytes=total_bytes)
        self.cudnn = make_cudnn(self.gpu, wrong=wrong)
        self.folder = folder
        self.arrays = []
        self.streams = []

    def array(self, content):
        """Put an array on the GPU; it is given back at the end of the test."""
        self.arrays.append(FakeDeviceArray(self.gpu, content))
        return self.arrays[-1]

    def stream(self):
        """A stream of the caller's."""
        self.streams.append(self.gpu.make_stream())
        return self.streams[-1]

    def check_clean(self):
        """Check that the code under test gave everything back."""
        for stream in self.streams:
            stream.close()
        for array in self.arrays:
            array.buffer.close()
        self.gpu.check_clean()

    def install(self, patch):
        """Let the engine find this library and this GPU."""
        gpu, folder = self.gpu, self.folder
        listed = DeviceIdentity(
            index=0,
            name=gpu.name,
            compute_capability=gpu.compute_capability,
            total_bytes=gpu.total_bytes,
            driver_version=gpu.driver_version,
        )

        class Kernel(_Kernel):
            def __init__(self, device, source):
                super().__init__(gpu, source, folder)

        patch.setattr(backend_module, "load_cudnn", lambda: self.cudnn)
        patch.setattr(backend_module, "list_devices", lambda: (listed,))
        patch.setattr(backend_module, "open_device", lambda _: gpu)
        patch.setattr(ends, "OwnKernel", Kernel)
        patch.setattr(checking, "OwnKernel", Kernel)
        patch.setattr(execute, "_NOISE_BYTES", 1 << 16)
        patch.setattr(checking, "SAMPLES", 256)  # a processor takes long for 4096
        patch.setattr(checking, "EDGE_SAMPLES", 128)


class _Kernel:
    """A kernel of ``engines.cudnn`` as work of the fake GPU: whatever it has an address of, it may read and write."""

    def __init__(self, gpu, source, folder):
        self._gpu, self._source, self._folder = gpu, source, folder

    def launch(self, arguments, *, blocks, stream):
        own = type(arguments).from_buffer_copy(arguments)
        touched = {allocation.start: allocation for allocation in map(self._find, _addresses(own))}
        spans = tuple((start, allocation.content.nbytes) for start, allocation in touched.items())

        def run():
            here = type(own).from_buffer_copy(own)
            _move(here, self._host_address)
            run_on_cpu(self._source, (here, blocks), folder=self._folder)

        self._gpu.enqueue(stream.handle, run, name=self._source.name, reads=spans, writes=spans)

    def close(self):
        pass

    def _find(self, address):
        return self._gpu.find(address, 1)

    def _host_address(self, address):
        allocation = self._find(address)
        return allocation.content.ctypes.data + address - allocation.start


def _addresses(structure):
    found = []
    _move(structure, lambda address: found.append(address) or address)
    return found


def _move(structure, change):
    """Replace every address in a structure."""
    if isinstance(structure, ctypes.Array):
        for one in structure:
            _move(one, change)
        return
    for name, kind, *_ in structure._fields_:
        value = getattr(structure, name)
        if kind is ctypes.c_uint64:
            if value:
                setattr(structure, name, change(value))
        elif isinstance(value, ctypes.Structure | ctypes.Array):
            _move(value, change)


def noise(shape, *, seed=4):
    """Tiles that float16 holds exactly."""
    return np.random.default_rng(seed).random(shape).astype(np.float16).astype(np.float32)

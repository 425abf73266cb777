"""Planes in memory of ours as DLPack tensors, which is how PyAV takes pictures without a copy.

Source of the structures: DLPack 0.8, ``include/dlpack/dlpack.h`` (the unversioned form, which PyAV 18 and 19 read).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

KIND_HOST = 1
"""``kDLCPU``."""
KIND_CUDA = 2
"""``kDLCUDA``."""
_TYPE_UINT = 1
"""``kDLUInt``."""
_CAPSULE = b"dltensor"


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("index", ctypes.c_int))


class _SampleType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int),
        ("type", _SampleType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """``DLManagedTensor``."""


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


class PlaneTensor:
    """A 2-D array of unsigned samples. Can be handed over once.

    Args:
        pointer: Address in the memory that ``kind`` says.
        rows, columns: In samples.
        pitch_bytes: From row to row.
        itemsize: Bytes of one sample, 1 or 2.
        device_index: CUDA ordinal; 0 in host memory.
        on_take: Called when the tensor is handed over.
        on_release: Called once after that, when the taker no longer reads it, in whatever thread that happens.
        kind: DLPack's device type.
    """

    def __init__(
        self,
        pointer: int,
        *,
        rows: int,
        columns: int,
        pitch_bytes: int,
        itemsize: int,
        device_index: int,
        on_take: Callable[[], None],
        on_release: Callable[[], None],
        kind: int = KIND_CUDA,
    ) -> None:
        self._on_take, self._on_release = on_take, on_release
        self._kind = kind
        self._shape = (ctypes.c_int64 * 2)(rows, columns)
        self._strides = (ctypes.c_int64 * 2)(pitch_bytes // itemsize, 1)
        self._managed = _Managed()
        tensor = self._managed.tensor
        tensor.data = pointer
        tensor.device = _Device(kind, device_index)
        tensor.dimensions = 2
        tensor.type = _SampleType(_TYPE_UINT, 8 * itemsize, 1)
        tensor.shape = ctypes.cast(self._shape, ctypes.POINTER(ctypes.c_int64))
        tensor.strides = ctypes.cast(self._strides, ctypes.POINTER(ctypes.c_int64))
        self._managed.deleter = _DELETE
        self._managed.context = id(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Device type and CUDA ordinal."""
        return (self._kind, int(self._managed.tensor.device.index))

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """Hand the tensor over: a ``dltensor`` capsule, whose taker calls the deleter.

        Args:
            stream: Ignored; the memory is complete before it is handed over.
        """
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        capsule = make(ctypes.addressof(self._managed), _CAPSULE, None)
        self._on_take()
        # from here the taker keeps this object alive: the structure lies inside it
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        return capsule

    def let_go(self) -> None:
        """What the deleter does, once."""
        self._on_release()


def _delete(managed: Any) -> None:
    holder = ctypes.cast(managed.contents.context, ctypes.py_object).value
    holder.let_go()
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(holder))


_DELETE = _Deleter(_delete)
"""One function for all tensors; libav may call it as long as the process lives."""

"""Our own CUDA kernels: decoded codes to the network's tiles, and its tiles back to codes, without leaving the GPU.

The sources are data files beside this module, compiled for the GPU at hand by NVRTC and kept in the user's cache
folder. Nothing here imports CUDA until a ``CudaLauncher`` is made.
"""

from pipeline.cuda.kernels import FrameKernels
from pipeline.cuda.picture import DevicePicture, DevicePlane

__all__ = ["DevicePicture", "DevicePlane", "FrameKernels"]

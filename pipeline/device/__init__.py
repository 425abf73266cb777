"""Frames that stay in a GPU's memory between decoder and encoder: pools, and the stages' GPU forms.

::

    host frame --pinned--> [copy stream] -> planes -> cut -> tiles in -> engine -> tiles out -> blend, finish
                                                          -> planes -> [copy stream] --pinned--> frame, or
                                                          -> NV12 or P010 -> NVENC, by pipeline.encode.surfaces

A stage has streams of its own and puts work into them; the host goes on at once. What orders the work of two streams is
always an event: ``ready`` of the item that is handed on, and the ``after`` with which its buffer is given back. Nothing
here imports a GPU library; the GPU is ``engines.gpu.Device``, the kernels are ``pipeline.device.kernels.Kernels``.
"""

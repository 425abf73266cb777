"""Fused convolutions on NVIDIA GPUs without a compile step: an ONNX graph, planned, run by cuDNN and own kernels."""

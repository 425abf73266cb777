"""Pixel kernels for the CPU, compiled by numba on first use."""

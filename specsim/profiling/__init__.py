"""Measures the kernels of this machine (torch)."""

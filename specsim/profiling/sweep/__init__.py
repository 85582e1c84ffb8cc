"""A sweep over a device's kernels: which shapes, when again, and the folder they land in."""

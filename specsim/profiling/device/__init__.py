"""The machine under test: what it is, a clock for its kernels, how it drifts."""

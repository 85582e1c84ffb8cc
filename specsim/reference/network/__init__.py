"""The transformer: its weights, layers and kernels, and their replay from captured graphs."""

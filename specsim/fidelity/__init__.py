"""Predicted against measured: batch × k maps, served loads, and the bars that both are held to."""

from specsim.fidelity.grid_file import read_grid, write_grid
from specsim.fidelity.map_errors import CellError, Fidelity, Predicted, Regret, compare, together
from specsim.fidelity.speedups import SpeedupError, speedup_errors

__all__ = [
    "CellError",
    "Fidelity",
    "Predicted",
    "Regret",
    "SpeedupError",
    "compare",
    "read_grid",
    "speedup_errors",
    "together",
    "write_grid",
]

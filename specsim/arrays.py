"""Arrays by what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Indices = NDArray[np.intp]
Booleans = NDArray[np.bool_]
Records = NDArray[Any]  # of a type that jit.mixed_record made
Reals = float | NDArray[Any]  # one number, or an array of alternatives that broadcasts like NumPy's
Dimensions = tuple[Any, ...]  # of a shape: floats, or arrays of them

"""What concerns the whole suite."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _only_what_a_module_makes_is_searched_for_garbage() -> None:
    """The engine collects garbage before each measured cell, and each time would search all that the suite holds."""
    gc.collect()
    gc.freeze()

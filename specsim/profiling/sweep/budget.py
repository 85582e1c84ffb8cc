"""How much of a sweep's time is left, by a monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class TimeBudget:
    """``total_s`` seconds from now on, the last ``finishing_share`` of them for finishing."""

    def __init__(self, total_s: float, finishing_share: float, progress: Callable[[float, float, str], None]) -> None:
        self.total_s = total_s
        self._until_s = (1.0 - finishing_share) * total_s
        self._start_s = time.monotonic()
        self._progress = progress

    def spent_s(self) -> float:
        return time.monotonic() - self._start_s

    @property
    def over(self) -> bool:
        """Whether it is time to finish."""
        return self.spent_s() >= self._until_s

    def report(self, what: str) -> None:
        """Tell how far the sweep is and what comes next."""
        self._progress(min(self.spent_s(), self.total_s), self.total_s, what)

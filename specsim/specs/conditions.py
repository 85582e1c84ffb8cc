"""The machine's present state against its profile: clocks, neighbours on the same memory, another cooling."""

from __future__ import annotations

from pydantic import PositiveFloat

from specsim.validated import Validated


class Conditions(Validated):
    """How many times longer each kind of work takes than when the profile was taken.

    ``memory``: streaming weights; ``compute``: matrix products out of the cache; ``attention``; ``elementwise``: norms
    and the like, and choosing tokens; ``host``: Python. ``specsim profile now PROFILE`` measures them.

        conditions: {memory: 1.3, elementwise: 1.1}
    """

    memory: PositiveFloat = 1.0
    compute: PositiveFloat = 1.0
    attention: PositiveFloat = 1.0
    elementwise: PositiveFloat = 1.0
    host: PositiveFloat = 1.0

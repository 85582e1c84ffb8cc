"""What the compiled loop cannot do."""

from __future__ import annotations

from collections.abc import Sequence

from specsim.assembly import Assembly
from specsim.speculation.acceptance import AcceptanceLaw, LatentAcceptance
from specsim.speculation.acceptance.law import PositionLaw


def obstacles(server: Assembly, classes: Sequence[str]) -> list[str]:
    """What of a server the compiled loop cannot do; empty where it can do everything."""
    limits, found = server.limits, []
    if limits.scheduling_policy != "fcfs":
        found.append(f"scheduling_policy {limits.scheduling_policy}")
    if limits.prefix_caching:
        found.append("prefix_caching")
    if server.speculation is None:
        return found
    decider = server.decider()
    if decider is None or decider.table() is None:
        found.append(f"policy {server.speculation.policy.kind}, which is asked at every step")
    laws = [law for name in classes if (law := server.law(name)) is not None and not has_levels(law)]
    found += [f"acceptance {getattr(law, 'kind', type(law).__name__)}, which is drawn step by step" for law in laws]
    return list(dict.fromkeys(found))


def has_levels(law: AcceptanceLaw) -> bool:
    """Whether a request's rates are a number of its own times rates by position, the same in every round."""
    return isinstance(law, PositionLaw) or (isinstance(law, LatentAcceptance) and law.spans is None)

"""How many tokens to draft next, seeing only the past."""

from specsim.speculation.policy.fixed import FixedPolicy, OffAbovePolicy, Policy, TablePolicy

__all__ = ["FixedPolicy", "OffAbovePolicy", "Policy", "TablePolicy"]

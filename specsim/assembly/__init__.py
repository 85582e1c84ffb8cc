"""A scenario's machine: what prices its steps, what its replicas run under, who decides how much they draft.

machine    the Assembly: every part made when it is first asked for, and once
prices     a scenario's profile, kernel prices and cost of a step, kept from one assembly to the next
"""

from specsim.assembly.machine import Assembly, assemble

__all__ = ["Assembly", "assemble"]

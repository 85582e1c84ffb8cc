"""``loads.yaml``: which workloads a served case runs, under which alternatives.

alternatives:                       # settings of the scenario, as --set takes them
  off: ["speculation=null"]
  k4: ["speculation.policy={kind: fixed, k: 4}"]
loads:                              # arrivals whose rates are shares of the measured saturation
  poisson-30: {kind: poisson, rate_per_s: 0.3}
  alternating: {kind: piecewise, cv: 2, pieces: [[40, 0.3], [40, 0.8]]}
saturation_of: off                  # or own: each alternative's rates follow its own saturation
repeats: 3
clock: steps                        # an engine that is stepped: its time is the sum of its steps'; default: wall
variants:                           # the same predictions under other acceptance laws, alike for all or by alternative
  pooled: ["speculation.acceptance={kind: constant, rate: 0.55}"]
  power: {k4: ["speculation.acceptance={kind: power_law, c: 0.6, gamma: 0.5}"]}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from specsim.results.served_rows import SATURATION, SCENARIO
from specsim.validated import Validated
from specsim.workload.arrivals import Arrivals, ClosedLoopArrivals, OpenArrivals

OWN = "own"
Settings = tuple[str, ...]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$"
Name = Annotated[str, Field(pattern=NAME)]


class Loads(Validated):
    """What a served case runs: every load under every alternative, ``repeats`` times.

    Alternatives and variants are settings applied to the scenario. A load's rates are shares of the saturation, in
    requests/s, of the alternative itself (``own``) or of the one that ``saturation_of`` names. ``clock``: of a real
    engine, whether its server is asked on the wall clock, or its engine stepped, all alternatives side by side.
    """

    alternatives: dict[Name, Settings] = Field(min_length=1)
    loads: dict[Name, Arrivals] = Field(min_length=1)
    saturation_of: str = OWN
    repeats: PositiveInt = 3
    clock: Literal["wall", "steps"] = "wall"
    variants: dict[Name, Settings | dict[Name, Settings]] = Field(default_factory=dict)

    def laws(self, alternative: str) -> dict[str, Settings]:
        """The variants of an alternative and their settings."""
        found = {
            name: settings.get(alternative) if isinstance(settings, dict) else settings
            for name, settings in self.variants.items()
        }
        return {name: settings for name, settings in found.items() if settings is not None}

    @field_validator("loads")
    @classmethod
    def _open(
        cls, loads: dict[str, OpenArrivals | ClosedLoopArrivals]
    ) -> dict[str, OpenArrivals | ClosedLoopArrivals]:
        for name, arrivals in loads.items():
            if isinstance(arrivals, ClosedLoopArrivals):
                raise ValueError(
                    f"load {name!r} is a closed loop, which has no rate to be a share of the saturation; make it "
                    "poisson, gamma, piecewise or diurnal"
                )
        return loads

    @model_validator(mode="after")
    def _names(self) -> Loads:
        taken = ((self.loads, SATURATION, "load"), (self.variants, SCENARIO, "variant"))
        for names, name, kind in (*taken, (self.alternatives, OWN, "alternative")):
            if name in names:
                raise ValueError(f"{kind} {name!r} has a name with a meaning of its own; give it another")
        if self.saturation_of != OWN and self.saturation_of not in self.alternatives:
            raise ValueError(
                f"saturation_of is {self.saturation_of!r}, which is neither {OWN} nor an alternative; choose of "
                f"{', '.join((OWN, *self.alternatives))}"
            )
        for name, settings in self.variants.items():
            strange = [one for one in settings if one not in self.alternatives] if isinstance(settings, dict) else []
            if strange:
                raise ValueError(
                    f"variant {name!r} is of {strange[0]!r}, which is no alternative; choose of "
                    f"{', '.join(self.alternatives)}"
                )
        return self

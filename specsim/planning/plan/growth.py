"""A load that grows by a percentage a month, and the GPUs that each month asks for.

A deployment that grows is not chosen anew: the replicas of today's answer become more. Months are sized one after the
other, from the fleet of the month before, so that no month has fewer. Each has what its end asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from specsim.errors import InvalidInput, NoAnswer
from specsim.planning.plan.bounds import Bounds
from specsim.planning.plan.choose import Option
from specsim.planning.plan.size import Size, fewest_near

MOST_TIMES = 100  # the load of today: the simulations of more take long
MARGIN = 4  # times the replicas that proportion asks for: no more are tried


@dataclass(frozen=True, slots=True)
class Growth:
    """Of a load, compounded. Raises InvalidInput for one that shrinks, or goes beyond MOST_TIMES."""

    percent_per_month: float
    months: int = 12

    def __post_init__(self) -> None:
        if not 0 < self.percent_per_month < math.inf or self.months < 1:
            raise InvalidInput(
                f"growth of {self.percent_per_month:g} % over {self.months} months: give a percentage above 0 and 1 "
                "month or more; other curves as loads, --loads 40,35,60"
            )
        most = math.log(MOST_TIMES) / self.rate
        if self.months > most:
            raise InvalidInput(
                f"growth of {self.percent_per_month:g} % a month over {self.months} months is more than {MOST_TIMES} "
                f"times the load; give at most {math.floor(most)} months, or the later load itself, --rate"
            )

    @property
    def rate(self) -> float:
        """The logarithm of a month's factor."""
        return math.log1p(self.percent_per_month / 100.0)

    def loads(self, rate_per_s: float) -> list[float]:
        """Requests/s at the end of each month."""
        return [rate_per_s * math.exp(self.rate * month) for month in range(1, self.months + 1)]

    def months_until(self, times: float) -> float:
        """How long until the load is so many times that of today."""
        return math.log(times) / self.rate


@dataclass(frozen=True)
class GrownFleet:
    """One kind of replica: ``today``, and the fleet of each month, which meets the SLO at the month's end."""

    today: Option
    months: tuple[Option, ...]

    @property
    def usd(self) -> float | None:
        """Of all months."""
        costs = [one.usd_per_month for one in self.months]
        known = [usd for usd in costs if usd is not None]
        return sum(known) if len(known) == len(costs) else None


@dataclass(frozen=True)
class GrowthCurve:
    """The plan's best as its load grows, and the best the other way, with drafts or without; None: there is none.

    ``lasts_months``: how long today's GPUs do; None: longer than was looked for.
    """

    growth: Growth
    fleet: GrownFleet
    other: GrownFleet | None
    lasts_months: float | None


def grown_fleet(option: Option, rates: Sequence[float]) -> GrownFleet:
    """Of an option, at rates one after the other. Raises NoAnswer where no number of replicas serves one."""
    before, months = option, []
    for rate in rates:
        before = _at(option, before, rate)
        months.append(before)
    return GrownFleet(option, tuple(months))


def _at(option: Option, before: Option, rate_per_s: float) -> Option:
    """The fewest replicas at a rate, from those that served a lower one on."""
    load = replace(option.load, rate_per_s=rate_per_s)
    same = option.fleets.verdict(before.size.deployment, load)
    if same.met:
        return replace(before, size=Size(before.size.deployment, same, None), load=load)
    most = math.ceil(MARGIN * option.replicas * rate_per_s / option.load.rate_per_s)
    bounds = Bounds(option.candidate, option.slo, load)
    found = fewest_near(option.fleets, bounds, before.size.deployment, most)
    if not isinstance(found, Size):
        raise NoAnswer(
            f"at {rate_per_s:.3g} requests/s even {found.replicas} replicas of {option.candidate.describe()} do not "
            f"meet the SLO: it {found.verdict.misses()}; ask for fewer months"
        )
    return replace(before, size=found, load=load)

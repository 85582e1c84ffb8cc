"""Which law the rounds are of: each fitted on one half and scored on the other, both ways.

The simplest law is taken that the best one does not surely beat: its likelihood of rounds that it was not fitted to
lies within two standard errors of the best one's, the errors being those of differences between requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.acceptance.lengths import of_length
from specsim.speculation.fit.estimate import DEFAULT_LEVEL, Estimate, normal
from specsim.speculation.fit.families import FAMILIES, Family
from specsim.speculation.fit.observed import UNSEEN_SPREAD, Observed
from specsim.speculation.fit.rates import fit_conditional
from specsim.speculation.fit.requests import latent_from_pooled

SURE = 2.0  # standard errors
MEAN_ALONE = "constant, from the mean alone"
SPREAD_GIVEN = "latent, its spread given"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A law that was tried. ``gain``: its log-likelihood of unseen rounds over the constant law's, a thousand drafting
    rounds, and ``behind``: how far it lies behind the best, in standard errors of that difference. ``refused``: why
    it was not tried; None: it was.
    """

    name: str
    parameters: int
    gain: float | None = None
    behind: float | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class ChosenLaw:
    """``numbers`` and ``acceptance_length`` hold together at ``level``. ``acceptance_length`` is over rounds, at
    ``draft_tokens``.
    """

    name: str
    law: AcceptanceLaw
    numbers: Mapping[str, Estimate]
    acceptance_length: Estimate
    draft_tokens: int
    level: float
    candidates: tuple[Candidate, ...]


def choose_law(rounds: Observed, *, level: float = DEFAULT_LEVEL, seed: int = 0) -> ChosenLaw:
    """The law of the rounds and every law tried. ``seed``: of the halves.

    Intervals widen with the count of numbers, so that all hold together (Bonferroni). Raises InvalidInput where no
    law can be fitted.
    """
    order = np.random.default_rng(seed).permutation(len(rounds.counts))
    halves = rounds.part(np.sort(order[::2])), rounds.part(np.sort(order[1::2]))
    scores: dict[str, Floats] = {}
    refused: dict[str, str] = {}
    for family in FAMILIES:
        lacking = family.missing(rounds)
        if lacking is not None:
            refused[family.name] = f"needs {lacking}"
            continue
        try:
            scores[family.name] = np.concatenate(
                [family.fit(one, level).score(other) for one, other in (halves, halves[::-1])]
            )
        except InvalidInput as error:
            refused[family.name] = str(error)
    if not scores:
        raise InvalidInput(f"no law can be fitted: {next(iter(refused.values()))}")
    behind = _behind(scores)
    family = _simplest([one for one in FAMILIES if behind.get(one.name, np.inf) <= SURE], rounds, behind)
    joint = 1 - (1 - level) / (family.parameters(rounds) + 1)
    fit = family.fit(rounds, joint)
    length, k = _length(rounds, joint)
    tried = tuple(_candidate(one, rounds, scores, behind, refused) for one in FAMILIES)
    return ChosenLaw(family.name, fit.law, fit.numbers, length, k, level, tried)


def law_of_mean(length: float, draft_tokens: int, rounds: int | None, *, level: float = DEFAULT_LEVEL) -> ChosenLaw:
    """The constant rate of a mean acceptance length, all that some engines tell; NaN intervals without ``rounds``."""
    law = of_length(length, draft_tokens)
    survival = law.survival(draft_tokens)
    square = float(((2.0 * np.arange(1, draft_tokens + 1) - 1.0) * survival).sum())
    variance = square - float(survival.sum()) ** 2  # of the drafts that one round accepts
    error = UNSEEN_SPREAD * (variance / rounds) ** 0.5 if rounds else np.nan
    around = normal(length, float(error), level)
    ends = (np.clip(end, 1.0, draft_tokens + 1.0) for end in (length, around.low, around.high))
    rate, low, high = (
        float(of_length(float(end), draft_tokens).conditional_rates(1)[0]) if np.isfinite(end) else np.nan
        for end in ends
    )
    return ChosenLaw(MEAN_ALONE, law, {"rate": Estimate(rate, np.nan, low, high)}, around, draft_tokens, level, ())


def spread_given(pooled: ChosenLaw, concentration: float) -> ChosenLaw:
    """The law of requests whose spread is known from elsewhere and whose rounds, pooled, are as counted.

    Raises NoAnswer where no such law has this acceptance length.
    """
    length, k = pooled.acceptance_length, pooled.draft_tokens

    def mean(of: float) -> float:
        return latent_from_pooled(min(max(of, 1.0 + 1e-3), k + 1.0 - 1e-3), k, concentration).requests.mean  # type: ignore[union-attr]

    law = latent_from_pooled(length.value, k, concentration)
    ends = (mean(length.low), mean(length.high)) if np.isfinite(length.low) else (np.nan, np.nan)
    numbers = {
        "requests.mean": Estimate(mean(length.value), np.nan, *ends),
        "requests.concentration": Estimate(concentration, 0.0, concentration, concentration),
    }
    return replace(pooled, name=SPREAD_GIVEN, law=law, numbers=numbers)


def _behind(scores: dict[str, Floats]) -> dict[str, float]:
    """How far each law lies behind the best in standard errors, on the units that both were scored on.

    The best is found by pairs, since laws that take long are scored on some units alone.
    """
    best = next(iter(scores))
    for name in scores:
        if _difference(scores[name], scores[best])[0] > 0:
            best = name
    found = {}
    for name in scores:
        ahead, error = _difference(scores[best], scores[name])
        found[name] = 0.0 if name == best or ahead <= 0 else ahead / error if error else np.inf
    return found


def _difference(one: Floats, other: Floats) -> tuple[float, float]:
    """The sum of the differences, and its standard error."""
    differences = (one - other)[np.isfinite(one - other)]
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.sum()), spread * len(differences) ** 0.5


def _simplest(families: list[Family], rounds: Observed, behind: dict[str, float]) -> Family:
    return min(families, key=lambda one: (one.parameters(rounds), behind[one.name]))


def _candidate(
    family: Family, rounds: Observed, scores: dict[str, Floats], behind: dict[str, float], refused: dict[str, str]
) -> Candidate:
    parameters = family.parameters(rounds)
    if family.name in refused:
        return Candidate(family.name, parameters, refused=refused[family.name])
    base = scores.get("constant")
    gain = None
    if base is not None:
        both = np.isfinite(scores[family.name] - base)
        gain = 1e3 * _difference(scores[family.name], base)[0] / (rounds.drafting.sum() * both.mean())
    return Candidate(family.name, parameters, gain, behind[family.name])


def _length(rounds: Observed, level: float) -> tuple[Estimate, int]:
    """Acceptance length over rounds at the longest draft, or the longest that any round got to."""
    found = fit_conditional(rounds.records(), level=rounds.honest(level))
    k = min(rounds.longest, len(found.rates))
    return found.acceptance_length(k), k

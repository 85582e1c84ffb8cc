"""Acceptance laws fitted to what engines record, with standard errors and intervals."""

from specsim.speculation.fit.choice import Candidate, ChosenLaw, choose_law, law_of_mean, spread_given
from specsim.speculation.fit.estimate import Estimate
from specsim.speculation.fit.observed import Observed, observed
from specsim.speculation.fit.rates import (
    FittedConstant,
    FittedPowerLaw,
    FittedRates,
    counts_from_rates,
    fit_conditional,
    fit_constant,
    fit_power_law,
    pooled_acceptance_length,
)
from specsim.speculation.fit.requests import (
    FittedLatent,
    autocorrelation,
    fit_decaying_levels,
    fit_request_levels,
    fit_spans,
    latent_from_pooled,
)
from specsim.speculation.fit.runs import FittedHurdle, fit_hurdle, fit_hurdle_counts, fit_hurdle_rounds

__all__ = [
    "Candidate",
    "ChosenLaw",
    "Estimate",
    "FittedConstant",
    "FittedHurdle",
    "FittedLatent",
    "FittedPowerLaw",
    "FittedRates",
    "Observed",
    "autocorrelation",
    "choose_law",
    "counts_from_rates",
    "fit_conditional",
    "fit_constant",
    "fit_decaying_levels",
    "fit_hurdle",
    "fit_hurdle_counts",
    "fit_hurdle_rounds",
    "fit_power_law",
    "fit_request_levels",
    "fit_spans",
    "latent_from_pooled",
    "law_of_mean",
    "observed",
    "pooled_acceptance_length",
    "spread_given",
]

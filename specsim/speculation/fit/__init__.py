"""Acceptance laws fitted to what engines record, with standard errors and intervals."""

from specsim.speculation.fit.estimate import Estimate
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
    fit_request_levels,
    fit_spans,
    latent_from_pooled,
)
from specsim.speculation.fit.runs import FittedHurdle, fit_hurdle, fit_hurdle_counts

__all__ = [
    "Estimate",
    "FittedConstant",
    "FittedHurdle",
    "FittedLatent",
    "FittedPowerLaw",
    "FittedRates",
    "autocorrelation",
    "counts_from_rates",
    "fit_conditional",
    "fit_constant",
    "fit_hurdle",
    "fit_hurdle_counts",
    "fit_power_law",
    "fit_request_levels",
    "fit_spans",
    "latent_from_pooled",
    "pooled_acceptance_length",
]

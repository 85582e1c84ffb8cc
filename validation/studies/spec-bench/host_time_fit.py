"""What a prediction does not know of a host, fitted to what was measured on it.

One number: the seconds that a pass waits for the host, or those of launching one kernel. Anything a user can divide
serves as data: round times, or the ratio of a speculative round to a plain step, which every published speed-up with
its tokens a round gives. Errors count in the logarithm, so that a ratio and its inverse weigh the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.cost.forward import KernelPrices
from specsim.errors import InvalidInput
from specsim.scenario import Scenario

HostKind = Literal["pass", "launch"]

SMALLEST_S = 1e-7  # a host time below this is none
STARTS = 40  # host times looked at first: errors may have several dips where host and kernels overlap


@dataclass(frozen=True, slots=True)
class HostFit:
    """A fitted host time. ``standard_error_s`` is None where the data do not determine it: fewer than two rows, none
    that depends on it, or the search's end reached (``at_limit``).
    """

    seconds: float
    standard_error_s: float | None
    errors: Floats  # [rows]: log(predicted / measured)
    at_limit: bool

    @property
    def mean_absolute_error(self) -> float:
        """Mean |predicted / measured - 1|."""
        return float(np.abs(np.expm1(self.errors)).mean())


def fit_host_time(measured: Sequence[float] | Floats, predict: Callable[[float], Floats], *, most_s: float) -> HostFit:
    """The host time of 0..``most_s`` at which ``predict(seconds)`` [rows] comes closest to ``measured`` [rows].

    Least squares of the logarithms. Raises InvalidInput for no rows, or one that is not positive.
    """
    found = np.asarray(measured, dtype=np.float64)
    if not found.size:
        raise InvalidInput("no measured rows to fit a host time to; give at least one")
    if not np.all(np.isfinite(found) & (found > 0)):
        worst = found[~(np.isfinite(found) & (found > 0))][0]
        raise InvalidInput(f"a measured value is {worst:g}; times and ratios must be positive: correct or remove it")

    def errors(seconds: float) -> Floats:
        return np.asarray(np.log(predict(seconds) / found))

    starts = np.concatenate(([0.0], np.geomspace(SMALLEST_S, most_s, STARTS)))
    scores = np.array([_squares(errors(float(start))) for start in starts])
    walled = np.concatenate(([np.inf], scores, [np.inf]))
    dips = np.flatnonzero((scores <= walled[:-2]) & (scores <= walled[2:]))
    found_s = [_bottom(errors, starts, int(dip), most_s) for dip in dips]
    seconds = min([*found_s, float(starts[scores.argmin()])], key=lambda x: _squares(errors(x)))
    left = errors(seconds)
    at_limit = seconds >= most_s * (1 - 1e-6)
    return HostFit(seconds, None if at_limit else _standard_error(errors, seconds, left), left, at_limit)


def _squares(errors: Floats) -> float:
    return float((errors**2).sum())


def _bottom(errors: Callable[[float], Floats], starts: Floats, dip: int, most_s: float) -> float:
    """The least squares between the two starts around ``dip``, solved as a share of ``most_s``."""
    low, high = starts[max(0, dip - 1)] / most_s, starts[min(dip + 1, len(starts) - 1)] / most_s
    solved = least_squares(
        lambda share: errors(float(share[0]) * most_s),
        [starts[dip] / most_s],
        bounds=(low, high),
        x_scale=high,
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    return float(solved.x[0]) * most_s


def _standard_error(errors: Callable[[float], Floats], seconds: float, left: Floats) -> float | None:
    """From the curvature of the sum of squares: s / sqrt(Σ slope²)."""
    step = max(1e-3 * seconds, SMALLEST_S)
    slope = (errors(seconds + step) - errors(max(0.0, seconds - step))) / (step + min(step, seconds))
    steepness = _squares(slope)
    if len(left) < 2 or steepness == 0:
        return None
    return math.sqrt(_squares(left) / (len(left) - 1) / steepness)


def with_host_time(scenario: Scenario, kind: HostKind, seconds: float) -> Scenario:
    """The scenario run eagerly on a host that takes so long.

    ``pass``: every pass, of target or drafter, takes ``seconds`` on top of its kernels, and launches are free;
    ``launch``: each kernel takes ``seconds`` to launch while others run, and nothing comes on top.
    """
    pass_s, launch_s = (seconds, 0.0) if kind == "pass" else (0.0, seconds)
    engine = {"graph_sizes": (), "host_step_s": pass_s, "host_draft_pass_s": pass_s}
    changes = {
        "stated_engine": scenario.stated_engine.model_copy(update=engine),
        "gpu": scenario.gpu.model_copy(update={"launch_s": launch_s}),
    }
    slow: Scenario = scenario.model_copy(update=changes)
    return slow


def round_ratio(
    scenario: Scenario, draft_tokens: int, *, context_tokens: float, batch: int = 1, prices: KernelPrices | None = None
) -> float:
    """A round with ``draft_tokens`` drafts over a step with no drafter loaded: tokens a round ÷ speed-up.

    ``prices``: of the scenario's kernels, which a host does not change.
    """
    machine = assemble(scenario, prices)
    drafting = machine.cost.decode_round(batch, draft_tokens, context_tokens)
    plain = machine.plain.cost.decode_round(batch, 0, context_tokens)
    return float(drafting.seconds / plain.seconds)

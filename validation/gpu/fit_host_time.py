"""Fit the host times of ``specs/presets/engines/vllm.yaml`` on calibration rows, and print them.

The rule, written before the first fit, and narrowed once, to 64 tokens a pass, when its own passes were looked at:

- Rows: of split ``calibration`` alone, the median gap between streamed chunks (a whole step at concurrency 1, a step
  of decodes above) of at most 64 tokens a pass, of engines that schedule asynchronously: whole passes of a GH200 are
  met up to 64 tokens and priced 26 % too low at 512 (``gh200-apertus-8b-pass``). Left out are 8-bit KV caches (below),
  and drafters that do not pass once a token (DSpark).
- Law: gap = f · device + step + sequence · B + draft_pass · k, all at least 0, by least squares of relative errors. A
  term draft_token · B · k was tried and dropped: these rows give 28 us with a standard error of 48. ``device`` is what
  the package prices with a host that takes no time. f is 1 where whole passes of the card were measured and are met
  (H100, GH200), else one factor a weight format: how far the device's price is off there is fitted along and thrown
  away.
- What is found is what asynchronous scheduling leaves exposed.
- ``plan``: what a step with an 8-bit cache takes longer on a card whose FlashAttention reads none, over its passes
  (the target's and k of the drafter), the mean over pairs of rows that differ in the cache alone; with and without
  drafts.
- ``launch``: passes outside of captured graphs whose time does not depend on the context wait for the host; their
  seconds over the kernels that they launch.

Run ``python validation/gpu/fit_host_time.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.cost.forward import Group
from specsim.cost.passes import PassCost
from specsim.cost.step_time import Charge
from specsim.studies.predict import NotPredicted, scenario_of_row
from specsim.studies.study import Study, StudyRow, load_study, study_path

GAPS = ("gh200-apertus-8b-open-ended", "h100-qwen3-8b-eagle3-c8", "a100-llama-3.1-8b-eagle3")
PLANNED = "a100-llama-3.1-8b-eagle3"
EAGER = "h100-qwen3-1.7b-pass"
MET = ("h100", "gh200")  # cards whose measured passes the device's price meets
MOST_TOKENS = 64
NAMES = ("step", "sequence", "draft_pass")


class Gap(NamedTuple):
    """One row: what was measured, and what the device alone is priced at."""

    group: str
    clients: int
    draft_tokens: int
    measured_s: float
    device_s: float


def calibration(name: str) -> Iterator[tuple[Study, StudyRow]]:
    """Rows of a study that may set constants."""
    study, rows = load_study(study_path(name))
    yield from ((study, row) for row in rows if row.split == "calibration")


def gaps() -> Iterator[Gap]:
    """The rows of the law, priced with a host that takes no time."""
    for name in GAPS:
        for study, row in calibration(name):
            condition, clients = row.condition, int(row.condition["concurrency"])
            if condition["drafter"] not in ("none", "eagle3"):
                continue
            if clients * (row.k + 1) > MOST_TOKENS or condition.get("kv_cache") == "8-bit":
                continue
            try:
                scenario = scenario_of_row(study, row)
            except NotPredicted:
                continue
            free = {"host_step_s": 0.0, "host_draft_pass_s": 0.0, "async_scheduling": False}
            stated = scenario.stated_engine.model_copy(update=free)
            machine = assemble(scenario.model_copy(update={"stated_engine": stated}))
            device = machine.cost.decode_round(clients, row.k, machine.context_tokens)
            group = f"{name} {condition.get('weights', '')}".strip()
            yield Gap(group, clients, row.k, row.figures["median_itl_ms"] / 1e3, float(device.seconds))


def fitted(rows: list[Gap]) -> tuple[Floats, dict[str, float], Floats]:
    """Seconds by NAMES, the factor of each group's device price, and relative errors of the rows."""
    groups = sorted({row.group for row in rows if not row.group.startswith(MET)})
    law = np.array([[1, row.clients, row.draft_tokens] for row in rows], dtype=float)
    device = np.array([[row.device_s * (row.group == group) for group in groups] for row in rows])
    measured = np.array([row.measured_s for row in rows])
    columns = np.hstack([law, device]) / measured[:, None]
    known = np.array([row.group.startswith(MET) * row.device_s / row.measured_s for row in rows])
    found = lsq_linear(columns, 1 - known, bounds=(0, np.inf)).x
    factors = dict(zip(groups, found[len(NAMES) :].tolist(), strict=True))
    return found[: len(NAMES)], factors, columns @ found + known - 1


def plans() -> dict[bool, list[float]]:
    """Seconds a pass that an 8-bit cache costs, by whether there are drafts."""
    steps: dict[tuple[str, ...], dict[str, StudyRow]] = {}
    for _, row in calibration(PLANNED):
        condition = row.condition
        key = tuple(condition[name] for name in ("weights", "k", "concurrency"))
        steps.setdefault(key, {})[condition["kv_cache"]] = row
    found: dict[bool, list[float]] = {False: [], True: []}
    for pair in steps.values():
        narrow, wide = (pair[bits].figures["median_itl_ms"] / 1e3 for bits in ("8-bit", "16-bit"))
        k = pair["8-bit"].k
        found[k > 0].append((narrow - wide) / (k + 1))
    return found


def eager_launches() -> Iterator[float]:
    """Seconds a kernel of the passes that ran outside of graphs."""
    for study, row in calibration(EAGER):
        if row.condition["graphs"] != "piecewise":
            continue
        scenario = scenario_of_row(study, row)
        machine = assemble(scenario)
        width, context = int(row.shape["query_tokens"]), row.shape["context_tokens"]
        group = Group(int(row.shape["sequences"]), width, context + width, 0)
        charges: list[Charge] = PassCost(scenario.model, machine.prices, machine.precision, fused=True).charges(
            [group], warm=False
        )
        yield row.figures["forward_ms"] / 1e3 / sum(float(charge.launches) for charge in charges)


def main() -> None:
    """Print the constants, the factors that are thrown away, and each row's error."""
    rows = list(gaps())
    seconds, factors, errors = fitted(rows)
    for name, value in zip(NAMES, seconds, strict=True):
        without = [fitted(rows[:i] + rows[i + 1 :])[0][NAMES.index(name)] for i in range(len(rows))]
        spread = np.sqrt((len(rows) - 1) * np.var(without))
        print(f"{name:12} {1e6 * value:7.1f} us, standard error {1e6 * spread:5.1f} us (jackknife over rows)")
    for group, factor in factors.items():
        print(f"{group}: device priced {100 * (1 / factor - 1):+.1f} % off")
    for row, error in zip(rows, errors, strict=True):
        print(f"  {row.group}, {row.clients} clients, k = {row.draft_tokens}: {100 * error:+.1f} %")
    print(f"root of the mean square: {100 * np.sqrt(np.mean(errors**2)):.1f} % over {len(rows)} rows")
    for drafting, extra in plans().items():
        what = "with drafts" if drafting else "without"
        print(f"plan         {1e3 * np.mean(extra):7.2f} ms, {1e3 * np.std(extra):.2f} ms between pairs ({what})")
    launches = list(eager_launches())
    print(f"launch       {1e6 * np.mean(launches):7.1f} us, {1e6 * np.ptp(launches):.1f} us between the extremes")


if __name__ == "__main__":
    main()

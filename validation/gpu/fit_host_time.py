"""Fit the host times of ``specs/presets/engines/vllm.yaml`` on calibration rows, and print them.

- Rows: of split ``calibration`` alone, the median gap between streamed chunks (a whole step at concurrency 1, a step
  of decodes above) of at most MOST_TOKENS tokens a pass, of engines that schedule asynchronously; and passes that were
  measured alone on one of these machines, which have no host in them. Left out are 8-bit KV caches (below).
- Law: gap = f · device + step + sequence · B + draft_pass · passes + draft_token · B · k; under
  Model Runner V2 SHORTER of it but for the last. ``device`` is what the
  package prices with a host that takes no time, f how far off it is: one number a machine and weight format, which is
  fitted along and thrown away. By least squares of relative errors, nothing below 0; a row of up to NARROW_TOKENS
  counts as sure to ROW_ERROR, one of more, whose device price is less sure, to WIDE_ERROR. Both are judgements.
- Few rows cannot tell the terms apart by themselves: without what is known beforehand they once put a draft pass at
  119 us with an error of 143, and a drafted token at 0. So each term starts from PRIORS, f from 1 with the error that
  kernel tables of two sites differ by, and the rows move them as far as they say more. ``spread``: how far a term
  moves when one study is left out.
- What is found is what asynchronous scheduling leaves exposed.
- ``plan``: what a step with an 8-bit cache takes longer on a card whose FlashAttention reads none, over its passes
  (the target's and k of the drafter), the mean over pairs of rows that differ in the cache alone; with and without
  drafts. Attention itself is priced as with 16 bits there (``Precision.kv_read_bytes``).
- ``launch``: passes outside of captured graphs whose time does not depend on the context wait for the host; their
  seconds over the kernels that they launch.

Run ``python validation/gpu/fit_host_time.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.cost.forward import Group
from specsim.cost.passes import PassCost
from specsim.cost.step_time import Charge
from specsim.studies.predict import NotPredicted, forecasts, scenario_of_row
from specsim.studies.study import Study, StudyRow, load_study, study_path

GAPS = ("gh200-apertus-8b-open-ended", "h100-qwen3-8b-eagle3-c8", "a100-llama-3.1-8b-eagle3")
PASSES = {"gh200-apertus-8b-pass": GAPS[0]}  # of the same machine as these gaps
PLANNED = "a100-llama-3.1-8b-eagle3"
EAGER = "h100-qwen3-1.7b-pass"
IN_ONE_PASS = ("dspark",)  # drafters whose passes do not grow with the drafts
SHORTER = 0.64  # vllm.ai/blog/mrv2
FIRST_RUNNER_STEP_S = 1.2e-3  # engines/vllm.yaml
MOST_TOKENS, NARROW_TOKENS = 512, 64
ROW_ERROR, WIDE_ERROR = 0.03, 0.08
NAMES = ("step", "sequence", "draft_pass", "draft_token")
# Mean and standard deviation in seconds, before any row is looked at.
PRIORS = {
    "step": (0.6e-3, 0.35e-3),  # between none and all of the 1.2 ms of a decomposition of synchronous rounds
    "sequence": (7e-6, 7e-6),  # 8 to 10 % of a step over 128 sequences is host in public traces, 1 to 1.5 ms
    "draft_pass": (0.15e-3, 0.09e-3),  # between none and all of 0.25 to 0.35 ms, two decompositions
    # Arrays prepare and judge drafts, a request at a time (vllm/v1/sample/rejection_sampler.py, parse_output): what is
    # left of one is a list's entry in the scheduler and in the statistics.
    "draft_token": (2e-6, 3e-6),
}
DEVICE = (1.0, 0.1)


class Gap(NamedTuple):
    """One row: what was measured, and what the device alone is priced at; ``clients`` 0: a pass without its host.

    ``second_runner``: of vLLM's Model Runner V2, whose host takes SHORTER of the time for all but a drafted token.
    """

    group: str
    clients: int
    draft_tokens: int
    second_runner: bool
    passes: int
    tokens: int
    measured_s: float
    device_s: float

    @property
    def law(self) -> tuple[float, ...]:
        """How often each of NAMES occurs."""
        if not self.clients:
            return (0.0,) * len(NAMES)
        if self.second_runner:
            return SHORTER, SHORTER * self.clients, SHORTER * self.passes, self.clients * self.draft_tokens
        return 1.0, self.clients, self.passes, self.clients * self.draft_tokens

    @property
    def study(self) -> str:
        return self.group.split()[0]


def calibration(name: str) -> Iterator[tuple[Study, StudyRow]]:
    """Rows of a study that may set constants."""
    study, rows = load_study(study_path(name))
    yield from ((study, row) for row in rows if row.split == "calibration")


def gaps() -> Iterator[Gap]:
    """The rows of the law, priced with a host that takes no time."""
    for name in GAPS:
        for study, row in calibration(name):
            condition, clients = row.condition, int(row.condition["concurrency"])
            tokens = clients * (row.k + 1)
            if tokens > MOST_TOKENS or condition.get("kv_cache") == "8-bit":
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
            passes = min(1, row.k) if condition["drafter"] in IN_ONE_PASS else row.k
            measured_s = row.figures["median_itl_ms"] / 1e3
            second = scenario.engine.host.step.seconds < FIRST_RUNNER_STEP_S
            yield Gap(group, clients, row.k, second, passes, tokens, measured_s, float(device.seconds))
    for name, group in PASSES.items():
        for study, row in calibration(name):
            tokens = int(row.shape["sequences"] * row.shape["query_tokens"])
            if tokens <= NARROW_TOKENS:
                priced = forecasts(scenario_of_row(study, row), row)["forward_ms"]
                yield Gap(group, 0, 0, False, 0, tokens, row.figures["forward_ms"] / 1e3, priced.value / 1e3)


def fitted(rows: Sequence[Gap]) -> tuple[Floats, Floats, dict[str, float], Floats]:
    """Seconds by NAMES and their standard deviations, the factor of each group, and relative errors of the rows."""
    groups = sorted({row.group for row in rows})
    columns = [[*row.law, *(row.device_s * (row.group == group) for group in groups)] for row in rows]
    sure = np.array([ROW_ERROR if row.tokens <= NARROW_TOKENS else WIDE_ERROR for row in rows])
    measured = np.array([row.measured_s for row in rows])
    shares = np.array(columns) / measured[:, None]
    means, errors = np.array([*(PRIORS[name] for name in NAMES), *[DEVICE] * len(groups)]).T
    left = np.vstack([shares / sure[:, None], np.diag(1.0 / errors)])
    right = np.concatenate([1.0 / sure, means / errors])
    found = lsq_linear(left * errors, right, bounds=(0, np.inf)).x * errors
    deviations = np.sqrt(np.diag(np.linalg.inv(left.T @ left)))
    factors = dict(zip(groups, found[len(NAMES) :].tolist(), strict=True))
    return found[: len(NAMES)], deviations[: len(NAMES)], factors, shares @ found - 1


def spread(rows: Sequence[Gap]) -> Floats:
    """How far each of NAMES moves at most when one study is left out, in seconds."""
    whole = fitted(rows)[0]
    without = [fitted([row for row in rows if row.study != study])[0] for study in {row.study for row in rows}]
    moved: Floats = np.abs(np.array(without) - whole).max(axis=0)
    return moved


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
    seconds, deviations, factors, errors = fitted(rows)
    for name, value, error, moved in zip(NAMES, seconds, deviations, spread(rows), strict=True):
        print(f"{name:12} {1e6 * value:7.1f} us, standard error {1e6 * error:5.1f} us, spread {1e6 * moved:5.1f} us")
    for group, factor in factors.items():
        print(f"{group}: device priced {100 * (1 / factor - 1):+.1f} % off")
    for row, error in zip(rows, errors, strict=True):
        what = f"{row.clients} clients, k = {row.draft_tokens}" if row.clients else "pass alone"
        print(f"  {row.group}, {what}, {row.tokens} tokens: {100 * error:+.1f} %")
    print(f"root of the mean square: {100 * np.sqrt(np.mean(errors**2)):.1f} % over {len(rows)} rows")
    for drafting, extra in plans().items():
        what = "with drafts" if drafting else "without"
        print(f"plan         {1e3 * np.mean(extra):7.2f} ms, {1e3 * np.std(extra):.2f} ms between pairs ({what})")
    launches = list(eager_launches())
    print(f"launch       {1e6 * np.mean(launches):7.1f} us, {1e6 * np.ptp(launches):.1f} us between the extremes")


if __name__ == "__main__":
    main()

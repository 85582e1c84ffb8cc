"""A tuned schedule in simulation, against off and every fixed draft length, under seeds that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specsim.analytic.rounds import largest_batch, speedup_map
from specsim.analytic.speedups import Cell
from specsim.assembly import Assembly, assemble
from specsim.planning.longer import with_policy
from specsim.progress import PartProgress
from specsim.results import Slo, slo_met
from specsim.scenario import Scenario
from specsim.serving.prices import priced_replicas
from specsim.serving.simulate import simulate
from specsim.speculation.policy import FixedPolicy, TablePolicy

SEEDS = 2
MOST_REQUESTS = 2000  # of a run; a longer workload is cut there
ALIKE = 0.005  # mean E2E by which a schedule may lose to a single k and still be taken: it holds at other loads too
OFF, SCHEDULE = "off", "schedule"


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate's runs, a summary a seed."""

    name: str
    policy: FixedPolicy | TablePolicy
    runs: tuple[Mapping[str, Any], ...]

    def mean(self, key: str) -> float:
        """Over the seeds."""
        return sum(float(run[key] or 0.0) for run in self.runs) / len(self.runs)

    def summary(self) -> dict[str, Any]:
        """Means over the seeds of whatever is a number in every run; the rest as the first run has it."""
        return {
            key: self.mean(key) if all(map(_is_number, (run[key] for run in self.runs))) else value
            for key, value in self.runs[0].items()
        }

    @property
    def e2e_s(self) -> float:
        """Mean end-to-end latency: what a schedule can change at any load, throughput only where clients wait."""
        return self.mean("mean_e2el_ms") / 1e3

    def meets(self, slo: Slo | None) -> bool:
        """Whether every run met the SLO; an absent one is met."""
        return slo is None or all(slo_met(run, slo) for run in self.runs)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Off, every fixed k and the schedule, under ``seeds``. ``cell``: the map's at the mean batch of ``chosen``, for
    the k that it drafts there; where that is off, for the best k that drafts.
    """

    trials: tuple[Trial, ...]
    chosen: Trial
    seeds: tuple[int, ...]
    cell: Cell

    def trial(self, name: str) -> Trial:
        return next(one for one in self.trials if one.name == name)

    @property
    def off(self) -> bool:
        """Whether drafting nothing is best."""
        return self.chosen.name == OFF

    @property
    def sure(self) -> bool:
        """Whether the 90 % interval of the speed-up leaves out 1."""
        return self.cell.high < 1.0 if self.off else self.cell.low > 1.0

    def best_fixed(self) -> Trial:
        """The fixed k that serves fastest."""
        fixed = [one for one in self.trials if one.name not in (OFF, SCHEDULE)]
        return min(fixed, key=lambda one: one.e2e_s)

    def as_json(self, slo: Slo | None) -> dict[str, Any]:
        keys = ("mean_e2el_ms", "p95_ttft_ms", "p95_tpot_ms", "output_throughput", "mean_batch")
        return {
            "chosen": self.chosen.name,
            "sure": self.sure,
            "seeds": list(self.seeds),
            "speedup": {
                "batch": self.cell.batch,
                "draft_tokens": self.cell.draft_tokens,
                "speedup": self.cell.speedup,
                "low": self.cell.low,
                "high": self.cell.high,
            },
            "trials": [
                {
                    "name": one.name,
                    "policy": one.policy.model_dump(mode="json"),
                    "slo_met": None if slo is None else one.meets(slo),
                    **{key: one.mean(key) for key in keys},
                }
                for one in self.trials
            ],
        }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def confirm(
    scenario: Scenario,
    policy: FixedPolicy | TablePolicy,
    lengths: Sequence[int],
    *,
    seeds: int = SEEDS,
    progress: PartProgress | None = None,
) -> Confirmation:
    """Simulate off, each of ``lengths`` (an engine started with it) and the ``policy``; choose the fastest.

    That is the lowest mean E2E of those that meet the SLO, if any do; the schedule where it is within ALIKE of it.
    """
    tell = progress or (lambda _: None)
    numbers = tuple(range(scenario.seed + 1, scenario.seed + 1 + seeds))
    candidates: dict[str, FixedPolicy | TablePolicy] = {OFF: FixedPolicy(k=0)}
    candidates |= {f"k={k}": FixedPolicy(k=k) for k in lengths if k}
    if isinstance(policy, TablePolicy):
        candidates[SCHEDULE] = policy
    trials = []
    for name, one in candidates.items():
        tell(name)
        trials.append(Trial(name, one, _runs(with_policy(scenario, one), numbers)))
    slo = scenario.slo
    met = [one for one in trials if one.meets(slo)] or trials
    best = min(met, key=lambda one: one.e2e_s)
    alike = [one for one in met if one.name == SCHEDULE and one.e2e_s <= best.e2e_s * (1.0 + ALIKE)]
    chosen = alike[0] if alike and best.name != OFF else best
    return Confirmation(tuple(trials), chosen, numbers, _cell(scenario, chosen))


def _runs(scenario: Scenario, seeds: Sequence[int]) -> tuple[Mapping[str, Any], ...]:
    """A summary a seed; prices are made once."""
    workload = scenario.workload
    count = min(workload.count(), MOST_REQUESTS)
    machine = assemble(scenario.model_copy(update={"workload": workload.model_copy(update={"requests": count})}))
    replicas = priced_replicas(machine)
    found = []
    for seed in seeds:
        seeded = {one: one.seeded(seed) for one in dict.fromkeys(replicas)}
        result = simulate(machine.seeded(seed), replicas=[seeded[one] for one in replicas])
        if result.interrupted:
            raise KeyboardInterrupt
        found.append(result.summary(scenario.slo))
    return tuple(found)


def _cell(scenario: Scenario, chosen: Trial) -> Cell:
    machine: Assembly = assemble(scenario)
    most = min(machine.limits.max_num_seqs, largest_batch(machine, machine.context_tokens))
    batch = min(most, max(1, round(chosen.mean("mean_batch"))))
    k = chosen.policy.draft_tokens(batch)
    cells = speedup_map(machine, batches=[batch], draft_lengths=(0, k) if k else None).cells
    return max((cell for cell in cells if cell.draft_tokens), key=lambda cell: cell.output_tokens_per_s)

"""What one replica of a scenario offers at every batch size and draft length, over tensor parallelism, by formula."""

from __future__ import annotations

from collections.abc import Sequence

from specsim.analytic.rounds import speedup_map
from specsim.analytic.speedups import Cell
from specsim.assembly import assemble
from specsim.errors import NoAnswer, SpecsimError
from specsim.planning.sweep.frontier import Offer
from specsim.scenario import Scenario


def replica_offers(scenario: Scenario) -> list[Offer]:
    """Of replicas alike of 1, 2, 4, ... GPUs up to a node; those that do not fit, or that nobody prices, are left out.

    Raises NoAnswer where none fits.
    """
    found: list[Offer] = []
    for ranks in _ranks(scenario):
        deployment = scenario.deployment.model_copy(
            update={"tensor_parallel": ranks, "replicas": 1, "replicas_without_speculation": 0}
        )
        machine = assemble(scenario.model_copy(update={"deployment": deployment}))
        try:
            cells = speedup_map(machine, acceptance_error=False).cells
        except SpecsimError:
            continue
        found += [_offer(scenario, ranks, cell) for cell in cells]
    if not found:
        raise NoAnswer(f"no replica of {scenario.model.name} fits {max(_ranks(scenario))} {scenario.gpu.name}")
    return found


def _ranks(scenario: Scenario) -> Sequence[int]:
    """The scenario's own number, and powers of two where its replicas stand alone."""
    own, deployment = scenario.deployment.tensor_parallel, scenario.deployment
    if deployment.expert_parallel or deployment.disaggregation is not None:
        return (own,)
    return sorted({own, *(2**power for power in range(scenario.gpu.node_gpus.bit_length()))})


def _offer(scenario: Scenario, ranks: int, cell: Cell) -> Offer:
    per_gpu, price = cell.output_tokens_per_s / ranks, scenario.usd_per_gpu_hour
    name = "off" if scenario.speculation is None or not cell.draft_tokens else scenario.speculation.drafter_name()
    return Offer(
        key=f"TP{ranks} batch {cell.batch} k={cell.draft_tokens}",
        drafter=name,
        draft_tokens=cell.draft_tokens,
        gpu=scenario.gpu.name,
        gpus=ranks,
        tensor_parallel=ranks,
        replicas=1,
        batch=float(cell.batch),
        per_gpu=per_gpu,
        per_user=cell.output_tokens_per_s / cell.batch,
        usd=None if price is None else price * 1e6 / (3600.0 * per_gpu),
    )

"""How much a better rule could still gain: a schedule beside the oracle, on requests that are alone in the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specsim.assembly import Assembly
from specsim.errors import InvalidInput
from specsim.speculation.acceptance import AcceptanceDraws, RecallAcceptance
from specsim.speculation.policy import Policy, follow, oracle

REQUESTS = 16


@dataclass(frozen=True, slots=True)
class Headroom:
    """Speed-ups over no drafter at batch 1, of whole requests drawn from the scenario's acceptance."""

    policy: float
    oracle: float


def headroom(assembly: Assembly, policy: Policy, *, requests: int = REQUESTS) -> Headroom | None:
    """Requests of the workload's mean lengths under the scenario's seed; None where k counts the nodes of a tree.

    What a round started at each output position would accept is drawn for every position, so that the oracle and the
    policy go through the same text by different rounds. Prices follow the growing KV length.
    """
    scenario, speculation = assembly.scenario, assembly.speculation
    if speculation is None:
        raise InvalidInput(f"scenario {scenario.name!r} has no speculation, so no rule could gain; add a drafter")
    law = speculation.acceptance
    if isinstance(law, RecallAcceptance) and law.tree != "chain":
        return None
    prompt, output = scenario.workload.mean_lengths()
    length, k = max(2, round(output)), speculation.max_draft_tokens
    positions = np.arange(1, length)
    ids = np.repeat(np.arange(requests), length - 1)
    runs = AcceptanceDraws(law, scenario.seed).accepted(ids, np.tile(positions, requests), np.full(len(ids), k))
    choices, cost, plain = assembly.choices(), assembly.cost, assembly.plain.cost
    contexts = prompt + positions.astype(np.float64)
    prices = np.stack([np.asarray(cost.decode_round(1.0, c, contexts).seconds) for c in choices], axis=1)
    off_s = requests * float(np.sum(plain.decode_round(1.0, 0, contexts).seconds))
    chosen_s = best_s = 0.0
    for row in runs.reshape(requests, -1).tolist():
        decider = assembly.decider(policy)
        assert decider is not None
        chosen_s += follow(decider, row, prices, choices, context=float(contexts[0])).seconds
        best_s += oracle(row, prices, choices).seconds
    return Headroom(off_s / chosen_s, off_s / best_s)

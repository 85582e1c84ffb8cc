"""A machine whose rounds have a price on paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from specsim.arrays import Reals
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.speculation.acceptance import AcceptanceLaw, ConstantAcceptance
from specsim.speculation.policy import Setting


@dataclass
class Machine:
    """A step takes base + token·tokens + pair·tokens·KV length + draft·k seconds."""

    base_s: float = 10.0
    token_s: float = 0.1
    draft_s: float = 1.0
    pair_s: float = 0.0
    asked: int = 0

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        self.asked += 1
        tokens = sum((g.tokens for g in groups), 0.0)
        pairs = sum((g.tokens * g.kv_tokens for g in groups), 0.0)
        seconds = self.base_s + self.token_s * tokens + self.pair_s * pairs + self.draft_s * draft_tokens
        return StepTime(seconds, {}, "roofline", seconds, seconds)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)

    def throughput(self, law: AcceptanceLaw, batch: int, k: int, context: float = 100.0) -> float:
        tokens = batch * law.expected_tokens(k)
        return float(tokens / np.asarray(self.decode_round(batch, k, context).seconds))


MakeSetting = Callable[..., Setting]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture(scope="session")
def setting() -> MakeSetting:
    def make(
        machine: object,
        law: AcceptanceLaw | None = None,
        *,
        longest: int = 8,
        max_num_seqs: int = 64,
        choices: Sequence[int] | None = None,
        context: float = 100.0,
        graph_sizes: Sequence[int] = (),
        seed: int = 0,
    ) -> Setting:
        return Setting(
            cost=machine,
            acceptance=law or ConstantAcceptance(rate=0.8),  # type: ignore[arg-type]
            choices=tuple(choices if choices is not None else range(longest + 1)),
            max_num_seqs=max_num_seqs,
            context_tokens=context,
            graph_sizes=tuple(graph_sizes),
            seed=seed,
        )

    return make


@pytest.fixture(scope="session")
def make_machine() -> Callable[..., Machine]:
    return Machine

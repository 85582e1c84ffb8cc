"""What a replica is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from specsim.scenario import Speculation
from specsim.scheduling.replica import Records, engine_of
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.protocol import Decider, Setting
from specsim.speculation.round import StepCost


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of replica.

    ``acceptance_by_class``: laws of request classes that have their own. ``max_queue``: a request that finds so many
    waiting is turned away. ``graph_sizes`` and ``context_tokens`` (mean KV length expected) are for its policy and its
    price tables. ``policy_cost``: what its policy takes steps to cost; None: what they do cost.
    """

    limits: EngineLimits
    num_kv_blocks: int
    cost: StepCost
    speculation: Speculation | None = None
    seed: int = 0
    acceptance_by_class: Mapping[str, AcceptanceLaw] = field(default_factory=dict)
    max_queue: int | None = None
    graph_sizes: tuple[int, ...] = ()
    context_tokens: float = 1024.0
    policy_cost: StepCost | None = None

    @property
    def longest(self) -> int:
        """The most tokens a sequence ever drafts."""
        return 0 if self.speculation is None else self.speculation.max_draft_tokens

    @property
    def lookahead_tokens(self) -> int:
        return 0 if self.speculation is None else self.speculation.program.lookahead_tokens(self.longest)

    @property
    def draft_slots(self) -> int:
        """Tokens of the budget that drafting takes from each sequence."""
        return 0 if self.speculation is None else self.speculation.program.budget_tokens(self.longest)

    @property
    def verifies_drafts(self) -> bool:
        return self.speculation is None or self.speculation.program.verifies

    @property
    def pads_new_decodes(self) -> bool:
        """vLLM pads an admission of one token where every sequence always drafts the same number."""
        if self.speculation is None or not self.longest or not self.verifies_drafts:
            return False
        policy = self.speculation.policy
        return policy.kind == "fixed" and policy.longest == self.longest

    def choices(self) -> tuple[int, ...]:
        """Draft lengths that the program can run."""
        return (0,) if self.speculation is None else self.speculation.program.choices(self.longest)

    def law(self, request_class: str) -> AcceptanceLaw | None:
        """Acceptance of a class of requests; None without speculation."""
        if self.speculation is None:
            return None
        return self.acceptance_by_class.get(request_class, self.speculation.acceptance)

    def engine(self) -> Records:
        """The rules that one replica schedules by."""
        return engine_of(
            self.limits, self.num_kv_blocks, max_draft_tokens=self.longest, lookahead_tokens=self.lookahead_tokens,
            draft_slots=self.draft_slots, pads_new_decodes=self.pads_new_decodes,
            verifies_drafts=self.verifies_drafts,
            recompute_last_hit=self.speculation is not None and self.speculation.program.recompute_last_hit,
        )  # fmt: skip

    def decider(self) -> Decider | None:
        """A fresh decider; None without speculation."""
        if self.speculation is None:
            return None
        setting = Setting(
            cost=self.policy_cost or self.cost, acceptance=self.speculation.acceptance, choices=self.choices(),
            max_num_seqs=self.limits.max_num_seqs, context_tokens=self.context_tokens, graph_sizes=self.graph_sizes,
            seed=self.seed,
        )  # fmt: skip
        return self.speculation.policy.start(setting)

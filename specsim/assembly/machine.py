"""The Assembly: the parts of a scenario's machine, each made when it is first asked for, and once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from specsim.assembly.prices import (
    cost_content,
    is_borrowed,
    kernel_prices,
    precision_of,
    profile_of,
    round_cost,
    step_cost,
)
from specsim.cost.borrowed import borrowed_name
from specsim.cost.forward import KernelPrices, Precision
from specsim.cost.memory import MemoryBudget, memory_budget
from specsim.profiles.store import Profile
from specsim.scenario import Scenario, Speculation
from specsim.specs.engine import EngineLimits
from specsim.specs.model_part import as_part
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.footprint import program_budget, request_blocks
from specsim.speculation.policy import Decider, Policy, Setting
from specsim.speculation.round import StepCost

if TYPE_CHECKING:
    from specsim.arrays import Records


def assemble(scenario: Scenario, prices: KernelPrices | None = None) -> Assembly:
    """The machine of a scenario; ``prices``: of kernels, in place of its own. Warns of a drafter's limits."""
    if scenario.speculation is not None:
        prompt, output = scenario.workload.mean_lengths()
        scenario.speculation.warn_of_limits(scenario.model, prompt + output)
    return Assembly(scenario, given_prices=prices)


@dataclass(frozen=True, eq=False)
class Assembly:
    """What a scenario's replicas are made of.

    ``given_prices`` (of kernels) and ``given_cost`` (of steps) stand in for the scenario's own. ``believed_cost``:
    what its policy takes steps to cost; None: what they do cost. ``believed_acceptance``: likewise.
    """

    scenario: Scenario
    given_prices: KernelPrices | None = None
    given_cost: StepCost | None = None
    believed_cost: StepCost | None = None
    believed_acceptance: AcceptanceLaw | None = None

    def priced_by(self, cost: StepCost) -> Assembly:
        """The same replicas at other prices; their policy believes what it did."""
        return replace(self, given_cost=cost, believed_cost=self.believed_cost or self.cost)

    def seeded(self, seed: int) -> Assembly:
        """The same replicas under another seed."""
        return replace(self, scenario=self.scenario.model_copy(update={"seed": seed}))

    def accepting(self, law: AcceptanceLaw) -> Assembly:
        """The same replicas under another acceptance law; their policy believes what it did.

        Classes of requests with a law of their own keep it.
        """
        speculation = self.scenario.speculation
        assert speculation is not None  # without drafts nothing is accepted
        other = self.scenario.model_copy(update={"speculation": speculation.model_copy(update={"acceptance": law})})
        return replace(self, scenario=other, believed_acceptance=self.believed_acceptance or speculation.acceptance)

    @cached_property
    def plain(self) -> Assembly:
        """The same question with no drafter loaded."""
        return Assembly(self.scenario.without_speculation(), self.given_prices)

    @cached_property
    def replicas(self) -> tuple[Assembly, ...]:
        """One a replica, equal replicas sharing theirs: those with speculation first."""
        deployment = self.scenario.deployment
        plain = deployment.replicas_without_speculation if self.speculation else 0
        return (self,) * (deployment.replicas - plain) + (self.plain,) * plain

    # Prices

    @cached_property
    def profile(self) -> Profile | None:
        """The profile that prices it, of this hardware or of its sibling; None without any, and for the roofline.

        Raises InvalidInput for a profile of other hardware.
        """
        return profile_of(self.scenario)

    @property
    def borrows(self) -> bool:
        """Whether the profile is not of this hardware but of its sibling."""
        return self.profile is not None and is_borrowed(self.profile, self.scenario.gpu)

    @property
    def price_name(self) -> str:
        """What prices the scenario: the profile's name, whose it is if it is borrowed, or roofline."""
        if self.profile is None:
            return "roofline"
        return borrowed_name(self.profile, self.scenario.gpu) if self.borrows else self.profile.name

    @cached_property
    def precision(self) -> Precision:
        """Bits and formats of the target's weights and cache."""
        return precision_of(self.scenario)

    @cached_property
    def prices(self) -> KernelPrices:
        """Prices of single kernels, in the scenario's conditions."""
        return kernel_prices(self.scenario, self.profile) if self.given_prices is None else self.given_prices

    @cached_property
    def cost(self) -> StepCost:
        """Prices of steps, the drafter loaded.

        Raises InvalidInput where measured steps are asked for and there are none.
        """
        if self.given_cost is not None:
            return self.given_cost
        if self.given_prices is not None:
            return round_cost(self.scenario, self.given_prices)
        return step_cost(self.scenario, self.profile)

    @property
    def cost_content(self) -> str | None:
        """All that the cost depends on but the code, as text; None where that is not in files and fields alone."""
        if self.given_cost is not None or self.given_prices is not None:
            return None
        return cost_content(self.scenario, self.profile)

    # What one replica runs under

    @cached_property
    def limits(self) -> EngineLimits:
        """The engine of one replica, its defaults filled in."""
        return self.scenario.engine

    @property
    def speculation(self) -> Speculation | None:
        """Its drafter; None without."""
        return self.scenario.speculation

    @property
    def seed(self) -> int:
        """Of its draws."""
        return self.scenario.seed

    @property
    def max_queue(self) -> int | None:
        """A request that finds so many waiting is turned away."""
        return self.scenario.deployment.max_queue

    @cached_property
    def num_kv_blocks(self) -> int:
        """KV blocks of one replica. Raises NoAnswer if the weights do not fit."""
        program = None if self.speculation is None else self.speculation.program
        return self.memory.blocks if program is None else request_blocks(program, self.memory)

    @cached_property
    def memory(self) -> MemoryBudget:
        """Where the memory of each GPU goes. Raises NoAnswer if the weights do not fit."""
        scenario, speculation = self.scenario, self.speculation
        if speculation is None:
            deployment = scenario.deployment
            part = as_part(scenario.model).shard(deployment.tensor_parallel, deployment.expert_group)
            return memory_budget(part, (), scenario.gpu, scenario.deployment, scenario.engine)
        return program_budget(
            speculation.program,
            scenario.model,
            speculation.draft_model,
            scenario.gpu,
            scenario.deployment,
            scenario.engine,
            speculation.max_draft_tokens,
        )

    @property
    def longest_cached(self) -> int:
        """Tokens of the longest sequence that one replica's KV blocks hold."""
        return self.memory.layout.tokens_in(self.num_kv_blocks)

    @property
    def kv_tokens(self) -> int:
        """Tokens that one replica's KV blocks hold, as the engine's log tells it."""
        longest = self.limits.max_model_len or self.scenario.model.max_position
        return self.memory.layout.served_tokens(self.num_kv_blocks, longest, self.limits.max_num_batched_tokens)

    @property
    def kv_block_bytes(self) -> float:
        """Of a KV block on one GPU, the drafter's cache included."""
        return self.memory.block_bytes

    @cached_property
    def graph_sizes(self) -> tuple[int, ...]:
        """Token counts with a captured graph, ascending; none where steps run eagerly."""
        return self.limits.captured_sizes(self.longest, on_gpu=self.scenario.gpu.kind == "gpu")

    @cached_property
    def context_tokens(self) -> float:
        """Mean KV length of a decoding sequence."""
        return self.scenario.mean_context_tokens()

    # Speculation

    @cached_property
    def longest(self) -> int:
        """The most tokens a sequence ever drafts."""
        return 0 if self.speculation is None else self.speculation.max_draft_tokens

    @cached_property
    def lookahead_tokens(self) -> int:
        """KV slots beyond its tokens that a sequence holds while it drafts."""
        return 0 if self.speculation is None else self.speculation.program.lookahead_tokens(self.longest)

    @cached_property
    def draft_slots(self) -> int:
        """Tokens of the budget that drafting takes from each sequence."""
        return 0 if self.speculation is None else self.speculation.program.budget_tokens(self.longest)

    @cached_property
    def verifies_drafts(self) -> bool:
        """Whether the target checks drafts before they are emitted."""
        return self.speculation is None or self.speculation.program.verifies

    @cached_property
    def pads_new_decodes(self) -> bool:
        """vLLM pads an admission of one token where every sequence always drafts the same number."""
        if self.speculation is None or not self.longest or not self.verifies_drafts:
            return False
        policy = self.speculation.policy
        return policy.kind == "fixed" and policy.longest == self.longest

    def choices(self) -> tuple[int, ...]:
        """Draft lengths that the program can run."""
        return (0,) if self.speculation is None else self.speculation.program.choices(self.longest)

    @cached_property
    def acceptance_by_class(self) -> Mapping[str, AcceptanceLaw]:
        """Laws of the request classes that have their own."""
        return self.scenario.workload.acceptance_by_class() if self.speculation else {}

    def law(self, request_class: str) -> AcceptanceLaw | None:
        """Acceptance of a class of requests; None without speculation."""
        if self.speculation is None:
            return None
        return self.acceptance_by_class.get(request_class, self.speculation.acceptance)

    def decider(self, policy: Policy | None = None) -> Decider | None:
        """A fresh decider, for one replica; None without speculation. ``policy``: in place of the scenario's own."""
        speculation = self.speculation
        if speculation is None:
            return None
        setting = Setting(
            cost=self.believed_cost or self.cost,
            acceptance=self.believed_acceptance or speculation.acceptance,
            choices=self.choices(),
            max_num_seqs=self.limits.max_num_seqs,
            context_tokens=self.context_tokens,
            graph_sizes=self.graph_sizes,
            seed=self.seed,
        )
        return (policy or speculation.policy).start(setting)

    def engine(self, role: int = 0) -> Records:
        """The rules that one replica of a role (``scheduling.records``) schedules by."""
        from specsim.scheduling.engine import engine_of  # numba comes with it, which most verbs do without

        return engine_of(
            self.limits,
            self.num_kv_blocks,
            max_draft_tokens=self.longest,
            lookahead_tokens=self.lookahead_tokens,
            draft_slots=self.draft_slots,
            pads_new_decodes=self.pads_new_decodes,
            verifies_drafts=self.verifies_drafts,
            recompute_last_hit=self.speculation is not None and self.speculation.program.recompute_last_hit,
            role=role,
            layout=self.memory.layout,
        )

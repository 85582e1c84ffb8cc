"""Steps of a batch in steady service at one draft length: what they commit, and what they take.

A decode round verifies and drafts; a step with prompts also computes chunks of them, and its decodes go on beside.
Both are prices of the scenario's one price source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from specsim.analytic.prompts import PromptSteps, TokenBudget, prompt_steps
from specsim.arrays import Booleans, Floats, Reals
from specsim.assembly import Assembly
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime, mixture, placed
from specsim.speculation.acceptance import AcceptanceLaw, ConfidenceAcceptance, ConstantAcceptance, StoppedRound
from specsim.speculation.policy import ConfidencePolicy
from specsim.speculation.round import SHARED_ERRORS
from specsim.speculation.stopping import stopped_round

PROMPTS = "prompts"
LEAST_DECODING = 0.5  # sequences; fewer are left out of a step with prompts
ALMOST_ALL = 0.999  # of a batch's sequences, where under one alternative all propose and under another they do not


@dataclass(frozen=True, slots=True)
class ServedLoad:
    """What batches are taken to serve: prompts as they come [requests], and mean outputs.

    ``waves``: requests start together and are equally long, so that they end together where rounds are sure.
    ``turnaround_s``: from an answer to the client's next request at the scheduler; None: another is there at once.
    """

    prompts: Floats
    output_tokens: float
    waves: bool
    turnaround_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Mean lengths, whether requests come in waves, and the turnaround."""
        return {
            "prompt_tokens": float(self.prompts.mean()),
            "output_tokens": self.output_tokens,
            "waves": self.waves,
            "turnaround_s": self.turnaround_s,
        }


class Steps:
    """Steps at one draft length, for arrays of batch sizes.

    ``tokens``: mean tokens that a decode round commits a sequence. At k = 0 no ``drafter`` is loaded, unless the
    program changes the target's own pass. ``laws``: alternatives to the scenario's acceptance, none of which stops by
    confidence; answers then have them as a leading axis.
    """

    def __init__(
        self,
        assembly: Assembly,
        draft_tokens: int,
        *,
        drafter: bool | None = None,
        laws: Sequence[AcceptanceLaw] = (),
    ) -> None:
        speculation = assembly.speculation
        changed = speculation is not None and speculation.program.modifier is not None
        self.drafter = bool(draft_tokens) or changed if drafter is None else drafter
        self._replica = assembly if self.drafter else assembly.plain
        self._cost, self.draft_tokens = self._replica.cost, draft_tokens
        self._law = ConstantAcceptance(rate=0.0) if speculation is None else speculation.acceptance
        self._laws = laws
        self._stopped = _stopped(assembly, draft_tokens) if draft_tokens else None
        self.tokens: Reals = self._by_law(lambda law: law.expected_tokens(draft_tokens))
        if self._stopped is not None:
            self.tokens = self._stopped.tokens
        drafted = draft_tokens if self._stopped is None else round(self._stopped.drafted, 9)
        self._verified = drafted if speculation is None or speculation.program.verifies else 0.0
        self._proposing = self._by_law(self._proposing_share)

    def _proposing_share(self, law: AcceptanceLaw) -> float:
        """Of a batch's sequences; where a law lets only some rounds propose anything, the others decode one token."""
        if not self.draft_tokens or self._stopped is not None:
            return 1.0
        return law.expected_drafted(self.draft_tokens) / self.draft_tokens

    def _by_law(self, value: Callable[[AcceptanceLaw], float]) -> Reals:
        """A value of the law, or of its alternatives [laws, 1]."""
        return np.array([[value(law)] for law in self._laws]) if self._laws else value(self._law)

    def rounds(self, output_tokens: float) -> Reals:
        """Mean decode rounds of a request, whose first token comes with its prompt."""
        k = self.draft_tokens
        return self._by_law(lambda law: law.expected_rounds(output_tokens, k) * law.expected_tokens(k)) / self.tokens

    @property
    def sure(self) -> Booleans:
        """Whether every round commits the same number of tokens."""
        all_or_none = self._by_law(lambda law: bool(np.isin(law.survival(self.draft_tokens), (0.0, 1.0)).all()))
        return np.asarray(all_or_none, dtype=bool) & (self._stopped is None)

    def round(self, batch: Floats, context_tokens: float) -> StepTime:
        """A step that only decodes, batch sizes [batches]."""
        return self._step(self._decodes(batch, self._proposing, context_tokens), batch, context_tokens)

    def prompt_steps(self, batch: Floats, round_s: Floats, served: ServedLoad) -> PromptSteps:
        """Where the steps of batches [batches] go, whose decode rounds take ``round_s``."""
        limits, slots = self._replica.limits, self._replica.draft_slots
        tokens = limits.max_num_batched_tokens
        if limits.draft_slots_for == "max_num_seqs":
            tokens, slots = tokens - limits.max_num_seqs * slots, 0
        budget = TokenBudget(
            tokens,
            1.0 + self._verified,
            slots,
            mixed=limits.rules == "vllm" or limits.mixed_chunks,
            chunked=limits.chunked_prefill,
        )
        return prompt_steps(
            batch,
            served.prompts,
            self.rounds(served.output_tokens),
            budget,
            waves=self.sure & served.waves,
            late=self._late(round_s, served.turnaround_s),
        )

    def _late(self, round_s: Floats, turnaround_s: float | None) -> Floats | float:
        """Steps between an answer and the step that sees the client's next request, beyond the first one to start."""
        in_flight = 1.0 if self._replica.limits.async_scheduling else 0.0
        if turnaround_s is None:
            return 0.0
        if not turnaround_s:
            return 2.0 * in_flight  # it comes just after the next step's successor was chosen
        return turnaround_s / round_s + 0.5 + in_flight

    def mean(self, round_: StepTime, context_tokens: float, prompts: Floats, found: PromptSteps) -> StepTime:
        """The mean step, with and without prompts: its part ``prompts`` is what they add to decoding.

        ``round_``: a step of the requests ``found`` running that only decodes.

        Seconds are convex in the tokens of a step, which weights bound below and work above, so that steps with
        prompts are priced at both ends of their spread. Errors of these steps are a class of their own: they run much
        the same kernels whatever is drafted.
        """
        loads = found.loads()
        with_prompts = _as_prompts(self._with_prompts(context_tokens, prompts, loads))
        prices = [round_, *(with_prompts.alternative(place) for place in range(len(loads.prompts)))]
        step = mixture(prices, [1.0 - found.share, *[found.share / len(loads.prompts)] * len(loads.prompts)])
        decoding = (1.0 - found.share) + found.share * found.decoding / found.running  # of a request's steps
        parts: dict[str, Reals] = {name: decoding * seconds for name, seconds in round_.parts.items()}
        return replace(step, parts=parts | {PROMPTS: step.seconds - decoding * round_.seconds})

    def _with_prompts(self, context_tokens: float, prompts: Floats, load: PromptSteps) -> StepTime:
        """Steps with prompts; those that decode nobody apart."""
        prices = []
        for some in (False, True):
            places = (load.decoding >= LEAST_DECODING) == some
            if places.any():
                share = np.broadcast_to(self._proposing, load.decoding.shape)[places]
                groups = self._decodes(load.decoding[places], share, context_tokens) if some else []
                groups.append(_prompt_group(load.prompts[places], prompts))
                drafting = (load.decoding[places] if some else 0.0) + load.prompts[places]
                prices.append((places, self._step(groups, drafting, context_tokens)))
        return placed(prices)

    def _decodes(self, batch: Floats, proposing: Reals, context_tokens: float) -> list[Group]:
        """``proposing``: the share of the sequences that verify drafts."""
        width = 1.0 + self._verified
        if np.all(proposing >= 1.0):
            return [Group(batch, width, context_tokens + self._verified, width)]
        verifying = np.where(proposing >= 1.0, ALMOST_ALL, proposing) * batch
        drafts = Group(verifying, width, context_tokens + self._verified, width)
        return [drafts, Group(batch - verifying, 1, context_tokens)]

    def _step(self, groups: Sequence[Group], drafting: Floats, context_tokens: float) -> StepTime:
        if self._stopped is not None:
            return stopped_round(self._cost, groups, drafting, context_tokens, self._stopped)
        return self._cost.step(
            groups, drafting=drafting, draft_tokens=self.draft_tokens, drafting_kv_tokens=context_tokens
        )


def _prompt_group(count: Floats, prompts: Floats) -> Group:
    """The tokens of ``count`` mean prompts, in prompts of such a length that they attend as those [requests] do.

    Chunks of a prompt add up to it: ones of q tokens of a prompt read what they read of it alone, on average.
    """
    mean = float(prompts.mean())
    length = float((prompts.astype(np.float64) ** 2).mean()) / mean
    return Group(count * mean / length, length, length, length / mean)


def _as_prompts(step: StepTime) -> StepTime:
    """With the errors of its kernels as one class."""
    shared = {name: error for name, error in step.errors_s.items() if name in SHARED_ERRORS}
    own = sum((error**2 for name, error in step.errors_s.items() if name not in shared), 0.0) ** 0.5
    return replace(step, errors_s=shared | {PROMPTS: own})


def _stopped(assembly: Assembly, draft_tokens: int) -> StoppedRound | None:
    """What a confidence stop makes of rounds; None where nothing stops them, or the threshold moves."""
    assert assembly.speculation is not None
    policy, law = assembly.speculation.policy, assembly.speculation.acceptance
    if not isinstance(policy, ConfidencePolicy) or policy.adapt is not None:
        return None
    if not isinstance(law, ConfidenceAcceptance):
        return None
    return law.stopped(draft_tokens, policy.threshold, keep_last=policy.keep_last, foreseen=policy.foreseen)

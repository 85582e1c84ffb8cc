"""How a batch in steady service spends its steps when prompts are computed beside decoding.

B requests of P prompt and O output tokens run, and the next one takes the place of each that ends. A request takes n
rounds after the step that ends its prompt, and its prompt c steps, c = ceil(P / what decoding leaves of the budget).

- Requests end independently of each other where lengths or acceptance vary. A step then computes prompts with the
  chance that at least one of B requests is at its prompt, 1 - (1 - c/u)^B with u steps a request, and more often where
  the budget forces it: no step computes more prompt tokens than decoding leaves it. Prompts wait for each other as in
  a closed queue with one server (``waiting_steps``).
- Requests that start together and are equally long end together (**waves**): their prompts fill steps one after the
  other, as many whole prompts a step as the budget takes, and all other steps only decode.
- A client's next request is **late** by steps that the others run without it: while its answer and the request are on
  their way, until the running step ends, and under asynchronous scheduling the one after it too.
- SGLang's scheduler pauses decoding while it computes prompts, unless its chunks are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from specsim.arrays import Booleans, Floats, Reals


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Tokens of a step, and what of them a decoding sequence (``width``, ``slots``) and a chunk (``slots``) take."""

    tokens: int
    width: float
    slots: int
    mixed: bool = True  # False: steps with prompts decode nobody
    chunked: bool = True  # False: a prompt is computed whole

    def left(self, batch: Floats) -> Floats:
        """For prompts while all others of the batch decode; at least one token."""
        decoding = (batch - 1.0) * self.width if self.mixed else 0.0
        return np.maximum(1.0, self.tokens - decoding - batch * self.slots)

    def parts(self, left: Floats, prompts: Floats) -> Floats:
        """Mean steps of prompts [requests] in what is left [batches] of a step."""
        if not self.chunked:
            return np.ones_like(left)
        return np.asarray(np.ceil(prompts / left[:, None]).mean(axis=1))


@dataclass(frozen=True, slots=True)
class PromptSteps:
    """Arrays [batches], or [laws, batches] under laws of acceptance.

    ``share`` of all steps compute prompts, each of these ``prompts`` of them in the mean: tokens in mean prompts, with
    standard deviation ``spread``. ``decoding``: sequences that decode in a step with prompts. ``steps``: of a request,
    its rounds and those in which it waits for or computes its prompt, or is late. ``running``: requests that are not
    late. ``pauses``: nobody runs while a request is late.
    """

    steps: Floats
    running: Floats
    pauses: Booleans
    share: Floats
    prompts: Floats
    spread: Floats
    decoding: Floats

    def loads(self) -> PromptSteps:
        """Two equally likely loads of the same mean and spread, [2, ...]: a prompt more is a sequence less that
        decodes.
        """
        off = np.stack([-self.spread, self.spread])
        return replace(self, prompts=self.prompts + off, decoding=np.maximum(0.0, self.decoding - off))


def prompt_steps(
    batch: Floats,
    prompts: Floats,
    rounds: Reals,
    budget: TokenBudget,
    *,
    waves: Booleans,
    late: Floats | float = 0.0,
) -> PromptSteps:
    """Where the steps of batches [batches] go.

    ``prompts``: tokens of prompts as they come, [requests]; ``rounds``: of a request, after its prompt; ``late``:
    steps that others run until a client's next request is seen. ``rounds`` and ``waves`` may be alternatives
    [laws, 1].
    """
    left, mean = budget.left(batch), float(prompts.mean())
    parts, fill = budget.parts(left, prompts), mean / left
    groups = np.where(parts > 1.0, np.ceil(batch * fill), np.ceil(batch / np.maximum(1.0, np.floor(1.0 / fill))))
    pauses = (batch == 1.0) | (waves & (groups == 1.0))
    clients, own = batch, rounds + parts
    batch = np.where(pauses, batch, batch * (own / (own + late)))  # those that are not late
    least = np.where(waves, groups, batch * fill)  # steps that the prompts of all fill
    # What a request goes through before the next one takes its place: steps, or rounds where these wait for prompts.
    turns, at_prompt = np.broadcast_to(np.maximum(rounds, 1.0), batch.shape), np.ones_like(batch)
    if budget.mixed:
        queued = np.where(waves, 0.0, waiting_steps(batch, fill, own, float(prompts.std()) / mean))
        turns, at_prompt = np.maximum(own + queued, least), parts
    chance = np.minimum(1.0, at_prompt / turns)
    share = np.maximum(np.where(waves, 0.0, 1.0 - (1.0 - chance) ** batch), least / turns)
    steps, decoding = turns * (1.0 + share), np.zeros_like(batch)
    if budget.mixed:
        share, steps = np.minimum(1.0, share), turns
        decoding = batch - batch * (steps - rounds) / (steps * share)
    else:
        share = share / (1.0 + share)
    found = batch / (steps * share)
    spread = np.where(waves, 0.0, _spread(batch, chance, found, prompts))
    steps = steps * clients / batch
    return PromptSteps(steps, batch, pauses, share, found, np.clip(1.0 / fill - found, 0.0, spread), decoding)


def waiting_steps(batch: Floats, fill: Floats, steps: Floats, cv: float) -> Floats:
    """Steps W that a prompt waits for others, each filling ``fill`` steps; else a request takes ``steps``.

    A prompt finds the queue as B - 1 requests make it, and its wait is Pollaczek and Khinchine's at that load (mean
    value analysis with Schweitzer's estimate): W = r·f(1 + cv²)/2 / (1 - r), r = (B - 1)·f/(steps + W), a quadratic.
    No other request: none. So many that they wait all the time: (B - 1)·f - steps.
    """
    work = (batch - 1.0) * fill
    room = steps - work
    return np.asarray((np.sqrt(room**2 + 2.0 * work * fill * (1.0 + cv**2)) - room) / 2.0)


def _spread(batch: Floats, chance: Floats, mean: Floats, prompts: Floats) -> Floats:
    """Of the prompts in a step with any: a binomial number of them, of lengths that vary."""
    some = 1.0 - (1.0 - chance) ** batch
    number = batch * chance / some
    variance = number * (1.0 - chance + batch * chance) - number**2
    cv = float(prompts.std() / prompts.mean())
    return np.asarray(np.sqrt(np.maximum(0.0, variance * (mean / number) ** 2 + mean * cv**2)))

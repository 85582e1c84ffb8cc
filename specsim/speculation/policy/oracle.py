"""The best that any policy could do for one request alone, knowing what every round would accept.

From output position i a round of k drafts goes to i + min(run_i, k) + 1, at a round's price: the fastest way through a
request is a shortest path over its positions. No policy that sees only the past can beat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.speculation.policy.protocol import Decider, Rounds


@dataclass(frozen=True, slots=True)
class Path:
    """One request decoded: seconds of all rounds, and the draft length of each."""

    seconds: float
    draft_tokens: tuple[int, ...]


def oracle(runs: Sequence[int], round_s: Floats, choices: Sequence[int]) -> Path:
    """The shortest path, by dynamic programming from the end.

    ``runs[i]``: drafts right in an unlimited round started when i + 1 output tokens stand (as TraceAcceptance).
    ``round_s``: seconds of a round by choice, [choices] or [positions, choices] where the price depends on the KV
    length. Of equal paths the one that drafts less first. Runs (2, 1, 0), rounds of 1, 1.1, 1.3 s for k = 0, 1, 2: one
    round of k = 2 commits all three tokens, 1.3 s. Raises InvalidInput for prices that do not fit.
    """
    prices = np.broadcast_to(round_s, (len(runs), len(choices))) if _fits(round_s, runs, choices) else None
    if prices is None:
        raise InvalidInput(
            f"round prices of shape {np.shape(round_s)} for {len(runs)} positions and {len(choices)} draft lengths; "
            "give one a length, or one a position and length"
        )
    lengths = np.asarray(choices, dtype=np.int64)
    left = np.zeros(len(runs) + 1)
    best = np.zeros(len(runs), dtype=np.int64)
    ends = np.minimum(np.minimum(np.asarray(runs, dtype=np.int64)[:, None], lengths) + 1, len(runs))
    for here in range(len(runs) - 1, -1, -1):
        following = np.minimum(here + ends[here], len(runs))
        total = prices[here] + left[following]
        best[here] = int(total.argmin())
        left[here] = total[best[here]]
    here, chosen = 0, []
    while here < len(runs):
        chosen.append(int(lengths[best[here]]))
        here += min(runs[here], chosen[-1]) + 1
    return Path(float(left[0]), tuple(chosen))


def follow(decider: Decider, runs: Sequence[int], round_s: Floats, choices: Sequence[int], *, context: float) -> Path:
    """What a decider does with the same request, alone in the batch; ``context``: KV length at its first position.

    A round that was allowed k tokens costs what k costs, even where fewer are proposed.
    """
    prices = np.broadcast_to(round_s, (len(runs), len(choices)))
    column = {k: index for index, k in enumerate(choices)}
    request = np.zeros(1, dtype=np.int64)
    here, seconds, chosen = 0, 0.0, []
    while here < len(runs):
        k = proposed = decider.draft_tokens(1, context + here)
        if k and not decider.uniform:
            drafts = decider.lengths(request, k, None)
            k, proposed = drafts.computed, int(drafts.lengths[0])
        seconds += float(prices[here, column[k]])
        chosen.append(proposed)
        accepted = min(runs[here], proposed)
        here += accepted + 1
        verified = request if proposed else request[:0]
        decider.observe(Rounds(verified, verified + proposed, verified + accepted, batch=1))
    return Path(seconds, tuple(chosen))


def _fits(round_s: Floats, runs: Sequence[int], choices: Sequence[int]) -> bool:
    return np.shape(round_s) in ((len(choices),), (len(runs), len(choices)))

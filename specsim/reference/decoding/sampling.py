"""Sampling at a temperature, and verification of drafts that keeps the target's distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specsim.errors import InvalidInput


class Sampler:
    """Draws tokens at a temperature above 0, from one seeded stream on its device."""

    def __init__(self, temperature: float, seed: int = 0, device: str = "cpu") -> None:
        if temperature <= 0:
            raise InvalidInput(f"temperature {temperature:g}; sampling needs one above 0, decode greedily instead")
        self.temperature = temperature
        self._generator = torch.Generator(device).manual_seed(seed)

    def probabilities(self, logits: Tensor) -> Tensor:
        """[..., vocab], in float64: shares of a rejected token's rest are differences of near-equal numbers."""
        return (logits.double() / self.temperature).softmax(-1)

    def draw(self, probabilities: Tensor) -> Tensor:
        """One token a row: [n, vocab] to [n]."""
        return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0]

    def draw_distinct(self, probabilities: Tensor, count: int) -> Tensor:
        """``count`` different tokens a row, one after the other from what the ones before leave: [n, vocab] to
        [n, count]. The least of exponential times of rates p, the next one and so on.
        """
        times = torch.empty_like(probabilities).exponential_(generator=self._generator)
        return (probabilities / times).topk(count).indices

    def verify(
        self, target: Tensor, drafts: Tensor, drafted: Tensor | None, parents: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Where the kept path of each draft tree ends (0 its root, i + 1 node i) and which token follows, both [n].

        ``target`` [n, nodes + 1, vocab]: the target's probabilities at root and nodes; ``drafts`` [n, nodes];
        ``drafted`` [n, nodes, vocab]: what a node and its siblings were drawn from without replacement, in order;
        None where drafting was deterministic. Rejection sampling (Leviathan et al., arXiv 2211.17192, section 2.3)
        for one candidate after the other (SpecInfer, arXiv 2305.09781, section 4.3): x is kept with probability
        min(1, p(x)/q(x)); if it is not, p becomes max(0, p - q), normalised, and q loses x, for the next sibling. The
        token that follows is drawn from what is left of p. Output has the target's distribution whatever q is.
        """
        n = len(drafts)
        ends = torch.zeros(n, dtype=torch.int64, device=target.device)
        left = target[:, 0]
        older: dict[int, list[int]] = {}
        for node, parent in enumerate(parents):
            siblings = older.setdefault(parent, [])
            here = torch.nonzero(ends == parent + 1)[:, 0]
            if len(here):
                p = left[here]
                q = self._offered(drafts[here], None if drafted is None else drafted[here, node], node, siblings, p)
                kept = self.kept(p, drafts[here, node], q)
                ends[here] = torch.where(kept, node + 1, parent + 1)
                left = left.index_copy(0, here, torch.where(kept[:, None], target[here, node + 1], self.rest(p, q)))
            siblings.append(node)
        return ends, self.draw(left)

    def _offered(self, drafts: Tensor, drafted: Tensor | None, node: int, siblings: list[int], like: Tensor) -> Tensor:
        """The law that a node was drawn from after its older ``siblings``, [m, vocab]."""
        if drafted is None:
            return torch.zeros_like(like).scatter_(1, drafts[:, node, None], 1.0)
        return self.without(drafted, drafts[:, siblings]) if siblings else drafted

    def without(self, law: Tensor, tokens: Tensor) -> Tensor:
        """What is left of a law [m, vocab] once ``tokens`` [m, siblings] are gone."""
        left = law.scatter(1, tokens, 0.0)
        total = left.sum(dim=-1, keepdim=True)
        return left / total.clamp(min=torch.finfo(law.dtype).tiny)

    def kept(self, target: Tensor, drafts: Tensor, drafted: Tensor) -> Tensor:
        """Whether each draft [m] is kept, by laws [m, vocab]."""
        p, q = (law.gather(-1, drafts[:, None])[:, 0] for law in (target, drafted))
        luck = torch.rand(q.shape, dtype=q.dtype, device=q.device, generator=self._generator)
        return luck * q < p

    def rest(self, target: Tensor, drafted: Tensor) -> Tensor:
        """What is left to draw from after a rejection, [m, vocab]."""
        rest = (target - drafted).clamp(min=0)
        total = rest.sum(dim=-1, keepdim=True)
        return torch.where(total > 0, rest / total.clamp(min=torch.finfo(rest.dtype).tiny), target)

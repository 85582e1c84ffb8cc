"""Sampling at a temperature, and verification that keeps the target's distribution."""

from __future__ import annotations

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

    def verify(self, target: Tensor, drafts: Tensor, drafted: Tensor | None) -> tuple[Tensor, Tensor]:
        """How many of k drafts [n, k] are kept and which token follows them, both [n].

        ``target`` [n, k + 1, vocab]: the target's probabilities; ``drafted`` [n, k, vocab]: those that the drafts
        were drawn from, None where drafting was deterministic. Rejection sampling (Leviathan et al., arXiv
        2211.17192, section 2.3): draft x is kept with probability min(1, p(x)/q(x)), and after the first one that is
        not, a token is drawn from max(0, p - q), normalised. Output has the target's distribution whatever q is.
        """
        n, k = drafts.shape
        if drafted is None:
            drafted = torch.nn.functional.one_hot(drafts, target.shape[-1]).to(target.dtype)
        kept = self.kept(target[:, :k], drafts, drafted).long().cumprod(dim=1).sum(dim=1)
        rows = torch.arange(n, device=target.device)
        rest = target[rows, kept]
        rejected = kept < k
        if k:
            rest = torch.where(rejected[:, None], self.rest(rest, drafted[rows, kept.clamp(max=k - 1)]), rest)
        return kept, self.draw(rest)

    def kept(self, target: Tensor, drafts: Tensor, drafted: Tensor) -> Tensor:
        """Whether each draft would be kept if those before it were, [n, k]."""
        p, q = (law.gather(-1, drafts[..., None])[..., 0] for law in (target, drafted))
        luck = torch.rand(q.shape, dtype=q.dtype, device=q.device, generator=self._generator)
        return luck * q < p

    def rest(self, target: Tensor, drafted: Tensor) -> Tensor:
        """What is drawn from after a rejection, [n, vocab]."""
        rest = (target - drafted).clamp(min=0)
        total = rest.sum(dim=-1, keepdim=True)
        return torch.where(total > 0, rest / total.clamp(min=torch.finfo(rest.dtype).tiny), target)

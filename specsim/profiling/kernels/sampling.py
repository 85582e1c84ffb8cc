"""Choosing tokens from rows of logits, as engines do it on the device.

Draws use exponential races (the Gumbel trick without logarithms): the arg-max of p / e with e ~ Exp(1) is distributed
as p, needs no normalised p, and never waits for the host.
"""

from __future__ import annotations

import torch
from torch import Tensor


def softmax(logits: Tensor) -> Tensor:
    """Probabilities in float32, [rows, vocab]."""
    return torch.softmax(logits, dim=-1, dtype=torch.float32)


def sample(logits: Tensor, temperature: Tensor) -> Tensor:
    """A token of each row at its temperature: logits [rows, vocab], temperature [rows, 1]; gives [rows]."""
    return _race(torch.softmax(logits / temperature, dim=-1, dtype=torch.float32))


def reject(target: Tensor, draft: Tensor, drafted: Tensor) -> Tensor:
    """Accept or replace one drafted token a row so that the outcome is distributed as ``target``.

    target, draft [rows, vocab] are probabilities, drafted [rows] was drawn from ``draft``. A draft is kept with
    probability min(1, p/q), else a token is drawn from max(0, p - q) (arXiv 2211.17192, section 2.3).
    """
    at = drafted[:, None]
    uniform = torch.rand(at.shape, device=target.device)
    kept = uniform * draft.gather(1, at) < target.gather(1, at)
    replacement = _race((target - draft).clamp_min_(0.0))
    return torch.where(kept[:, 0], drafted, replacement)


def _race(weights: Tensor) -> Tensor:
    return (weights / torch.empty_like(weights).exponential_()).argmax(dim=-1)

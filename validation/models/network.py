"""The networks in plain torch, for training and scoring: whole sequences, no cache, float32.

Parameter names are those of the files they are stored in, so that a ``state_dict`` is a checkpoint. Shapes: tokens
[batch, length], states [batch, length, hidden]; a *state* at position i has seen tokens 0..i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor, nn

ROTARY_BASE = 10_000.0
NORM_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-style decoder. Embeddings are tied."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    head_dim: int = 64
    norm_epsilon: float = NORM_EPSILON


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, causal."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.head_dim, hidden = shape.head_dim, shape.hidden_size
        self.q_proj = nn.Linear(hidden, shape.num_heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, shape.num_kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, shape.num_kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.num_heads * shape.head_dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        split = (*x.shape[:2], -1, self.head_dim)
        q, k, v = (f(x).view(split).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        cos, sin = (each.to(x.device) for each in rotation(x.shape[1], self.head_dim))
        fold = q.shape[1] // k.shape[1]
        k, v = turn(k, cos, sin).repeat_interleave(fold, 1), v.repeat_interleave(fold, 1)
        return self.o_proj(attend(turn(q, cos, sin), k, v).transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of [batch, heads, length, head_dim]; at these lengths a third of torch's own time on a CPU."""
    q, k = q.to(v.dtype), k.to(v.dtype)
    hidden = torch.full((q.shape[2], q.shape[2]), -torch.inf, dtype=v.dtype, device=v.device).triu(1)
    scores = torch.baddbmm(
        hidden.expand(q.shape[0] * q.shape[1], -1, -1),
        q.flatten(0, 1),
        k.flatten(0, 1).transpose(1, 2),
        alpha=q.shape[3] ** -0.5,
    )
    return torch.bmm(scores.softmax(-1).to(v.dtype), v.flatten(0, 1)).view_as(q)


def rotation(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin [length, head_dim] of RoPE (arXiv 2104.09864), halves paired as in Llama."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies).repeat(1, 2)
    return angles.cos().float(), angles.sin().float()


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., length, head_dim] rotated by its position."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def norm(shape: Shape) -> nn.RMSNorm:
    return nn.RMSNorm(shape.hidden_size, eps=shape.norm_epsilon)


class Layer(nn.Module):
    """A decoder layer; without ``input_norm`` attention reads its input as it is."""

    def __init__(self, shape: Shape, *, input_norm: bool = True) -> None:
        super().__init__()
        self.input_layernorm = norm(shape) if input_norm else nn.Identity()
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = norm(shape)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Stack(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_layers))
        self.norm = norm(shape)


class Llama(nn.Module):
    """The target and the draft model."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Stack(shape)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=shape.hidden_size**-0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)  # every layer starts as the identity

    def states(self, tokens: Tensor, exit_layer: int = 0) -> tuple[Tensor, Tensor]:
        """(the residual stream after ``exit_layer`` layers, the final normed states)."""
        x = early = self.model.embed_tokens(tokens)
        for index, layer in enumerate(self.model.layers, start=1):
            x = layer(x)
            if index == exit_layer:
                early = x
        return early, self.model.norm(x)

    def head(self, states: Tensor) -> Tensor:
        """Logits of normed states."""
        return F.linear(states, self.model.embed_tokens.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.states(tokens)[1])


class ResidualBlock(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)])
        nn.init.zeros_(self.layers[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.silu(self.layers[0](x))


class Medusa(nn.Module):
    """Heads that guess the tokens 2, 3, ... ahead of a final state (arXiv 2401.10774, section 2.1)."""

    def __init__(self, shape: Shape, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(shape) for _ in range(heads))
        self.lm_heads = nn.ModuleList(nn.Linear(shape.hidden_size, shape.vocab_size, bias=False) for _ in range(heads))

    def forward(self, states: Tensor) -> list[Tensor]:
        """Logits of each head."""
        return [head(block(states)) for block, head in zip(self.blocks, self.lm_heads, strict=True)]


class Adapter(nn.Module):
    """One attention layer between an early layer and the target's own head (Kangaroo, arXiv 2404.18911, section 3)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = norm(shape)
        self.self_attn = Attention(shape)
        self.norm = norm(shape)

    def forward(self, early: Tensor) -> Tensor:
        """States for the target's head."""
        return self.norm(early + self.self_attn(self.input_layernorm(early)))


class Eagle(nn.Module):
    """Guesses the next final state from one and the token that followed it (arXiv 2401.15077, section 4.1)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * shape.hidden_size, shape.hidden_size, bias=False)
        self.layers = nn.ModuleList([Layer(shape, input_norm=False)])

    def forward(self, embedded: Tensor, states: Tensor) -> Tensor:
        """Element i: the state at token i + 1, from ``embedded`` token i + 1 and ``states`` i, ready for the head."""
        return self.layers[0](self.fc(torch.cat((embedded, states), dim=-1)))

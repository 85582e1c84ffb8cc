"""The kernels of a Llama-style pass: module-level functions, so that profiling times exactly what the model runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor

from specsim.reference.network.cpu import this_cpu


def pack(weight: Tensor) -> Tensor:
    """A weight [n, k] in its device's fastest layout: blocked for oneDNN on a CPU that takes it, unchanged elsewhere.

    Matters for verification: at 2 to 8 rows the plain layout takes 2 to 4 times as long on a CPU.
    """
    if weight.device.type != "cpu" or weight.dtype not in this_cpu().packed:
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, 8)  # one layout serves every row count
    return packed


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [rows, k] times weight [n, k] (from ``pack``, or plain), giving [rows, n]."""
    if weight.is_mkldnn:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return product
    return F.linear(x, weight)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension: x [rows, hidden], weight [hidden]."""
    return F.rms_norm(x, weight.shape, weight, eps)


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [tokens, heads, head_dim] by cos, sin [tokens, 1, head_dim]; ``sin`` is negated in its first half."""
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    return torch.addcmul(x * cos, swapped, sin)


def write_cache(cache: Tensor, rows: Tensor, values: Tensor) -> None:
    """Store values [tokens, kv_heads, head_dim] at rows [tokens, kv_heads] of one layer's K or V cache.

    The cache is [slots, kv_heads, max_length, head_dim], contiguous; row (slot·kv_heads + head)·max_length + position.
    """
    cache.view(-1, cache.shape[-1]).index_put_((rows,), values)


def attention_mask(positions: Tensor, keys: int, fold: int, dtype: torch.dtype) -> Tensor:
    """Additive mask [n, 1, width·fold, keys] for queries at absolute positions [n, width].

    A query sees keys up to its own position. ``fold`` query heads share a KV head, so each row stands ``fold`` times.
    """
    hidden = torch.arange(keys, device=positions.device) > positions.repeat_interleave(fold, dim=1)[:, None, :, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, -torch.inf)


def tree_mask(parents: Sequence[int], starts: Tensor, keys: int, fold: int, dtype: torch.dtype) -> Tensor:
    """``branch_mask`` of whole draft trees of one shape, whose nodes stand at ``starts`` [n] and on.

    A node sees itself and its ancestors: ``parents`` [nodes] names each node's parent, which comes before it, -1 for
    a root.
    """
    seen = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return branch_mask(seen.to(starts.device), starts, keys, fold, dtype)


def branch_mask(seen: Tensor, starts: Tensor, keys: int, fold: int, dtype: torch.dtype) -> Tensor:
    """Additive mask [n, 1, width·fold, keys] for tokens that see every key before ``starts`` [n], and some behind.

    ``seen`` [width, span]: which of the ``span`` keys from there on each token sees; it sees none behind these.
    ``fold`` as in ``attention_mask``.
    """
    span = seen.shape[1]
    places = torch.arange(keys, device=starts.device) - starts[:, None]  # [n, keys], relative to the tree
    inside = (places >= 0) & (places < span)
    visible = seen[:, places.clamp(0, span - 1)].transpose(0, 1) & inside[:, None]
    hidden = ~(visible | (places < 0)[:, None]).repeat_interleave(fold, dim=1)[:, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=starts.device).masked_fill_(hidden, -torch.inf)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Grouped-query attention of queries [n, width, heads, head_dim] on K, V [n, kv_heads, length, head_dim].

    Query heads that share a KV head are folded into the query dimension, so that the cache is read in place and once.
    ``mask`` comes from ``attention_mask``; None lets every query see every key. Returns [n, width, heads·head_dim].
    """
    n, width, heads, head_dim = queries.shape
    kv_heads = keys.shape[1]
    folded = queries.view(n, width, kv_heads, -1).transpose(1, 2).reshape(n, kv_heads, -1, head_dim)
    mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
    return mixed.reshape(n, kv_heads, width, -1).transpose(1, 2).reshape(n, width, heads * head_dim)


def gated_activation(gate_up: Tensor) -> Tensor:
    """silu(gate)·up, of gate_up [rows, 2·intermediate]; gives [rows, intermediate]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Residual addition into x, in place."""
    return x.add_(y)


def embed(tokens: Tensor, table: Tensor) -> Tensor:
    """Rows of table [vocab, hidden] for tokens [tokens]."""
    return F.embedding(tokens, table)


def greedy_tokens(logits: Tensor) -> Tensor:
    """The most likely token of each row: logits [rows, vocab] to [rows]."""
    return logits.argmax(dim=-1)

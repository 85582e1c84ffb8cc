"""What mixes tokens in a pass: attention of each kind over its cache, indexers, and states.

A window bounds what attention reads; a chunk too, and a long sequence's last chunk is half full on average. A prompt
longer than a window or chunk is computed in pieces of that size. Sparse attention gathers the chosen keys for every
query anew, and its indexer reads all of its own keys before. A state is read once and written once for every token
that may yet be rejected; a prompt's chunked form keeps it on the chip for ``span`` tokens at a time.

FlashAttention 2 computes a step that holds a prompt chunk in one call, by the kernel of prompts: 64 rows of queries of
one head at a time, so that a decoding sequence pays for 64 tokens, neither packing the heads that share a KV head nor
splitting the keys (vLLM pull request 58013, of A100, A10, L4 and RTX cards; FlashAttention 3 and 4 have a scheduler of
tiles, and FlashInfer calls both kernels apart).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from specsim.arrays import Reals
from specsim.cost.forward import Group, Kernel, Precision
from specsim.specs.kernel_work import attention_work, index_work, state_work
from specsim.specs.mixers import Attention, Caching, Compressed
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart, as_part
from specsim.specs.recurrent import Recurrent

IN_ONE_CALL = ("fa2",)  # attention backends that run prompts and decoding of a step in one call
TILE_ROWS = 64.0


def attention_kernels(
    model: ModelSpec | ModelPart, group: Group, precision: Precision, mask: str = "", *, in_tiles: bool = False
) -> Iterator[Kernel]:
    """One group's attention and states, launched once a layer; less than one sequence is one in so many passes.

    ``mask``: empty for causal, ``tree`` where the new tokens are a tree of drafts. ``in_tiles``: the kernel of prompts
    computes it, in whole tiles of rows.
    """
    share: Reals = 1
    if np.any(np.asarray(group.sequences) < 1):
        share, group = np.minimum(1.0, group.sequences), replace(group, sequences=np.maximum(1.0, group.sequences))
    for mixer, number in as_part(model).stack.mixers:
        layers = number * share
        if isinstance(mixer, Recurrent):
            yield _state(mixer, group, layers, precision)
            continue
        if mixer.index is not None and mixer.index.own:
            yield from _index(mixer, group, layers, precision)
        kernel = _attention(mixer, _seen(mixer, group), group.is_prefill, layers, precision, mask)
        yield _tiled(kernel) if in_tiles and isinstance(mixer, Attention) else kernel


def _seen(mixer: Caching, group: Group) -> Group:
    """The group as its kernel computes it, with the keys that its queries see."""
    if isinstance(mixer, Compressed):
        return _compressed(mixer, group)
    if mixer.index is not None:
        return _each_query(group, np.minimum(_mean_keys(group), mixer.index.top_k))
    if mixer.window is not None:
        if group.query_tokens > mixer.window:
            return _pieces(group, mixer.window, 1.5 * mixer.window)
        return _of(group, np.minimum(group.kv_tokens, mixer.window + group.query_tokens - 1))
    if mixer.chunk is not None:
        if group.query_tokens > mixer.chunk:
            return _pieces(group, mixer.chunk, mixer.chunk)
        half = np.maximum((mixer.chunk + group.query_tokens) / 2, group.query_tokens)
        return _of(group, np.where(np.asarray(group.kv_tokens) <= mixer.chunk, group.kv_tokens, half))
    return group


def _compressed(mixer: Compressed, group: Group) -> Group:
    """Every query sees the window and the compressed vectors, or those of them that the indexer chose."""
    keys = _mean_keys(group)
    vectors: Reals = 0.0
    if mixer.ratio:
        vectors = keys / mixer.ratio
        if mixer.index is not None:
            vectors = np.minimum(vectors, mixer.index.top_k)
    return _each_query(group, np.minimum(keys, mixer.window) + vectors)


def _mean_keys(group: Group) -> Reals:
    """Keys that a query of the group sees on average, were attention full."""
    return group.kv_tokens - (group.query_tokens - 1.0) / 2.0


def _of(group: Group, keys: Reals) -> Group:
    return Group(group.sequences, group.query_tokens, keys, group.logit_rows)


def _each_query(group: Group, keys: Reals) -> Group:
    """Queries that each read keys of their own."""
    return Group(group.tokens, 1, keys, 1)


def _pieces(group: Group, size: int, keys: float) -> Group:
    return Group(group.tokens / size, size, keys, 0)


def _attention(
    mixer: Caching, group: Group, is_prefill: bool, layers: Reals, precision: Precision, mask: str
) -> Kernel:
    heads, kv_heads, width = mixer.kernel_heads(is_prefill=is_prefill)
    cached = mixer.token_values
    if isinstance(mixer, Compressed):
        cached = mixer.head_dim  # of a vector
    elif isinstance(mixer, Attention) and mixer.shared_cache:
        cached = mixer.num_kv_heads * (mixer.head_dim + mixer.value_dim)  # another layer keeps them
    moved, flops = attention_work(
        group.sequences,
        group.query_tokens,
        group.kv_tokens,
        flops_per_pair=mixer.flops_per_pair,
        cached=cached,
        width=heads * width,
        cache_bytes=precision.kv_read_bytes,
        value_bytes=precision.activation_bytes,
    )
    shape = (
        group.sequences,
        float(group.query_tokens),
        group.kv_tokens,
        float(heads),
        float(kv_heads),
        float(width),
    )
    return Kernel("attention", "attention", shape, mask, precision.kv, layers, flops, moved)


def _tiled(kernel: Kernel) -> Kernel:
    """The same keys and values, multiplied by whole tiles of queries."""
    sequences, queries, *rest = kernel.shape
    rows = np.ceil(np.asarray(queries) / TILE_ROWS) * TILE_ROWS
    return replace(kernel, shape=(sequences, float(rows), *rest), flops=kernel.flops * float(rows / queries))


def _index(mixer: Caching, group: Group, layers: Reals, precision: Precision) -> Iterator[Kernel]:
    """Scores of all keys, and the choice of the highest where there are more than are wanted."""
    index = mixer.index
    assert index is not None
    per_key = mixer.ratio if isinstance(mixer, Compressed) else 1
    keys = group.kv_tokens / per_key
    moved, flops = index_work(
        group.sequences,
        group.query_tokens,
        keys,
        num_heads=index.num_heads,
        head_dim=index.head_dim,
        key_bytes=index.cache_bytes * per_key,
    )
    shape = (group.tokens, keys)
    yield Kernel("elementwise", "attention", shape, "index", precision.dtype, layers, flops, moved)
    chosen = layers * (np.asarray(keys) > index.top_k)
    if np.any(chosen):
        read = 4.0 * (group.tokens * keys)
        yield Kernel("elementwise", "attention", shape, "top_k", precision.dtype, chosen, 0.0 * read, read)


def _state(mixer: Recurrent, group: Group, layers: Reals, precision: Precision) -> Kernel:
    one = mixer.recurrence
    moved, flops = state_work(
        group.sequences,
        group.query_tokens,
        state_bytes=mixer.state_values * 2,
        heads=one.heads,
        rows=one.rows,
        columns=one.columns,
        operations=one.operations,
        token_bytes=2 * mixer.width * precision.activation_bytes,
        span=one.span if group.is_prefill else 1,
    )
    shape = (group.tokens, float(mixer.width))
    return Kernel("elementwise", "attention", shape, "state", precision.dtype, layers, flops, moved)

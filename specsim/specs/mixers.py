"""Sublayers that mix tokens: what each weighs, keeps of a sequence, and multiplies by.

    Attention   keys and values of every token, or of a window or chunk of them
    Latent      one compressed vector a token serves all heads (MLA)
    Compressed  one vector stands for several tokens, and the last ones are kept beside (DeepSeek-V4)
    Recurrent   a state of fixed size a sequence (``recurrent``): linear attention, state space, short convolution

Sizes are a whole model's or those of one rank's share (``shard``). A mixer's ``token_values`` are cached for every
token, of which it keeps all or the last ``window``; ``state_values`` once a sequence. Norm vectors and biases count as
parameters, not as products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from specsim.specs.formats import Stored
from specsim.specs.layer_kind import Compression, LatentAttention, SparseIndex
from specsim.specs.linear import Linear, StoredMatrices
from specsim.specs.recurrent import Recurrent

WIDE = Stored.named("bfloat16")  # as checkpoints keep small products whose rounding matters


@dataclass(frozen=True, slots=True)
class Attention:
    """Heads of queries, groups of which share a head of keys and values.

    ``window``: tokens a query looks back on; ``chunk``: it sees those of its own chunk of the sequence (Llama 4).
    ``index``: it sees those that an indexer chooses. ``qk_norm``: norm vectors of one head for queries and one for
    keys, or of all heads together. ``gate_width``: values a head by which its output is multiplied.
    ``one_projection``: keys and values are one product, cached twice. ``shared_cache``: an earlier layer's keys and
    values are read.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_dim: int
    window: int | None = None
    chunk: int | None = None
    index: SparseIndex | None = None
    qk_norm: str | None = None
    gate_width: int = 0
    one_projection: bool = False
    shared_cache: bool = False
    sinks: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    formats: StoredMatrices = ()

    def linears(self, hidden: int, count: int) -> tuple[Linear, ...]:
        width = self.num_heads * (self.head_dim + self.gate_width)
        if not self.shared_cache:
            width += self.num_kv_heads * (self.head_dim + (0 if self.one_projection else self.value_dim))
        return (
            Linear("qkv", width, hidden, count, bias=self.qkv_bias),
            Linear("attention_output", hidden, self.num_heads * self.value_dim, count, bias=self.output_bias),
            *_index_linears(self.index, hidden, hidden, count),
        )

    @property
    def vector_values(self) -> int:
        """Parameters of norm vectors and sinks."""
        heads = {None: (0, 0), "head": (1, 1), "heads": (self.num_heads, self.num_kv_heads)}[self.qk_norm]
        normed = heads[0] + (0 if self.shared_cache else heads[1])
        return normed * self.head_dim + self.sinks * self.num_heads + (2 * self.index.head_dim if self.index else 0)

    @property
    def token_values(self) -> float:
        return 0 if self.shared_cache else self.num_kv_heads * (self.head_dim + self.value_dim)

    @property
    def state_values(self) -> float:
        return 0

    @property
    def flops_per_pair(self) -> int:
        """Of one query and one key, over all heads: QKᵀ and PV."""
        return 2 * self.num_heads * (self.head_dim + self.value_dim)

    @property
    def rotary_values(self) -> int:
        return (self.num_heads + self.num_kv_heads) * self.head_dim

    @property
    def width(self) -> int:
        """Values of a token inside the sublayer: queries, keys, values and the heads' output."""
        return self.num_heads * self.head_dim * 2 + self.num_kv_heads * self.head_dim * 2

    def kernel_heads(self, *, is_prefill: bool) -> tuple[int, int, int]:
        """(heads, KV heads, head width) of the kernel that computes it."""
        return self.num_heads, self.num_kv_heads, self.head_dim

    def shard(self, ranks: int) -> Attention:
        return replace(self, num_heads=self.num_heads // ranks, num_kv_heads=max(1, self.num_kv_heads // ranks))


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention; in its absorbed form queries meet the cached vector itself (DeepSeek-V2, appendix).

    ``rotary_heads``: heads of keys as the model counts them.
    """

    num_heads: int
    rotary_heads: int
    head_dim: int
    mla: LatentAttention
    index: SparseIndex | None = None
    gate_width: int = 0
    formats: StoredMatrices = ()
    window: int | None = None
    chunk: int | None = None
    qkv_bias: bool = False
    output_bias: bool = False

    def linears(self, hidden: int, count: int) -> tuple[Linear, ...]:
        mla = self.mla
        query_width = self.num_heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
        kv_up_width = self.num_heads * (mla.qk_nope_head_dim + mla.v_head_dim)
        query: tuple[Linear, ...] = (Linear("query", query_width, hidden, count, bias=self.qkv_bias),)
        if mla.q_lora_rank is not None:
            query = (
                Linear("query_down", mla.q_lora_rank, hidden, count, bias=self.qkv_bias),
                Linear("query_up", query_width, mla.q_lora_rank, count),
            )
        gate = Linear("output_gate", self.num_heads * self.gate_width, hidden, count)
        return (
            *query,
            Linear("kv_down", mla.kv_lora_rank + mla.qk_rope_head_dim, hidden, count, bias=self.qkv_bias),
            Linear("kv_up", kv_up_width, mla.kv_lora_rank, count),
            Linear("attention_output", hidden, self.num_heads * mla.v_head_dim, count, bias=self.output_bias),
            *((gate,) if self.gate_width else ()),
            *_index_linears(self.index, hidden, mla.q_lora_rank or hidden, count),
        )

    @property
    def vector_values(self) -> int:
        index = 2 * self.index.head_dim if self.index and self.index.own else 0
        return self.mla.kv_lora_rank + (self.mla.q_lora_rank or 0) + index

    @property
    def token_values(self) -> float:
        return self.mla.kv_lora_rank + self.mla.qk_rope_head_dim

    @property
    def state_values(self) -> float:
        return 0

    @property
    def flops_per_pair(self) -> int:
        return 2 * self.num_heads * (2 * self.mla.kv_lora_rank + self.mla.qk_rope_head_dim)

    @property
    def rotary_values(self) -> int:
        return (self.num_heads + self.rotary_heads) * self.head_dim

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim * 2 + self.rotary_heads * self.head_dim * 2

    def kernel_heads(self, *, is_prefill: bool) -> tuple[int, int, int]:
        """One latent vector a token serves all heads; a prompt expands it to heads."""
        if is_prefill and self.index is None:
            return self.num_heads, self.num_heads, self.mla.qk_nope_head_dim + self.mla.qk_rope_head_dim
        return self.num_heads, 1, int(self.token_values)

    def shard(self, ranks: int) -> Latent:
        return replace(self, num_heads=self.num_heads // ranks, rotary_heads=max(1, self.rotary_heads // ranks))


@dataclass(frozen=True, slots=True)
class Compressed:
    """Attention over one vector of ``head_dim`` for every ``ratio`` tokens, keys and values in one, and over the last
    ``window`` tokens one by one (DeepSeek-V4; vLLM's ``deepseek_v4_attention``). Ratio 0: over the window alone.

    A compressor makes the vectors, of overlapping spans where ``overlaps``; it keeps its sums of the tokens that are
    not yet compressed in float32.
    """

    num_heads: int
    head_dim: int
    window: int
    compression: Compression
    ratio: int
    index: SparseIndex | None = None
    formats: StoredMatrices = ()
    chunk: int | None = None

    @property
    def _spans(self) -> int:
        return 2 if self.index else 1

    def linears(self, hidden: int, count: int) -> tuple[Linear, ...]:
        shape = self.compression
        width = self.num_heads * self.head_dim
        compressor = 2 * self._spans * self.head_dim if self.ratio else 0
        if self.index:
            compressor += 2 * self._spans * self.index.head_dim
        return (
            Linear("query_down", shape.q_lora_rank + self.head_dim, hidden, count),  # with keys and values
            Linear("query_up", width, shape.q_lora_rank, count),
            Linear("output_down", shape.o_lora_rank, width // shape.o_groups, count * shape.o_groups),
            Linear("attention_output", hidden, shape.o_groups * shape.o_lora_rank, count),
            *((Linear("compressor", compressor, hidden, count, stored=WIDE),) if self.ratio else ()),
            *_index_linears(self.index, hidden, shape.q_lora_rank, count, own_keys=False),
        )

    @property
    def vector_values(self) -> int:
        norms = self.compression.q_lora_rank + self.head_dim + self.num_heads  # of queries and keys, and sinks
        if self.ratio:
            norms += self.head_dim + self.ratio * self._spans * self.head_dim
        if self.index:
            norms += self.index.head_dim * (1 + self.ratio * self._spans)
        return norms

    @property
    def token_values(self) -> float:
        """Of compressed vectors; the window's own are ``state_values``."""
        return self.head_dim / self.ratio if self.ratio else 0

    @property
    def state_values(self) -> float:
        """The window, and the compressors' sums, two 16-bit places for each value in float32."""
        widths = (self.head_dim if self.ratio else 0) + (self.index.head_dim if self.index else 0)
        sums = 2 * 2 * self._spans * widths * self._spans * self.ratio
        return self.window * self.head_dim + sums

    @property
    def flops_per_pair(self) -> int:
        return 4 * self.num_heads * self.head_dim

    @property
    def rotary_values(self) -> int:
        return (self.num_heads + 1) * self.head_dim

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim * 2 + self.head_dim * 2

    def kernel_heads(self, *, is_prefill: bool) -> tuple[int, int, int]:
        return self.num_heads, 1, self.head_dim

    def shard(self, ranks: int) -> Compressed:
        groups = max(1, self.compression.o_groups // ranks)
        compression = self.compression.model_copy(update={"o_groups": groups})
        return replace(self, num_heads=self.num_heads // ranks, compression=compression)


Caching = Attention | Latent | Compressed
Mixer = Caching | Recurrent


def _index_linears(
    index: SparseIndex | None, hidden: int, query_input: int, count: int, *, own_keys: bool = True
) -> tuple[Linear, ...]:
    """An indexer's products; ``own_keys`` false: a compressor makes its keys."""
    if index is None or not index.own:
        return ()
    keys = index.head_dim if own_keys else 0
    weights = index.num_heads if index.weighted else 0
    from_hidden = keys + weights
    return (
        Linear("index_query", index.num_heads * index.head_dim, query_input, count),
        *((Linear("index_keys", from_hidden, hidden, count, stored=WIDE),) if from_hidden else ()),
    )

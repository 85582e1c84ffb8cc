"""One transformer: what it weighs, what it caches, what it computes.

The only home of parameter and cache formulas; bytes and FLOPs of single kernels are in ``kernel_work``. Norms, biases
and rotary embeddings are left out of FLOPs (they are bytes, priced as elementwise kernels) but counted as parameters.
Sizes are per whole model; tensor parallelism divides them in ``cost``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from specsim.arrays import Reals
from specsim.errors import InvalidInput
from specsim.specs.kernel_work import distinct_experts
from specsim.validated import Validated

Bits = Annotated[float, Field(gt=0, le=64)]


class MixtureOfExperts(Validated):
    """Routed feed-forward layers: ``experts_per_token`` of ``num_experts`` run for each token."""

    num_experts: PositiveInt
    experts_per_token: PositiveInt
    intermediate_size: PositiveInt
    shared_experts: int = Field(0, ge=0)
    first_dense_layers: int = Field(0, ge=0)
    router_bias: bool = False  # one correction term an expert (DeepSeek-V3 counts it as a parameter)

    @model_validator(mode="after")
    def _routes_exist(self) -> MixtureOfExperts:
        if self.experts_per_token > self.num_experts:
            raise ValueError(
                f"experts_per_token {self.experts_per_token} exceeds num_experts {self.num_experts}; lower it"
            )
        return self

    def expected_experts(self, tokens: Reals) -> Reals:
        """Distinct experts that ``tokens`` tokens touch under uniform routing."""
        return distinct_experts(self.num_experts, self.experts_per_token, tokens)


class LatentAttention(Validated):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds one compressed vector a token."""

    kv_lora_rank: PositiveInt
    q_lora_rank: PositiveInt | None = None
    qk_rope_head_dim: PositiveInt
    qk_nope_head_dim: PositiveInt
    v_head_dim: PositiveInt


@dataclass(frozen=True, slots=True)
class Linear:
    """``count`` weight matrices of the same shape; a product with M rows costs 2·M·n·k FLOPs each.

    ``routed`` marks the experts of one MoE layer: ``count`` is then layers, and which experts run depends on tokens.
    ``on_rows``: only positions whose logits are wanted go through it. ``split``: a drafter's own matrix whose outputs
    ranks of tensor parallelism divide.
    """

    name: str
    n: int  # output features
    k: int  # input features
    count: int
    routed: bool = False
    on_rows: bool = False
    split: bool = False


class ModelSpec(Validated):
    """The shape of a decoder-only transformer, as serving engines need it."""

    name: str
    source: str
    num_layers: PositiveInt
    hidden_size: PositiveInt
    num_heads: PositiveInt
    num_kv_heads: PositiveInt
    head_dim: PositiveInt
    intermediate_size: PositiveInt
    vocab_size: PositiveInt
    tied_embeddings: bool = False
    gated_mlp: bool = True  # gate and up projections (Llama); False: one up projection (OPT)
    qkv_bias: bool = False
    linear_bias: bool = False  # biases on every linear layer of a block (OPT)
    norm_bias: bool = False  # LayerNorm (weight and bias) instead of RMSNorm
    qk_norm: bool = False  # one norm vector of head_dim for queries and one for keys (Qwen3)
    learned_positions: int = Field(0, ge=0)  # rows of a learned position table (OPT)
    max_position: PositiveInt = 4096
    sliding_window: PositiveInt | None = None  # tokens a query looks back on in layers that have a window
    sliding_layers: int | None = Field(None, ge=0)  # how many layers have it; None: all
    weight_bits: Bits = 16
    moe: MixtureOfExperts | None = None
    mla: LatentAttention | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                "grouped-query attention shares each KV head among equally many query heads"
            )
        if (self.sliding_layers or 0) > self.num_layers:
            raise ValueError(f"sliding_layers {self.sliding_layers} exceeds num_layers {self.num_layers}; lower it")
        if self.sliding_layers is not None and self.sliding_window is None:
            raise ValueError(f"sliding_layers is {self.sliding_layers} without a sliding_window; give its tokens")
        return self

    def layer_windows(self) -> tuple[tuple[int, int | None], ...]:
        """(layers, tokens they look back on or None for all), the kinds of attention layer this model has."""
        if self.sliding_window is None:
            return ((self.num_layers, None),)
        sliding = self.num_layers if self.sliding_layers is None else self.sliding_layers
        kinds = ((sliding, self.sliding_window), (self.num_layers - sliding, None))
        return tuple((layers, window) for layers, window in kinds if layers)

    def shard(self, ranks: int) -> ModelSpec:
        """What one rank of tensor parallelism holds and computes (Megatron-LM, arXiv 1909.08053, section 3).

        Heads, feed-forward width and vocabulary are divided; the hidden size is not; KV heads fewer than ranks are
        repeated. Raises InvalidInput where a count does not divide. Llama-3.1-8B on 4: 8 heads, 2 KV heads.
        """
        if ranks == 1:
            return self
        widths = {"num_heads": self.num_heads, "intermediate_size": self.intermediate_size}
        if self.moe is not None:
            widths["moe.intermediate_size"] = self.moe.intermediate_size
        for field, width in widths.items():
            if width % ranks:
                raise InvalidInput(
                    f"tensor_parallel {ranks} does not divide {field} {width} of {self.name}; choose a divisor"
                )
        if max(self.num_kv_heads, ranks) % min(self.num_kv_heads, ranks):
            raise InvalidInput(
                f"tensor_parallel {ranks} and num_kv_heads {self.num_kv_heads} of {self.name} do not divide each "
                "other; choose a divisor"
            )
        moe = self.moe
        if moe is not None:
            moe = moe.model_copy(update={"intermediate_size": moe.intermediate_size // ranks})
        shares: dict[str, object] = {
            "num_heads": self.num_heads // ranks,
            "num_kv_heads": max(1, self.num_kv_heads // ranks),
            "intermediate_size": self.intermediate_size // ranks,
            "vocab_size": -(-self.vocab_size // ranks),
            "moe": moe,
        }
        return self.model_copy(update=shares)

    # -- shapes -------------------------------------------------------------------------------------------------

    @property
    def dense_layers(self) -> int:
        """Layers whose feed-forward part is not routed."""
        return self.num_layers if self.moe is None else min(self.moe.first_dense_layers, self.num_layers)

    def linears(self) -> tuple[Linear, ...]:
        """Every weight matrix that a pass multiplies by, the LM head included, fused as engines run them."""
        dense = self.dense_layers
        return (
            *self.attention_linears(self.num_layers),
            *self.dense_linears(dense),
            *self.expert_linears(self.num_layers - dense),
            self.lm_head(),
        )

    def lm_head(self) -> Linear:
        """The product that gives logits."""
        return Linear("lm_head", self.vocab_size, self.hidden_size, 1, on_rows=True)

    def dense_linears(self, layers: int) -> tuple[Linear, ...]:
        """Feed-forward matrices of so many layers that are not routed."""
        if not layers:
            return ()
        inputs = 2 if self.gated_mlp else 1
        return (
            Linear("gate_up", inputs * self.intermediate_size, self.hidden_size, layers),
            Linear("down", self.hidden_size, self.intermediate_size, layers),
        )

    def attention_linears(self, layers: int) -> tuple[Linear, ...]:
        """Projections of so many attention sublayers."""
        hidden = self.hidden_size
        if not layers:
            return ()
        if self.mla is None:
            width = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
            return (
                Linear("qkv", width, hidden, layers),
                Linear("attention_output", hidden, self.num_heads * self.head_dim, layers),
            )
        mla = self.mla
        query_width = self.num_heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
        kv_up_width = self.num_heads * (mla.qk_nope_head_dim + mla.v_head_dim)
        query = (
            (Linear("query", query_width, hidden, layers),)
            if mla.q_lora_rank is None
            else (
                Linear("query_down", mla.q_lora_rank, hidden, layers),
                Linear("query_up", query_width, mla.q_lora_rank, layers),
            )
        )
        return (
            *query,
            Linear("kv_down", mla.kv_lora_rank + mla.qk_rope_head_dim, hidden, layers),
            Linear("kv_up", kv_up_width, mla.kv_lora_rank, layers),
            Linear("attention_output", hidden, self.num_heads * mla.v_head_dim, layers),
        )

    def expert_linears(self, layers: int) -> tuple[Linear, ...]:
        """Routed feed-forward matrices of so many layers, with their router and shared experts."""
        moe = self.moe
        if moe is None or not layers:
            return ()
        inputs = 2 if self.gated_mlp else 1
        rows = [
            Linear("router", moe.num_experts, self.hidden_size, layers),
            Linear("expert_gate_up", inputs * moe.intermediate_size, self.hidden_size, layers, routed=True),
            Linear("expert_down", self.hidden_size, moe.intermediate_size, layers, routed=True),
        ]
        if moe.shared_experts:
            shared = moe.shared_experts * moe.intermediate_size
            rows.append(Linear("shared_gate_up", inputs * shared, self.hidden_size, layers))
            rows.append(Linear("shared_down", self.hidden_size, shared, layers))
        return tuple(rows)

    # -- weights ------------------------------------------------------------------------------------------------

    def parameter_count(self) -> int:
        """All parameters; tied embeddings count once. Llama-3.1-8B: 8,030,261,248."""
        embedding = 0 if self.tied_embeddings else self.vocab_size * self.hidden_size
        matrices = self.matrix_parameters(self.linears())
        vectors = self.vector_parameters(self.linears(), 2 * self.num_layers + 1, self.num_layers)
        return matrices + embedding + self.learned_positions * self.hidden_size + vectors

    def matrix_parameters(self, linears: Iterable[Linear]) -> int:
        """Parameters of matrices of this model, every expert counted."""
        experts = self.moe.num_experts if self.moe else 1
        return sum(m.n * m.k * m.count * (experts if m.routed else 1) for m in linears)

    def active_parameter_count(self) -> int:
        """Parameters one token multiplies by (embedding look-up left out; the LM head counts)."""
        experts = self.moe.experts_per_token if self.moe else 1
        return sum(m.n * m.k * m.count * (experts if m.routed else 1) for m in self.linears())

    def vector_parameters(self, linears: Iterable[Linear], norms: int, attention_layers: int) -> int:
        """Parameters of so many norms, of the biases of ``linears``, and of what attention sublayers add."""
        found = norms * self.hidden_size * (2 if self.norm_bias else 1)
        if self.qk_norm:
            found += 2 * self.head_dim * attention_layers
        if self.mla is not None:
            found += (self.mla.kv_lora_rank + (self.mla.q_lora_rank or 0)) * attention_layers
        for m in linears:
            if (self.linear_bias and m.name != "lm_head") or (self.qkv_bias and m.name == "qkv"):
                found += m.n * m.count
            if m.name == "router" and self.moe is not None and self.moe.router_bias:
                found += self.moe.num_experts * m.count
        return found

    def weight_bytes(self, bits: float | None = None) -> float:
        """Bytes of all weights in memory, at ``bits`` a weight (default: the model's own)."""
        return self.parameter_count() * (bits or self.weight_bits) / 8

    # -- cache --------------------------------------------------------------------------------------------------

    def kv_values_per_token(self) -> int:
        """Cached values a token in one layer: 2·kv_heads·head_dim, or the latent vector of MLA."""
        if self.mla is not None:
            return self.mla.kv_lora_rank + self.mla.qk_rope_head_dim
        return 2 * self.num_kv_heads * self.head_dim

    def kv_bytes_per_token(self, bits: float = 16) -> float:
        """KV-cache bytes a token over all layers. Llama-3.1-8B at 16 bits: 131,072."""
        return self.num_layers * self.kv_values_per_token() * bits / 8

    # -- compute ------------------------------------------------------------------------------------------------

    def attention_flops(self, query_tokens: Reals, kv_tokens: Reals) -> Reals:
        """FLOPs of QKᵀ and PV over all layers for one sequence whose queries all see ``kv_tokens`` keys."""
        if self.mla is None:
            per_pair = 4 * self.num_heads * self.head_dim
        else:  # absorbed form: queries meet the latent vector itself (DeepSeek-V2, appendix)
            latent = self.mla.kv_lora_rank
            per_pair = 2 * self.num_heads * (2 * latent + self.mla.qk_rope_head_dim)
        return self.num_layers * per_pair * query_tokens * kv_tokens

    def flops_per_token(self, context_tokens: float = 0) -> float:
        """FLOPs to decode one token at a context: 2·active parameters + attention."""
        return 2.0 * self.active_parameter_count() + float(self.attention_flops(1, context_tokens))

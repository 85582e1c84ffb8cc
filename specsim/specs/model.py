"""One model: its layers as a few kinds, and from them what it weighs, what it caches, what it computes.

The flat fields tell the usual layer, and a model whose layers are alike needs no more. ``layer_kinds`` and
``layer_pattern`` tell the layers of others; ``sublayers`` makes them of both. What a kind of layer weighs is in
``mixers`` and ``feed_forward``, bytes and FLOPs of single kernels in ``kernel_work``. Norms, biases and rotary
embeddings are left out of FLOPs (they are bytes, priced as elementwise kernels) but counted as parameters. Sizes are
per whole model; tensor parallelism divides them in ``cost``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from specsim.arrays import Reals
from specsim.errors import InvalidInput
from specsim.specs.feed_forward import FeedForward
from specsim.specs.formats import Bits, Stored, format_of
from specsim.specs.layer_kind import Compression, LatentAttention, LayerKind, MixtureOfExperts, SparseIndex
from specsim.specs.linear import Linear
from specsim.specs.mixers import Mixer
from specsim.specs.recurrent import Recurrent
from specsim.specs.stack import Layer, Stack
from specsim.specs.sublayers import attention_of, feed_forward_of, layer_of
from specsim.validated import Validated

__all__ = ["Bits", "LatentAttention", "LayerKind", "Linear", "MixtureOfExperts", "ModelSpec"]

# What makes layers differ from each other, and what is beside them: nothing of it.
UNIFORM: dict[str, object] = {
    "layer_kinds": {},
    "layer_pattern": "",
    "layer_matrices": (),
    "tables": 0,
    "sliding_window": None,
    "sinks": False,
    "index": None,
    "compression": None,
    "norms_per_layer": 2,
}


class ModelSpec(Validated):
    """The shape of a decoder-only language model, as serving engines need it.

    ``num_heads`` to ``intermediate_size`` are those of the usual layer, and what a drafter of its shape is built of.
    ``layer_pattern`` names the kind of each layer by one letter of ``layer_kinds``, over and over to the last layer; a
    letter that ``layer_kinds`` leaves out is a usual layer:

        layer_kinds: {S: {window: 1024}}
        layer_pattern: SSSSSF
    """

    name: str
    source: str
    num_layers: int = Field(gt=0, le=10_000)  # each is looked at
    hidden_size: PositiveInt
    num_heads: PositiveInt
    num_kv_heads: PositiveInt
    head_dim: PositiveInt
    value_dim: PositiveInt | None = None  # of a head's values; None: head_dim
    intermediate_size: PositiveInt
    vocab_size: PositiveInt
    tied_embeddings: bool = False
    gated_mlp: bool = True  # gate and up projections (Llama); False: one up projection (OPT)
    qkv_bias: bool = False
    output_bias: bool = False  # on the attention output (gpt-oss)
    linear_bias: bool = False  # biases on every linear layer of a block (OPT)
    norm_bias: bool = False  # LayerNorm (weight and bias) instead of RMSNorm
    norms_per_layer: NonNegativeInt = 2  # Gemma 2: 4; Command-R: 1, for both sublayers side by side
    qk_norm: Literal["head", "heads"] | None = None  # norms of queries and keys, each head (Qwen3) or all (MiniMax-M2)
    output_gate: NonNegativeInt = 0  # values a head that gate the attention output (Qwen3-Next: head_dim)
    sinks: bool = False  # one learned logit a head that takes attention to nothing (gpt-oss)
    learned_positions: int = Field(0, ge=0)  # rows of a learned position table (OPT)
    layer_matrices: tuple[tuple[PositiveInt, PositiveInt], ...] = ()  # further products a layer, (outputs, inputs)
    tables: NonNegativeInt = 0  # parameters of further look-up tables and of what no kind of layer counts
    max_position: PositiveInt = 4096
    sliding_window: PositiveInt | None = None  # tokens a query looks back on, in layers whose kind does not say
    weight_format: str | None = None  # of specs/formats, whose bits, group and scale hold where they are not stated
    weight_bits: Bits = 16
    weight_group: PositiveInt | None = None  # weights that share a scale; None: scales are not told
    scale_bits: float = Field(16, ge=0)  # of that scale, a zero point included
    moe: MixtureOfExperts | None = None
    mla: LatentAttention | None = None
    index: SparseIndex | None = None
    compression: Compression | None = None
    layer_kinds: dict[str, LayerKind] = Field(default_factory=dict)
    layer_pattern: str = ""
    mtp_layers: NonNegativeInt = 0  # trained with it to predict further tokens; a drafter, not counted here

    def __hash__(self) -> int:
        return hash(self.name)

    @model_validator(mode="before")
    @classmethod
    def _bits_of_the_format(cls, data: Any) -> Any:
        return data if not isinstance(data, dict) else _with_bits(data)

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                "grouped-query attention shares each KV head among equally many query heads"
            )
        return self

    @model_validator(mode="after")
    def _kinds_have_letters(self) -> ModelSpec:
        odd = [name for name in self.layer_kinds if len(name) != 1]
        if odd:
            raise ValueError(f"layer kind {odd[0]!r} is named by more than one letter; layer_pattern has one a layer")
        unused = sorted(set(self.layer_kinds) - set(self.layer_pattern))
        if unused:
            raise ValueError(f"layer kind {unused[0]!r} is in no place of layer_pattern; name it there or remove it")
        return self

    # -- layers -------------------------------------------------------------------------------------------------

    def kind_of(self, index: int) -> LayerKind:
        """The kind of a layer, from 0."""
        if not self.layer_pattern:
            return LayerKind()
        return self.layer_kinds.get(self.layer_pattern[index % len(self.layer_pattern)], LayerKind())

    def layers(self) -> tuple[Layer, ...]:
        """Every layer's sublayers, first to last; equal layers are equal."""
        first = self.moe.first_dense_layers if self.moe is not None else 0
        made: dict[tuple[str, bool], Layer] = {}
        found = []
        for index in range(self.num_layers):
            letter = self.layer_pattern[index % len(self.layer_pattern)] if self.layer_pattern else ""
            key = (letter, index < first)
            if key not in made:
                made[key] = layer_of(self, self.kind_of(index), dense=index < first)
            found.append(made[key])
        return tuple(found)

    def stack(self) -> Stack:
        """All sublayers."""
        return Stack.of(self.layers())

    def usual_sublayers(self, *, routed: bool) -> tuple[Mixer, FeedForward]:
        """The attention and the feed-forward part that the flat fields tell, routed where there are experts."""
        return attention_of(self, LayerKind()), feed_forward_of(self, LayerKind(), dense=not routed)

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
        compression = self.compression
        if compression is not None:
            groups = max(1, compression.o_groups // ranks)
            compression = compression.model_copy(update={"o_groups": groups})
        shares: dict[str, object] = {
            "num_heads": self.num_heads // ranks,
            "num_kv_heads": max(1, self.num_kv_heads // ranks),
            "intermediate_size": self.intermediate_size // ranks,
            "vocab_size": -(-self.vocab_size // ranks),
            "moe": None if self.moe is None else self.moe.shard(ranks),
            "compression": compression,
            "layer_kinds": {name: kind.shard(ranks) for name, kind in self.layer_kinds.items()},
        }
        return self.model_copy(update=shares)

    # -- shapes -------------------------------------------------------------------------------------------------

    def linears(self) -> tuple[Linear, ...]:
        """Every weight matrix that a pass multiplies by, the LM head included, fused as engines run them."""
        return (*self.stack().linears(self.hidden_size), *self.further_matrices(self.num_layers), self.lm_head())

    def further_matrices(self, layers: int) -> tuple[Linear, ...]:
        """``layer_matrices`` of so many layers."""
        return tuple(Linear("layer_matrix", n, k, layers) for n, k in self.layer_matrices)

    def lm_head(self) -> Linear:
        """The product that gives logits."""
        return Linear("lm_head", self.vocab_size, self.hidden_size, 1, on_rows=True)

    # -- weights ------------------------------------------------------------------------------------------------

    def parameter_count(self) -> int:
        """All parameters; tied embeddings count once. Llama-3.1-8B: 8,030,261,248."""
        linears = self.linears()
        embedding = 0 if self.tied_embeddings else self.vocab_size * self.hidden_size
        return (
            sum(linear.parameters + linear.bias_values for linear in linears)
            + embedding
            + self.table_parameters()
            + self.stack().vector_parameters()
            + self.norm_parameters(self.stack(), final=True)
        )

    def table_parameters(self) -> int:
        """Look-up tables beside the embedding."""
        return self.learned_positions * self.hidden_size + self.tables

    def norm_parameters(self, stack: Stack, *, final: bool) -> int:
        """Of the norms between these sublayers, and after the last."""
        norms = self.norms_per_layer * (stack.num_mixers + stack.num_feed_forward) // 2 + final
        return norms * self.hidden_size * (2 if self.norm_bias else 1)

    def active_parameter_count(self) -> int:
        """Parameters one token multiplies by (embedding look-up left out; the LM head counts)."""
        return sum(linear.active_parameters for linear in self.linears())

    @property
    def stored(self) -> Stored:
        """How most matrices are stored: a weight of MXFP4 takes 4.25 bits, its share of a scale included."""
        if self.weight_group:
            return Stored(format=self.weight_format, bits=self.weight_bits + self.scale_bits / self.weight_group)
        if self.weight_format:
            return Stored(format=self.weight_format, bits=self.weight_bits)
        return Stored.of_bits(self.weight_bits)

    @property
    def attention_stored(self) -> Stored:
        """How the attention products are, which trained drafters share: in 16 bits where experts alone are narrow."""
        kind = self.kind_of(self.num_layers - 1)
        names = ("qkv", "query_up", "query")
        return next((kind.formats[name] for name in names if name in kind.formats), self.stored)

    def drafter_weights(self, bits: float | None) -> dict[str, object]:
        """Fields of a drafter's weights: of so many bits, or stored as the target's attention is."""
        if bits is not None:
            return {"weight_format": None, "weight_bits": bits, "weight_group": None}
        stored = self.attention_stored
        if stored.format is None:
            return {"weight_format": None, "weight_bits": float(int(stored.bits)), "weight_group": None}
        found = format_of(stored.format)
        return {
            "weight_format": stored.format,
            "weight_bits": found.bits,
            "weight_group": found.group,
            "scale_bits": found.scale_bits,
        }

    def weight_bytes(self, bits: float | None = None) -> float:
        """Bytes of all weights in memory, at ``bits`` a weight (default: the model's own)."""
        return self.parameter_count() * (bits or self.weight_bits) / 8

    # -- cache --------------------------------------------------------------------------------------------------

    def kv_values_per_token(self) -> int:
        """Cached values a token in the usual attention layer: 2·kv_heads·head_dim, or the latent vector of MLA."""
        if self.mla is not None:
            return self.mla.kv_lora_rank + self.mla.qk_rope_head_dim
        return self.num_kv_heads * (self.head_dim + (self.value_dim or self.head_dim))

    def kv_bytes_per_token(self, bits: float = 16) -> float:
        """KV-cache bytes a token over all layers, those of a window too. Llama-3.1-8B at 16 bits: 131,072."""
        return self.stack().token_bytes(bits)

    def state_bytes(self, bits: float = 16) -> float:
        """Bytes a sequence takes however long it is: states and windows of compressed attention."""
        return self.stack().state_bytes(bits)

    # -- compute ------------------------------------------------------------------------------------------------

    def attention_flops(self, query_tokens: Reals, kv_tokens: Reals) -> Reals:
        """FLOPs of QKᵀ and PV over all layers for one sequence whose queries all see ``kv_tokens`` keys."""
        per_pair = sum(
            mixer.flops_per_pair * count for mixer, count in self.stack().mixers if not isinstance(mixer, Recurrent)
        )
        return per_pair * query_tokens * kv_tokens


def _with_bits(data: dict[str, Any]) -> dict[str, Any]:
    """A model's fields with the bits, group and scale of its weight format where it states none.

    Raises ValueError for an unknown format, or one of other bits than stated.
    """
    if not isinstance(name := data.get("weight_format"), str):
        return data
    stored = Stored.model_validate(name)
    found = format_of(str(stored.format))
    if data.get("weight_bits", found.bits) != found.bits:
        raise ValueError(
            f"weight_bits is {data['weight_bits']} and weight_format {name} has {found.bits:g}; leave weight_bits out"
        )
    told = {"weight_bits": found.bits, "weight_group": found.group, "scale_bits": found.scale_bits}
    return told | data | {"weight_format": stored.format}

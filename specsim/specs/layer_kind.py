"""What a layer has in place of the model's usual parts, as files tell it.

What that weighs, caches and computes is in ``mixers`` and ``feed_forward``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from specsim.arrays import Reals
from specsim.errors import InvalidInput
from specsim.specs.formats import Bits, Stored
from specsim.specs.kernel_work import distinct_experts
from specsim.validated import Validated

# Matrices of layers, under the names that sublayers give them.
Matrix = Literal[
    "qkv", "attention_output", "query", "query_down", "query_up", "kv_down", "kv_up", "output_gate", "output_down",
    "compressor", "index_query", "index_keys", "state_input", "state_inner", "state_output", "gate_up", "down",
    "router", "expert_gate_up", "expert_down", "expert_input", "expert_output", "shared_gate_up", "shared_down",
]  # fmt: skip


class MixtureOfExperts(Validated):
    """Routed feed-forward layers: ``experts_per_token`` of ``num_experts`` run for each token.

    ``shared_experts`` run for every token, each as wide as a routed one unless ``shared_intermediate_size`` says how
    wide all of them are together. ``latent_size``: experts work between two products on vectors of that size
    (Nemotron 3). ``vectors``: parameters of norms and gates a layer beside.
    """

    num_experts: PositiveInt
    experts_per_token: PositiveInt
    intermediate_size: PositiveInt
    shared_experts: int = Field(0, ge=0)
    shared_intermediate_size: PositiveInt | None = None
    latent_size: PositiveInt | None = None
    first_dense_layers: int = Field(0, ge=0)
    router_bias: bool = False  # one correction term an expert (DeepSeek-V3 counts it as a parameter)
    bias: bool = False  # of router and experts (gpt-oss)
    vectors: NonNegativeInt = 0

    @model_validator(mode="after")
    def _routes_exist(self) -> MixtureOfExperts:
        if self.experts_per_token > self.num_experts:
            raise ValueError(
                f"experts_per_token {self.experts_per_token} exceeds num_experts {self.num_experts}; lower it"
            )
        return self

    @property
    def shared_width(self) -> int:
        """Inner values of all shared experts."""
        return self.shared_intermediate_size or self.shared_experts * self.intermediate_size

    def expected_experts(self, tokens: Reals) -> Reals:
        """Distinct experts that ``tokens`` tokens touch under uniform routing."""
        return distinct_experts(self.num_experts, self.experts_per_token, tokens)

    def spread(self, gpus: int, ranks: int = 1) -> MixtureOfExperts:
        """What one of ``gpus`` GPUs holds, each of which has whole experts: of a token's K copies it gets K / gpus.

        Those that every token runs are divided among ``ranks``. 256 experts of which 8 run, on 32: 8, of which 0.25.
        """
        shared = self.shared_width // ranks
        return self.model_copy(
            update={
                "num_experts": self.num_experts // gpus,
                "experts_per_token": self.experts_per_token / gpus,
                "shared_intermediate_size": shared or None,
            }
        )

    def shard(self, ranks: int) -> MixtureOfExperts:
        """Every rank holds a slice of each expert."""
        shared = self.shared_intermediate_size
        return self.model_copy(
            update={
                "intermediate_size": self.intermediate_size // ranks,
                "shared_intermediate_size": None if shared is None else shared // ranks,
            }
        )


class LatentAttention(Validated):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds one compressed vector a token."""

    kv_lora_rank: PositiveInt
    q_lora_rank: PositiveInt | None = None
    qk_rope_head_dim: NonNegativeInt
    qk_nope_head_dim: PositiveInt
    v_head_dim: PositiveInt


class SparseIndex(Validated):
    """A small attention that chooses the ``top_k`` keys of a query (DeepSeek-V3.2, arXiv 2512.02556).

    ``cache_bytes`` a token: its own keys, in whatever format (FP8 with a float32 scale for each 128: 132).
    ``weighted``: heads are weighed by a product of the hidden state. ``own`` false: the choice of an earlier layer is
    taken over (GLM-5.2).
    """

    num_heads: PositiveInt
    head_dim: PositiveInt
    top_k: PositiveInt
    cache_bytes: float = Field(ge=0)
    weighted: bool = True
    own: bool = True


class Compression(Validated):
    """Low-rank queries and outputs of attention over compressed vectors (DeepSeek-V4).

    The heads' outputs are brought down to ``o_lora_rank`` in ``o_groups`` groups of heads.
    """

    q_lora_rank: PositiveInt
    o_lora_rank: PositiveInt
    o_groups: PositiveInt
    window: PositiveInt


class Recurrence(Validated):
    """A layer that keeps a state of fixed size: a product in, a short convolution, the state, a product out.

    ``inner``: products (outputs, inputs) between both. The state is ``heads`` matrices of ``rows`` x ``columns``; a
    token reads and writes all of it. ``operations``: FLOPs a state value and token. ``vectors``: further parameters.
    ``state_bits``: as engines keep it (vLLM's ``mamba_ssm_cache_dtype``). ``span``: tokens that a prompt's chunked
    form takes at a time.
    """

    input_width: PositiveInt
    output_width: PositiveInt
    inner: tuple[tuple[PositiveInt, PositiveInt], ...] = ()
    conv_channels: NonNegativeInt = 0
    conv_kernel: PositiveInt = 1
    conv_bias: bool = False
    heads: NonNegativeInt
    rows: PositiveInt = 1
    columns: PositiveInt = 1
    operations: float = Field(5, gt=0)
    vectors: NonNegativeInt = 0
    state_bits: Bits = 16
    span: PositiveInt = 64

    @property
    def state_values(self) -> int:
        return self.heads * self.rows * self.columns

    def shard(self, ranks: int) -> Recurrence:
        """Heads are divided; what they share in groups smaller than ranks is repeated, which is left out."""
        if self.heads % ranks:
            raise InvalidInput(
                f"tensor_parallel {ranks} does not divide the {self.heads} state heads; choose a divisor"
            )
        return self.model_copy(
            update={
                "input_width": -(-self.input_width // ranks),
                "output_width": self.output_width // ranks,
                "inner": tuple((-(-n // ranks), k) for n, k in self.inner),
                "conv_channels": self.conv_channels // ranks,
                "heads": self.heads // ranks,
                "vectors": self.vectors // ranks,
            }
        )


class LayerKind(Validated):
    """What layers of one kind have in place of the model's usual parts.

    ``attention`` false: none. ``mlp`` dense: a feed-forward part that is not routed; none: no feed-forward part.
    ``window`` 0: all tokens, where the model has a sliding window. ``compress_ratio``: tokens for which one cached
    vector stands. ``formats``: of matrices that are not stored as the model's others.
    """

    attention: bool = True
    state: Recurrence | None = None
    mlp: Literal["usual", "dense", "none"] = "usual"
    moe: MixtureOfExperts | None = None
    window: NonNegativeInt | None = None
    chunk: PositiveInt | None = None
    num_heads: PositiveInt | None = None
    num_kv_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    value_dim: PositiveInt | None = None
    intermediate_size: PositiveInt | None = None
    latent: bool = True  # false: full heads where the model has latent attention
    index: SparseIndex | None = None
    compress_ratio: NonNegativeInt | None = None
    one_projection: bool = False
    shared_cache: bool = False
    sinks: bool | None = None
    vectors: NonNegativeInt = 0  # parameters a layer beside what its sublayers count
    formats: dict[Matrix, Stored] = Field(default_factory=dict)

    def shard(self, ranks: int) -> LayerKind:
        """What one rank of tensor parallelism holds of it."""
        shares: dict[str, object] = {
            name: max(1, value // ranks)
            for name in ("num_heads", "num_kv_heads", "intermediate_size")
            if (value := getattr(self, name)) is not None
        }
        if self.state is not None:
            shares["state"] = self.state.shard(ranks)
        if self.moe is not None:
            shares["moe"] = self.moe.shard(ranks)
        return self.model_copy(update=shares)

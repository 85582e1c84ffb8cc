"""One forward pass as kernels: what runs, how much it computes and moves.

A pass is a list of groups (sequences, new tokens each, KV length) that share one stream of weights. Its GEMMs have
M = Σ sequences·tokens rows; the LM head only the rows whose logits are wanted; attention is summed over groups.
Verify attention reads each sequence's cache once for all its new tokens: never one read a token.

Counts and lengths may be arrays of alternatives that broadcast like NumPy's, so that a whole map is priced at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal, Protocol

import numpy as np

from specsim.arrays import Reals
from specsim.errors import InvalidInput
from specsim.specs.deployment import ExpertGroup
from specsim.specs.feed_forward import Dense, Experts
from specsim.specs.formats import Stored, format_of
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import experts_work, product_work, value_bytes
from specsim.specs.model import Linear, ModelSpec
from specsim.specs.model_part import ModelPart, as_part
from specsim.specs.recurrent import Recurrent

Source = Literal["measured", "interpolated", "extrapolated", "borrowed", "roofline"]
SOURCES: tuple[Source, ...] = ("measured", "interpolated", "extrapolated", "borrowed", "roofline")  # best first
Part = Literal["gemm", "lm_head", "attention", "elementwise", "sampling", "communication"]


WIDEST_NARROW_CHUNK = 64  # tokens; wider chunks run by another tile of the kernel, see ``surfaces.efficiency``


@dataclass(frozen=True, slots=True)
class Group:
    """``sequences`` sequences of ``query_tokens`` new tokens each, ``kv_tokens`` keys in view once they are computed.

    ``logit_rows``: positions a sequence whose logits are wanted (all when verifying, the last after a prefill,
    none for a prompt chunk that is not the last).
    """

    sequences: Reals
    query_tokens: float  # whole, or the mean of a batch whose sequences verify different widths
    kv_tokens: Reals  # mean over the group's sequences, the new tokens included
    logit_rows: float = 1

    @property
    def tokens(self) -> Reals:
        return self.sequences * self.query_tokens

    @property
    def is_prefill(self) -> bool:
        """Prompt tokens, of which at most the last gets logits; decoding and verification want them all."""
        return self.query_tokens > max(1, self.logit_rows)


def one_prompt_kernel(groups: Sequence[Group]) -> list[Group]:
    """The groups as attention kernels run them: wide prompt chunks of a pass in one, of mean length Σ q²/Σ q.

    Engines call one kernel for sequences of any lengths (varlen). Tokens, pairs of tokens inside chunks and pairs
    with what lies before them stay as they are. Narrow chunks read more than they compute, and stay apart.
    """
    wide = [group.is_prefill and group.query_tokens > WIDEST_NARROW_CHUNK for group in groups]
    chunks = list(compress(groups, wide))
    if len(chunks) < 2:
        return list(groups)
    tokens = sum((group.tokens for group in chunks), 0.0)
    length = sum((group.tokens * group.query_tokens for group in chunks), 0.0) / tokens
    before = sum((group.tokens * (group.kv_tokens - group.query_tokens) for group in chunks), 0.0) / tokens
    whole = Group(tokens / length, float(length), length + before, 0)
    return [*(group for group, joins in zip(groups, wide, strict=True) if not joins), whole]


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits of weights and cache, the formats of both, and the dtype of activations.

    ``weights`` is the format in which this hardware multiplies them (specs/formats). The LM head and everything else
    stays in ``dtype``.
    """

    weight_bits: float
    kv_bits: float
    dtype: str
    weights: str = "bfloat16"
    kv: str = "bfloat16"
    hardware: Hardware | None = None  # which multiplies matrices of other formats; None: there are none

    @classmethod
    def on(cls, hardware: Hardware, weights: Stored | float, kv_bits: float = 16) -> Precision:
        """How an engine runs weights (or plain bits of them) and a cache of so many bits on this hardware.

        Hardware that computes no 16-bit floats keeps 16-bit weights and cache in float32. Raises InvalidInput for a
        number of bits for which engines have no kernel, and for a format that nothing runs here.
        """
        stored = weights if isinstance(weights, Stored) else Stored.of_bits(weights)
        if stored.format is None and (5 <= stored.bits < 8 or 9 <= stored.bits < 16):
            raise InvalidInput(
                f"weight_bits is {stored.bits:g} and engines multiply weights of 16, 8, 4 or fewer bits (scales not "
                "counted); choose one of these"
            )
        bits = stored.bits
        if not hardware.computes_16_bit_floats:
            bits, kv_bits = (32 if one == 16 else one for one in (bits, kv_bits))
        rates = hardware.flops_per_s
        half = "float16" if "float16" in rates and "bfloat16" not in rates else "bfloat16"
        wide = bits == 32 or not hardware.computes_16_bit_floats
        dtype = "float32" if wide and "float32" in rates else half
        narrow = "fp8" if "fp8" in rates or hardware.kind == "cpu" else half
        kv = {8: narrow, 32: "float32"}.get(int(kv_bits), half)
        return cls(bits, kv_bits, dtype, stored.format_on(hardware, dtype), kv, hardware)

    def stored(self, stored: Stored | None) -> Precision:
        """The same for a matrix that is stored so; None: as they are."""
        if stored is None or self.hardware is None:
            return self
        weights = stored.format_on(self.hardware, self.dtype)
        bits = max(stored.bits, self.activation_bytes * 8) if weights == self.dtype else stored.bits
        return replace(self, weight_bits=bits, weights=weights)

    @property
    def kv_read_bytes(self) -> float:
        """Of a cached value, as attention takes time for it.

        Hardware without FP8 widens values of 8 bits before it multiplies, which costs what it saves in reading: on an
        A100 an FP8 cache decodes 0.4 to 5.5 % faster from 1k to 16k tokens (vLLM issue 42058, 0.26, Qwen3-8B).
        """
        return 2.0 if self.kv_bits == 8 and self.kv != "fp8" else self.kv_bits / 8

    @property
    def activation_bytes(self) -> float:
        return 4.0 if self.dtype == "float32" else 2.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """``count`` launches of the same kernel. ``shape`` holds the profile's shape columns of class ``kind``."""

    kind: str  # profile class: gemm, attention, elementwise, sampling, moe, collective
    part: Part
    shape: tuple[Reals, ...]
    operation: str  # elementwise, sampling, collective: which; attention: empty (causal) or tree; else empty
    dtype: str  # format of what it streams: weights, cache or activations
    count: Reals
    flops: Reals  # one launch
    bytes: Reals  # one launch, what must cross memory if nothing is cached
    quantises: bool = False  # whether a kernel of its own has to quantise what goes in


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of one kernel launch. ``relative_error``: one standard deviation, as a share of the seconds."""

    seconds: Reals
    rank: Reals  # of its source, in SOURCES
    relative_error: Reals
    compute_bound: Reals  # 1 where the roofline says FLOPs, 0 where it says bytes


class KernelPrices(Protocol):
    """Where kernel times come from: a profile, or a roofline."""

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """Seconds of one launch; ``warm``: its weights were read a moment ago and fit the last-level cache."""
        ...

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        """Measured host seconds of ``part`` (HOST_PARTS of cost/measured); None where not measured."""
        ...

    @property
    def name(self) -> str:
        """Profile name, or ``roofline``."""
        ...

    @property
    def machine_error(self) -> float:
        """Relative error that all kernels share: the machine's own drift, or its distance from a datasheet."""
        ...


def token_kernels(
    model: ModelSpec | ModelPart,
    tokens: Reals,
    rows: Reals,
    precision: Precision,
    experts: ExpertGroup | None = None,
    *,
    fused: bool = False,
    quantised_inside: bool = False,
) -> Iterator[Kernel]:
    """Everything of a pass but attention: it depends on the token count and the rows of logits alone.

    ``model`` is one rank's share (``ModelPart.shard``), or a whole model. With ``experts`` the routed ones see the
    tokens of all replicas that share them. ``fused``: elementwise kernels as serving engines compile them, else one
    for each operation. ``quantised_inside``: norms and activations write what goes into narrow products as these want
    it, so that only what attention writes has to be quantised by a kernel of its own.
    """
    routed_tokens = tokens if experts is None else tokens * experts.data_parallel * experts.imbalance
    part = as_part(model)
    for linear in part.linears():
        m = rows if linear.on_rows else tokens
        if not linear.routed and np.any(m):
            yield _gemm(linear, m, precision, apart=not quantised_inside or linear.name == "attention_output")
    for routed, layers in part.stack.feed_forward:
        if isinstance(routed, Experts):
            yield _experts(routed, layers, part.model.hidden_size, routed_tokens, precision)
    yield from _elementwise(part, tokens, precision, fused=fused)


def sampling_kernels(
    operation: str, rows: Reals, vocab_size: int, heads: int = 1, logit_bytes: float = 4.0
) -> Iterator[Kernel]:
    """Choosing tokens from ``rows`` rows of logits of each head; so many bytes of each are moved."""
    if np.any(rows):
        size, shape = rows * vocab_size, (rows, float(vocab_size))
        yield Kernel("sampling", "sampling", shape, operation, "", heads, 2.0 * size, logit_bytes * size)


def _gemm(linear: Linear, m: Reals, precision: Precision, *, apart: bool) -> Kernel:
    head = linear.name == "lm_head"
    wide, stored = precision.activation_bytes, precision.stored(linear.stored)
    dtype = precision.dtype if head else stored.weights
    moved, flops = product_work(
        m, linear.n, linear.k, weight_bytes=wide if head else stored.weight_bits / 8, value_bytes=value_bytes(dtype)
    )
    shape = (m, float(linear.n), float(linear.k))
    quantises = apart and format_of(dtype).activation_bits < 16
    return Kernel("gemm", "lm_head" if head else "gemm", shape, "", dtype, linear.count, flops, moved, quantises)


def _experts(routed: Experts, layers: int, hidden_size: int, tokens: Reals, precision: Precision) -> Kernel:
    """One routed layer, the activation between its products included."""
    moe, stored = routed.moe, stored_experts(routed, precision)
    hidden, inner = moe.latent_size or hidden_size, moe.intermediate_size
    moved, flops = experts_work(
        tokens,
        hidden,
        inner,
        moe.num_experts,
        moe.experts_per_token,
        weight_bytes=stored.weight_bits / 8,
        value_bytes=value_bytes(stored.weights),
        gated=routed.gated,
    )
    shape = (tokens, float(hidden), float(inner), float(moe.num_experts), float(moe.experts_per_token))
    return Kernel("moe", "gemm", shape, "", stored.weights, layers, flops, moved)


def stored_experts(routed: Experts, precision: Precision) -> Precision:
    """The precision of routed experts' weights."""
    return precision.stored(dict(routed.formats).get("expert_gate_up"))


def _elementwise(part: ModelPart, tokens: Reals, precision: Precision, *, fused: bool) -> Iterator[Kernel]:
    """Norms, rotary, cache write, activation, residual adds and the embedding; widths in values a token.

    ``fused``: as serving engines compile them, a residual add is the norm's that follows it: one kernel that reads the
    sublayer's output and the residual and writes the sum and its norm (vLLM ``fused_add_rms_norm``, and what Inductor
    makes of the same operations). Rotary and the cache write stay two kernels: vLLM 0.24 joins them on AMD only.
    """
    model, sublayers = part.model, part.mixers + part.feed_forward
    hidden, norms = model.hidden_size, model.norms_per_layer * sublayers / 2 + part.final_norm
    attention = [(one, count) for one, count in part.stack.mixers if not isinstance(one, Recurrent)]
    joined = min(norms, sublayers) if fused else 0
    operations: list[tuple[str, float, float, int]] = [
        ("embedding", hidden, int(part.embedding), 2),
        ("add_norm", hidden, joined, 4),
        ("norm", hidden, norms - joined, 2),
        *(("rotary", one.rotary_values, count, 2) for one, count in attention),
        *(("kv_write", one.token_values, count, 2) for one, count in attention),
        *(
            ("activation", one.intermediate_size, count, 3 if one.gated else 2)
            for one, count in part.stack.feed_forward
            if isinstance(one, Dense)
        ),
        ("add", hidden, sublayers - joined, 3),
    ]
    for operation, width, count, passes in operations:
        if count and width and np.any(tokens):
            moved = passes * tokens * width * precision.activation_bytes
            shape, flops = (tokens, float(width)), 5.0 * tokens * width
            yield Kernel("elementwise", "elementwise", shape, operation, precision.dtype, count, flops, moved)

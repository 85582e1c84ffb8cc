"""What a pass of a Llama-style transformer computes, for real, on a CPU or a CUDA GPU.

A pass is a list of groups that share one stream of weights: GEMMs see the tokens of all groups at once, attention
runs group by group. Its kernels are those of ``kernels``.
The file knows nothing of where weights come from (see ``weights``), of sampling or of speculation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specsim.errors import InvalidInput
from specsim.reference.kernels import (
    add,
    attend,
    attention_mask,
    embed,
    gated_activation,
    linear,
    rms_norm,
    rotary,
    write_cache,
)
from specsim.reference.weights import LayerWeights, Weights, random_weights
from specsim.specs.model import ModelSpec

# On a CPU a run of sequences is cut where padding the shorter ones to the longest would read more keys than this:
# about what one more attention call costs (8 us) at the 20 GB/s that attention reads on two cores.
SPARE_KEY_BYTES = 160_000


@dataclass(slots=True)
class Group:
    """Sequences of equal width in one pass. The last ``logit_rows`` positions of each get logits."""

    slots: NDArray[np.int64]  # [n], ascending where their caches should be read in place
    tokens: Tensor  # [n, width]
    starts: NDArray[np.int64]  # [n], position of each sequence's first new token
    logit_rows: int


@dataclass(slots=True)
class _Run:
    """One attention call: tokens [first, last) of the pass, whose caches are one slice (or index) of slots."""

    first: int
    last: int
    sequences: int
    slots: slice | Tensor
    keys: int
    mask: Tensor | None


@dataclass(slots=True)
class Plan:
    """A pass ready to run: everything that does not depend on a layer, built once and shared by all."""

    tokens: Tensor  # [tokens]
    cos: Tensor  # [tokens, 1, head_dim]
    sin: Tensor
    rows: Tensor  # [tokens, kv_heads]
    runs: list[_Run]
    wanted: Tensor | None  # rows of logits; None: every token


@dataclass(slots=True)
class _Layer(LayerWeights):
    keys: Tensor  # [slots, kv_heads, max_length, head_dim]
    values: Tensor


class Transformer:
    """A decoder with its KV cache of ``max_sequences`` slots of ``max_length`` positions.

    Without ``weights`` they are drawn: two transformers of one spec and seed are the same; ``noise`` moves every
    matrix by that share of its own spread, which makes a draft that agrees with its target in part.
    """

    def __init__(
        self, spec: ModelSpec, *, device: str, dtype: torch.dtype, max_sequences: int, max_length: int, seed: int = 0,
        noise: float = 0.0, weights: Weights | None = None,
    ) -> None:  # fmt: skip
        require_llama(spec)
        self.spec, self.dtype, self.device = spec, dtype, torch.device(device)
        self.max_length, self.max_sequences = max_length, max_sequences
        shape = (spec.num_layers, 2, max_sequences, spec.num_kv_heads, max_length, spec.head_dim)
        self.cache = torch.zeros(shape, dtype=dtype, device=self.device)
        with torch.inference_mode():
            if weights is None:
                weights = random_weights(spec, device=self.device, dtype=dtype, seed=seed, noise=noise)
            self._cos, self._sin = _rotary_tables(max_length, spec.head_dim, weights.rotary_base, dtype, self.device)
            self._epsilon = weights.norm_epsilon
            self._table, self._head, self._norm = weights.table, weights.head, weights.norm
            self._layers = [self._layer(*pair) for pair in zip(self.cache, weights.layers, strict=True)]

    @staticmethod
    def _layer(cache: Tensor, weights: LayerWeights) -> _Layer:
        fields = {name: getattr(weights, name) for name in LayerWeights.__slots__}
        return _Layer(**fields, keys=cache[0], values=cache[1])

    @torch.inference_mode()
    def plan(self, groups: Sequence[Group]) -> Plan:
        """Positions, cache rows, masks and wanted rows of a pass over ``groups``."""
        spec = self.spec
        places = [g.starts[:, None] + np.arange(g.tokens.shape[1]) for g in groups]
        stride = spec.num_kv_heads * self.max_length
        first_rows = [(g.slots[:, None] * stride + p).ravel() for g, p in zip(groups, places, strict=True)]
        rows = np.concatenate(first_rows)[:, None] + self.max_length * np.arange(spec.num_kv_heads)
        positions = self._tensor(np.concatenate([p.ravel() for p in places]))
        runs: list[_Run] = []
        first = 0
        for group in groups:
            last = first + group.tokens.numel()
            runs.extend(self._runs(group, positions[first:last], first))
            first = last
        flat = [g.tokens.reshape(-1) for g in groups]
        return Plan(
            tokens=flat[0] if len(flat) == 1 else torch.cat(flat),
            cos=self._cos[positions], sin=self._sin[positions], rows=self._tensor(rows), runs=runs,
            wanted=self._wanted(groups),
        )  # fmt: skip

    def _runs(self, group: Group, positions: Tensor, first: int) -> Iterator[_Run]:
        width = group.tokens.shape[1]
        lengths = (group.starts + width).tolist()
        slots = group.slots.tolist()
        masks: Tensor | None = None
        for begin, end in self._cuts(slots, lengths):
            keys = max(lengths[begin:end])
            ragged = width > 1 or min(lengths[begin:end]) < keys
            if ragged and masks is None:
                fold = self.spec.num_heads // self.spec.num_kv_heads
                masks = attention_mask(positions.view(-1, width), max(lengths), fold, self.dtype)
            adjacent = slots[end - 1] - slots[begin] == end - begin - 1
            yield _Run(
                first=first + begin * width, last=first + end * width, sequences=end - begin, keys=keys,
                slots=slice(slots[begin], slots[end - 1] + 1) if adjacent else self._tensor(group.slots[begin:end]),
                mask=masks[begin:end, :, :, :keys] if ragged and masks is not None else None,
            )  # fmt: skip

    def _cuts(self, slots: list[int], lengths: list[int]) -> Iterator[tuple[int, int]]:
        """Where one attention call ends and the next begins; on a GPU a launch costs more than padding saves."""
        begin, longest, total = 0, lengths[0], lengths[0]
        if self.device.type == "cpu":
            spare = SPARE_KEY_BYTES / (self.cache.element_size() * self.spec.kv_values_per_token())
            for index in range(1, len(slots)):
                length = lengths[index]
                longest, total = max(longest, length), total + length
                if slots[index] != slots[index - 1] + 1 or longest * (index + 1 - begin) - total > spare:
                    yield begin, index
                    begin, longest, total = index, length, length
        yield begin, len(slots)

    def _wanted(self, groups: Sequence[Group]) -> Tensor | None:
        if all(g.logit_rows == g.tokens.shape[1] for g in groups):
            return None
        pieces, first = [], 0
        for group in groups:
            n, width = group.tokens.shape
            offsets = first + width * np.arange(n)[:, None] + np.arange(width - group.logit_rows, width)
            pieces.append(offsets.ravel())
            first += n * width
        return self._tensor(np.concatenate(pieces))

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    @torch.inference_mode()
    def run(self, plan: Plan) -> Tensor:
        """Compute a planned pass, cache its keys and values; logits [wanted rows, vocab] in the groups' order."""
        x = embed(plan.tokens, self._table)
        for layer in self._layers:
            add(x, self._attention(rms_norm(x, layer.attention_norm, self._epsilon), layer, plan))
            gate_up = linear(rms_norm(x, layer.mlp_norm, self._epsilon), layer.gate_up)
            add(x, linear(gated_activation(gate_up), layer.down))
        wanted = x if plan.wanted is None else x[plan.wanted]
        return linear(rms_norm(wanted, self._norm, self._epsilon), self._head)

    def _attention(self, x: Tensor, layer: _Layer, plan: Plan) -> Tensor:
        heads, kv_heads, head_dim = self.spec.num_heads, self.spec.num_kv_heads, self.spec.head_dim
        qkv = linear(x, layer.qkv).view(-1, heads + 2 * kv_heads, head_dim)
        turned = rotary(qkv[:, : heads + kv_heads], plan.cos, plan.sin)
        write_cache(layer.keys, plan.rows, turned[:, heads:])
        write_cache(layer.values, plan.rows, qkv[:, heads + kv_heads :])
        mixed = [self._attend(turned[run.first : run.last, :heads], layer, run) for run in plan.runs]
        return linear(mixed[0] if len(mixed) == 1 else torch.cat(mixed), layer.attention_output)

    def _attend(self, queries: Tensor, layer: _Layer, run: _Run) -> Tensor:
        keys, values = layer.keys[run.slots, :, : run.keys], layer.values[run.slots, :, : run.keys]
        grouped = queries.reshape(run.sequences, -1, *queries.shape[1:])
        return attend(grouped, keys, values, run.mask).view(queries.shape[0], -1)

    def forward(self, groups: Sequence[Group]) -> Tensor:
        """Plan and run."""
        return self.run(self.plan(groups))

    @torch.inference_mode()
    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` cached positions of one slot to another."""
        self.cache[:, :, target, :, :length] = self.cache[:, :, source, :, :length]


def _rotary_tables(
    length: int, head_dim: int, base: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos and sign-folded sin (arXiv 2104.09864), halves paired as in Llama; each [length, 1, head_dim]."""
    frequencies = base ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = torch.from_numpy(np.outer(np.arange(length), frequencies))
    cos, sin = angles.cos(), angles.sin()
    pairs = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return pairs[0][:, None].to(device, dtype), pairs[1][:, None].to(device, dtype)


def require_llama(spec: ModelSpec) -> None:
    """Raises InvalidInput for anything but RMSNorm, rotary, gated MLP without biases."""
    unsupported = {
        "moe": spec.moe, "mla": spec.mla, "qkv_bias": spec.qkv_bias, "linear_bias": spec.linear_bias,
        "norm_bias": spec.norm_bias, "qk_norm": spec.qk_norm, "learned_positions": spec.learned_positions,
        "sliding_window": spec.sliding_window, "an ungated MLP": not spec.gated_mlp,
        "an odd head_dim": spec.head_dim % 2,
    }  # fmt: skip
    found = [name for name, present in unsupported.items() if present]
    if found:
        raise InvalidInput(
            f"{spec.name} has {', '.join(found)}; the reference engine runs Llama-style models only: choose one"
        )


def torch_dtype(bits: float) -> torch.dtype:
    """The dtype that stores weights of ``bits`` bits; 16 is bfloat16."""
    dtypes = {64.0: torch.float64, 32.0: torch.float32, 16.0: torch.bfloat16}
    if float(bits) not in dtypes:
        raise InvalidInput(f"weights of {bits:g} bits; the reference engine stores 16, 32 or 64: set weight_bits")
    return dtypes[float(bits)]

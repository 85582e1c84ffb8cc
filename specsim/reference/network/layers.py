"""Decoder layers with a KV cache, and the passes that they run.

A pass is a list of groups that share one stream of weights: GEMMs see the tokens of all groups at once, attention
runs group by group. Its kernels are those of ``kernels``. A **place** is where a token's keys and values stand in its
slot, a **position** is what its rotary angle says; they differ in draft trees only, whose branches stand one behind
the other. The file knows nothing of vocabularies, of sampling or of speculation.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.network.graphs import Graphs
from specsim.reference.network.kernels import (
    add,
    attend,
    attention_mask,
    branch_mask,
    gated_activation,
    linear,
    rms_norm,
    rotary,
    write_cache,
)
from specsim.reference.network.passes import AttentionCall, Compute, PassPlan, TokenGroup
from specsim.reference.network.transformer_weights import LayerWeights
from specsim.specs.model import ModelSpec

# On a CPU a run of sequences is cut where padding the shorter ones to the longest would read more keys than this:
# twice what one more attention call costs inside a pass (45 us) at the 7 GB/s that attention reads there on two cores,
# because both sides of a cut go on wasting. 3 to 5 % of a pass of 32 sequences beside cuts at a quarter of it.
SPARE_KEY_BYTES = 600_000


@dataclass(frozen=True, slots=True)
class Sublayers:
    """Which attention and feed-forward sublayers run, by layer; the others pass their input on."""

    attention: tuple[bool, ...]
    mlp: tuple[bool, ...]


@dataclass(slots=True, kw_only=True)
class _Layer(LayerWeights):
    keys: Tensor  # [slots, kv_heads, max_length, head_dim]
    values: Tensor


class Layers:
    """Layers of ``spec``'s attention shape with a cache of ``max_sequences`` slots of ``max_length`` places.

    Caches and kept states have one slot more, a scratch slot for tokens that only fill up a captured pass.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Iterable[LayerWeights],
        *,
        rotary_base: float,
        norm_epsilon: float,
        device: torch.device,
        dtype: torch.dtype,
        max_sequences: int,
        max_length: int,
    ) -> None:
        self.spec, self.dtype, self.device = spec, dtype, device
        self.max_length, self.max_sequences = max_length, max_sequences
        shape = (spec.num_layers, 2, max_sequences + 1, spec.num_kv_heads, max_length, spec.head_dim)
        self.cache = torch.zeros(shape, dtype=dtype, device=device)
        self.kept: dict[int, Tensor] = {}  # after so many layers: states by place, [slots, max_length, hidden]
        self.graphs: Graphs | None = None  # None: every pass runs eagerly
        self._epsilon = norm_epsilon
        self._cos, self._sin = _rotary_tables(max_length, spec.head_dim, rotary_base, dtype, device)
        self._layers = [_layer(*pair) for pair in zip(self.cache, weights, strict=True)]

    def keep_states(self, after: int) -> Tensor:
        """From now on keep the states after so many layers, of every token that is computed."""
        if after not in self.kept:
            shape = (self.max_sequences + 1, self.max_length, self.spec.hidden_size)
            self.kept[after] = torch.zeros(shape, dtype=self.dtype, device=self.device)
            if self.graphs is not None:
                self.graphs.clear()
        return self.kept[after]

    def compute(
        self, name: Hashable, groups: Sequence[TokenGroup], function: Compute, *, states: bool = False
    ) -> tuple[Tensor, ...]:
        """What a function makes of the plan of a pass; replayed from a captured graph where there is one.

        ``name`` tells functions apart; equal names compute the same. Every result has a row for each row of logits
        that the groups want, in their order, and may be overwritten by the next pass of this stack.
        """
        if self.graphs is not None and (found := self.graphs.run(name, groups, function)) is not None:
            return found
        return function(self.plan(groups, states=states))

    @torch.inference_mode()
    def plan(self, groups: Sequence[TokenGroup], *, states: bool = False) -> PassPlan:
        """Positions, cache rows, masks and wanted rows of a pass over ``groups``.

        ``states``: also where kept states stand, which a plan has anyway if this stack keeps any.
        """
        spec, places = self.spec, [g.places() for g in groups]
        stride = spec.num_kv_heads * self.max_length
        first_rows = [(g.slots[:, None] * stride + p).ravel() for g, p in zip(groups, places, strict=True)]
        rows = np.concatenate(first_rows)[:, None] + self.max_length * np.arange(spec.num_kv_heads)
        kept = None
        if states or self.kept:
            flat = [(g.slots[:, None] * self.max_length + p).ravel() for g, p in zip(groups, places, strict=True)]
            kept = self._tensor(np.concatenate(flat))
        positions = self._tensor(np.concatenate([g.positions().ravel() for g in groups]))
        cos, sin = self.turns(positions)
        runs: list[AttentionCall] = []
        first = 0
        for group in groups:
            last = first + group.tokens.numel()
            runs.extend(self._runs(group, positions[first:last], first))
            first = last
        tokens = [g.tokens.reshape(-1) for g in groups]
        return PassPlan(
            tokens=tokens[0] if len(tokens) == 1 else torch.cat(tokens),
            cos=cos,
            sin=sin,
            rows=self._tensor(rows),
            runs=runs,
            wanted=self._wanted(groups),
            states=kept,
            carried=_carried(groups),
        )

    def turns(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary cos and sin of positions [n]; each [n, 1, head_dim]."""
        return self._cos[positions], self._sin[positions]

    def _runs(self, group: TokenGroup, positions: Tensor, first: int) -> Iterator[AttentionCall]:
        width = group.width
        lengths = (group.starts + width).tolist()
        slots = group.slots.tolist()
        masks: Tensor | None = None
        for begin, end in self._cuts(slots, lengths):
            keys = max(lengths[begin:end])
            ragged = width > 1 or group.branches is not None or min(lengths[begin:end]) < keys
            if ragged and masks is None:
                masks = self._masks(group, positions.view(-1, width), max(lengths))
            adjacent = slots[end - 1] - slots[begin] == end - begin - 1
            yield AttentionCall(
                first=first + begin * width,
                last=first + end * width,
                sequences=end - begin,
                keys=keys,
                slots=slice(slots[begin], slots[end - 1] + 1) if adjacent else self._tensor(group.slots[begin:end]),
                mask=masks[begin:end, :, :, :keys] if ragged and masks is not None else None,
            )

    def _masks(self, group: TokenGroup, positions: Tensor, keys: int) -> Tensor:
        fold, branches = self.spec.num_heads // self.spec.num_kv_heads, group.branches
        if branches is None:
            return attention_mask(positions, keys, fold, self.dtype)
        seen = torch.from_numpy(branches.seen).to(self.device)
        return branch_mask(seen, self._tensor(group.starts - branches.before), keys, fold, self.dtype)

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

    def _wanted(self, groups: Sequence[TokenGroup]) -> Tensor | None:
        if all(g.logit_rows == g.width for g in groups):
            return None
        pieces, first = [], 0
        for group in groups:
            n, width = group.tokens.shape
            offsets = first + width * np.arange(n)[:, None] + np.arange(width - group.logit_rows, width)
            pieces.append(offsets.ravel())
            first += n * width
        return self._tensor(np.concatenate(pieces))

    def _tensor(self, array: Integers) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    @torch.inference_mode()
    def advance(
        self, x: Tensor, plan: PassPlan, first: int = 0, last: int | None = None, only: Sublayers | None = None
    ) -> Tensor:
        """Take states x [tokens, hidden] in place through layers ``first`` to ``last`` - 1; caches keys and values."""
        for index in range(first, len(self._layers) if last is None else last):
            layer = self._layers[index]
            if only is None or only.attention[index]:
                add(x, self._attention(self.norm(x, layer.attention_norm), layer, plan))
            if layer.gate_up is not None and layer.down is not None and (only is None or only.mlp[index]):
                gate_up = linear(self.norm(x, layer.mlp_norm), layer.gate_up)
                add(x, linear(gated_activation(gate_up), layer.down))
            if index + 1 in self.kept and index + 1 < len(self._layers):
                self.store(index + 1, plan, x)
        return x

    def norm(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """RMSNorm, or x itself where a layer has none."""
        return x if weight is None else rms_norm(x, weight, self._epsilon)

    def store(self, after: int, plan: PassPlan, x: Tensor) -> None:
        """Keep the states of a pass."""
        self.kept[after].view(-1, x.shape[-1]).index_put_((plan.states,), x)

    def stored(self, after: int, plan: PassPlan) -> Tensor:
        """A copy of the states kept of a pass's tokens, [tokens, hidden]."""
        assert plan.states is not None
        return self.kept[after].view(-1, self.spec.hidden_size)[plan.states]

    def _attention(self, x: Tensor, layer: _Layer, plan: PassPlan) -> Tensor:
        heads, kv_heads, head_dim = self.spec.num_heads, self.spec.num_kv_heads, self.spec.head_dim
        qkv = linear(x, layer.qkv).view(-1, heads + 2 * kv_heads, head_dim)
        turned = rotary(qkv[:, : heads + kv_heads], plan.cos, plan.sin)
        write_cache(layer.keys, plan.rows, turned[:, heads:])
        write_cache(layer.values, plan.rows, qkv[:, heads + kv_heads :])
        mixed = [self._attend(turned[run.first : run.last, :heads], layer, run) for run in plan.runs]
        if plan.spare:
            mixed.append(mixed[0].new_zeros(plan.spare, mixed[0].shape[1]))
        return linear(mixed[0] if len(mixed) == 1 else torch.cat(mixed), layer.attention_output)

    def _attend(self, queries: Tensor, layer: _Layer, run: AttentionCall) -> Tensor:
        keys, values = layer.keys[run.slots, :, : run.keys], layer.values[run.slots, :, : run.keys]
        grouped = queries.reshape(run.sequences, -1, *queries.shape[1:])
        return attend(grouped, keys, values, run.mask).view(queries.shape[0], -1)

    @torch.inference_mode()
    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` places of one slot to another."""
        self.cache[:, :, target, :, :length] = self.cache[:, :, source, :, :length]
        for states in self.kept.values():
            states[target, :length] = states[source, :length]

    @torch.inference_mode()
    def relocate(self, slots: Integers, sources: Integers, targets: Integers) -> None:
        """Copy single places within their slots, all at once; arrays [m]."""
        where, here, there = (self._tensor(array) for array in (slots, sources, targets))
        self.cache[:, :, where, :, there] = self.cache[:, :, where, :, here]
        for states in self.kept.values():
            states[where, there] = states[where, here]


def _carried(groups: Sequence[TokenGroup]) -> Tensor | None:
    found = [group.carried.flatten(0, 1) for group in groups if group.carried is not None]
    return torch.cat(found) if found else None


def _layer(cache: Tensor, weights: LayerWeights) -> _Layer:
    fields = {name: getattr(weights, name) for name in LayerWeights.__slots__}
    return _Layer(**fields, keys=cache[0], values=cache[1])


def _rotary_tables(
    length: int, head_dim: int, base: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos and sign-folded sin (arXiv 2104.09864), halves paired as in Llama; each [length, 1, head_dim]."""
    frequencies = base ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = torch.from_numpy(np.outer(np.arange(length), frequencies))
    cos, sin = angles.cos(), angles.sin()
    pairs = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return pairs[0][:, None].to(device, dtype), pairs[1][:, None].to(device, dtype)

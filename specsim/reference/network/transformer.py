"""What a Llama-style transformer computes, for real, on a CPU or a CUDA GPU: its layers between embedding and head.

The file knows nothing of where weights come from (see ``weights``), of sampling or of speculation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specsim.errors import InvalidInput
from specsim.reference.network.kernels import embed, linear
from specsim.reference.network.layers import Layers
from specsim.reference.network.passes import PassPlan, TokenGroup
from specsim.reference.network.transformer_weights import TransformerWeights, random_weights
from specsim.specs.model import ModelSpec

__all__ = ["PassPlan", "TokenGroup", "Transformer", "require_llama", "torch_dtype"]


class Transformer(Layers):
    """A decoder with its KV cache of ``max_sequences`` slots of ``max_length`` places.

    Without ``weights`` they are drawn: two transformers of one spec and seed are the same; ``noise`` moves every
    matrix by that share of its own spread, which makes a draft that agrees with its target in part.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        device: str,
        dtype: torch.dtype,
        max_sequences: int,
        max_length: int,
        seed: int = 0,
        noise: float = 0.0,
        weights: TransformerWeights | None = None,
    ) -> None:
        require_llama(spec)
        where = torch.device(device)
        with torch.inference_mode():
            if weights is None:
                weights = random_weights(spec, device=where, dtype=dtype, seed=seed, noise=noise)
            self._table, self._head, self._norm = weights.table, weights.head, weights.norm
            super().__init__(
                spec,
                weights.layers,
                rotary_base=weights.rotary_base,
                norm_epsilon=weights.norm_epsilon,
                device=where,
                dtype=dtype,
                max_sequences=max_sequences,
                max_length=max_length,
            )

    @torch.inference_mode()
    def run(self, plan: PassPlan, first: int = 0) -> Tensor:
        """Compute a planned pass, cache its keys and values; logits [wanted rows, vocab] in the groups' order.

        With ``first`` the layers below have run on all its tokens, whose states after them were kept.
        """
        x = self.stored(first, plan) if first else self.embed(plan.tokens)
        return self.finish(self.advance(x, plan, first), plan)

    @torch.inference_mode()
    def embed(self, tokens: Tensor) -> Tensor:
        """Rows of the embedding table, [tokens, hidden]."""
        return embed(tokens, self._table)

    @torch.inference_mode()
    def finish(self, x: Tensor, plan: PassPlan, *, keep: bool = True) -> Tensor:
        """Logits of the wanted rows of states x that all layers, or an early exit's, have seen.

        States kept after the last layer are the normed ones that the head reads; not with ``keep`` false.
        """
        last = self.spec.num_layers
        if keep and last in self.kept:
            x = self.norm(x, self._norm)
            self.store(last, plan, x)
            return self.head(x if plan.wanted is None else x[plan.wanted])
        return self.read(x if plan.wanted is None else x[plan.wanted])

    @torch.inference_mode()
    def read(self, x: Tensor) -> Tensor:
        """Logits of states x [n, hidden] as some layer leaves them."""
        return self.head(self.norm(x, self._norm))

    @torch.inference_mode()
    def head(self, states: Tensor) -> Tensor:
        """Logits of normed states."""
        return linear(states, self._head)

    def forward(self, groups: Sequence[TokenGroup], first: int = 0) -> Tensor:
        """PassPlan and run, or replay; the logits may be overwritten by the next pass."""
        (logits,) = self.compute(("whole", first), groups, lambda plan: (self.run(plan, first),))
        return logits


def require_llama(spec: ModelSpec) -> None:
    """Raises InvalidInput for anything but RMSNorm, rotary, gated MLP without biases."""
    unsupported = {
        "moe": spec.moe,
        "mla": spec.mla,
        "qkv_bias": spec.qkv_bias,
        "linear_bias": spec.linear_bias,
        "norm_bias": spec.norm_bias,
        "qk_norm": spec.qk_norm,
        "learned_positions": spec.learned_positions,
        "sliding_window": spec.sliding_window,
        "an ungated MLP": not spec.gated_mlp,
        "layer_kinds": spec.layer_kinds,
        "output_bias": spec.output_bias,
        "output_gate": spec.output_gate,
        "sinks": spec.sinks,
        "value_dim": spec.value_dim,
        "norms_per_layer": spec.norms_per_layer != 2,
        "an odd head_dim": spec.head_dim % 2,
    }
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

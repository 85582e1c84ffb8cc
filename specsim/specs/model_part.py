"""A part of a model: some of its layers, its head, or matrices that a drafter adds. A whole model is one too.

What a pass runs and what memory holds are parts: a drafter may run two of the target's layers and a head of its own.
Attention and feed-forward sublayers are counted apart, since drafters skip them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from specsim.specs.model import Linear, ModelSpec


@dataclass(frozen=True, slots=True)
class ModelPart:
    """``model`` gives the shapes; a part runs so many sublayers of each kind, and more matrices.

    ``heads`` are products that give logits, ``matrices`` others. ``cached``: attention keeps keys and values from pass
    to pass; else it sees the tokens of its own pass alone.
    """

    model: ModelSpec
    attention: int = 0  # sublayers
    dense: int = 0  # feed-forward sublayers that are not routed
    routed: int = 0
    embedding: bool = False
    final_norm: bool = False
    heads: tuple[Linear, ...] = ()
    matrices: tuple[Linear, ...] = ()
    cached: bool = True

    @classmethod
    def whole(cls, model: ModelSpec) -> ModelPart:
        """All of a model."""
        dense = model.dense_layers
        return cls(
            model,
            model.num_layers,
            dense,
            model.num_layers - dense,
            embedding=True,
            final_norm=True,
            heads=(model.lm_head(),),
        )

    @classmethod
    def layers(cls, model: ModelSpec, first: int, last: int) -> ModelPart:
        """Layers first to last - 1; the embedding if it begins the model, norm and head if it ends it."""
        dense = min(last, model.dense_layers) - min(first, model.dense_layers)
        ends = last == model.num_layers
        return cls(
            model,
            last - first,
            dense,
            last - first - dense,
            embedding=first == 0,
            final_norm=ends,
            heads=(model.lm_head(),) if ends else (),
        )

    @property
    def feed_forward(self) -> int:
        return self.dense + self.routed

    def linears(self) -> tuple[Linear, ...]:
        """Every weight matrix of the part."""
        model = self.model
        return (
            *model.attention_linears(self.attention),
            *model.dense_linears(self.dense),
            *model.expert_linears(self.routed),
            *self.matrices,
            *self.heads,
        )

    def layer_windows(self) -> tuple[tuple[float, int | None], ...]:
        """(attention sublayers, tokens they look back on or None for all); kinds in the model's own proportion."""
        model = self.model
        if self.attention == model.num_layers:
            return model.layer_windows()
        share = self.attention / model.num_layers
        return tuple((layers * share, window) for layers, window in model.layer_windows() if self.attention)

    def active_parameters(self) -> int:
        """Parameters that one token multiplies by: of experts those routed to; no norms, biases and embedding."""
        experts = self.model.moe.experts_per_token if self.model.moe else 1
        return sum(m.n * m.k * m.count * (experts if m.routed else 1) for m in self.linears())

    def parameter_count(self) -> int:
        """All parameters; of a whole model those of ``ModelSpec.parameter_count``."""
        model = self.model
        embedding = 0
        if self.embedding:
            embedding = model.learned_positions * model.hidden_size
            if not (model.tied_embeddings and self.heads):
                embedding += model.vocab_size * model.hidden_size
        norms = self.attention + self.feed_forward + self.final_norm
        matrices = model.matrix_parameters(self.linears())
        return matrices + embedding + model.vector_parameters(self.linears(), norms, self.attention)

    def kv_bytes_per_token(self, bits: float = 16) -> float:
        """KV-cache bytes a token over the part's attention sublayers."""
        return self.attention * self.model.kv_values_per_token() * bits / 8 if self.cached else 0.0

    def shard(self, ranks: int) -> ModelPart:
        """What one rank of tensor parallelism holds: layers and heads are divided, other matrices mostly repeated."""
        if ranks == 1:
            return self
        heads = tuple(replace(head, n=-(-head.n // ranks)) for head in self.heads)
        matrices = tuple(replace(m, n=-(-m.n // ranks)) if m.split else m for m in self.matrices)
        return replace(self, model=self.model.shard(ranks), heads=heads, matrices=matrices)


def as_part(model: ModelSpec | ModelPart) -> ModelPart:
    """The part that is all of a model; a part stays what it is."""
    return model if isinstance(model, ModelPart) else ModelPart.whole(model)

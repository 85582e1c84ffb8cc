"""A part of a model: some of its layers, its head, or matrices that a drafter adds. A whole model is one too.

What a pass runs and what memory holds are parts: a drafter may run two of the target's layers and a head of its own.
Attention and feed-forward sublayers are counted apart, since drafters skip them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from specsim.specs.deployment import ExpertGroup
from specsim.specs.linear import Linear
from specsim.specs.model import ModelSpec
from specsim.specs.stack import EMPTY, Stack


@dataclass(frozen=True, slots=True)
class ModelPart:
    """``model`` gives the widths; a part runs the sublayers of ``stack``, and more matrices.

    ``heads`` are products that give logits, ``matrices`` others. ``cached``: attention keeps keys and values from pass
    to pass; else it sees the tokens of its own pass alone.
    """

    model: ModelSpec
    stack: Stack = EMPTY
    embedding: bool = False
    final_norm: bool = False
    heads: tuple[Linear, ...] = ()
    matrices: tuple[Linear, ...] = ()
    cached: bool = True

    @classmethod
    def whole(cls, model: ModelSpec) -> ModelPart:
        """All of a model."""
        return cls.layers(model, 0, model.num_layers)

    @classmethod
    def layers(cls, model: ModelSpec, first: int, last: int) -> ModelPart:
        """Layers first to last - 1; the embedding if it begins the model, norm and head if it ends it."""
        ends = last == model.num_layers
        return cls(
            model,
            Stack.of(model.layers()[first:last]),
            embedding=first == 0,
            final_norm=ends,
            heads=(model.lm_head(),) if ends else (),
            matrices=model.further_matrices(last - first),
        )

    @property
    def mixers(self) -> int:
        """Sublayers of attention or with a state."""
        return self.stack.num_mixers

    @property
    def feed_forward(self) -> int:
        return self.stack.num_feed_forward

    def linears(self) -> tuple[Linear, ...]:
        """Every weight matrix of the part."""
        return (*self.stack.linears(self.model.hidden_size), *self.matrices, *self.heads)

    def active_parameters(self) -> int:
        """Parameters that one token multiplies by: of experts those routed to; no norms, biases and embedding."""
        return sum(linear.active_parameters for linear in self.linears())

    def parameter_count(self) -> int:
        """All parameters; of a whole model those of ``ModelSpec.parameter_count``."""
        model = self.model
        embedding = 0
        if self.embedding:
            embedding = model.table_parameters()
            if not (model.tied_embeddings and self.heads):
                embedding += model.vocab_size * model.hidden_size
        return (
            sum(linear.parameters + linear.bias_values for linear in self.linears())
            + embedding
            + self.stack.vector_parameters()
            + model.norm_parameters(self.stack, final=self.final_norm)
        )

    def kv_bytes_per_token(self, bits: float = 16) -> float:
        """KV-cache bytes a token over the part's attention sublayers, those of a window too."""
        return self.stack.token_bytes(bits) if self.cached else 0.0

    def state_bytes(self, bits: float = 16) -> float:
        """Bytes that a sequence takes however long it is."""
        return self.stack.state_bytes(bits) if self.cached else 0.0

    def shard(self, ranks: int, experts: ExpertGroup | None = None) -> ModelPart:
        """What one rank of tensor parallelism holds: layers and heads are divided, other matrices mostly repeated.

        Of the routed experts it holds a slice of each, or some whole where a group divides them.
        """
        gpus = 1 if experts is None else experts.gpus
        if ranks == gpus == 1:
            return self
        heads = tuple(replace(head, n=-(-head.n // ranks)) for head in self.heads)
        matrices = tuple(replace(m, n=-(-m.n // ranks)) if m.split else m for m in self.matrices)
        return replace(
            self, model=self.model.shard(ranks), stack=self.stack.shard(ranks, gpus), heads=heads, matrices=matrices
        )


def as_part(model: ModelSpec | ModelPart) -> ModelPart:
    """The part that is all of a model; a part stays what it is."""
    return model if isinstance(model, ModelPart) else ModelPart.whole(model)

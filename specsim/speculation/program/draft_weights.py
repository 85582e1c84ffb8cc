"""Which weights a draft pass runs, told relative to the target so that one preset serves any model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from specsim.errors import InvalidInput
from specsim.specs.model import UNIFORM, Bits, Linear, ModelSpec
from specsim.specs.model_part import ModelPart
from specsim.specs.stack import Stack
from specsim.validated import Validated

PositiveShare = Annotated[float, Field(gt=0, le=1)]
Context = Literal["layers", "keys"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part that a phase runs. ``owned``: it takes memory of its own; else it is the target's, cache included.

    ``context``: what the tokens that a step has computed run of it; None: all of it.
    """

    part: ModelPart
    owned: bool
    context: ModelPart | None = None


class DraftModelWeights(Validated):
    """A model of its own, embedding and head included."""

    kind: Literal["draft_model"] = "draft_model"

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        if draft is None:
            raise InvalidInput("a phase runs draft_model and none is given; name one")
        return Piece(ModelPart.whole(draft), owned=True)


class TargetLayers(Validated):
    """The target's layers ``first`` to ``last`` - 1, with the target's own KV cache.

    ``exits``: values of ``last`` among which an engine chooses each round by what it has seen, ``last`` one of them;
    prices and imposed acceptance are those of ``last``. Empty: always ``last``.
    """

    kind: Literal["target_layers"] = "target_layers"
    first: NonNegativeInt = 0
    last: PositiveInt
    exits: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _some(self) -> TargetLayers:
        if self.last <= self.first:
            raise ValueError(f"layers {self.first} to {self.last} are none; last must exceed first")
        if self.exits and (self.last not in self.exits or min(self.exits) <= self.first):
            raise ValueError(
                f"exits {list(self.exits)} of layers {self.first} to {self.last}; list last too, and none before first"
            )
        return self

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        check_layer(self.last, target, "target_layers.last")
        whole = ModelPart.layers(target, self.first, self.last)
        return Piece(_without_head(whole), owned=False)


class TargetSublayers(Validated):
    """The target with sublayers skipped: the shares of attention and feed-forward sublayers that are kept."""

    kind: Literal["target_sublayers"] = "target_sublayers"
    attention_share: PositiveShare
    mlp_share: PositiveShare

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        whole = ModelPart.whole(target)
        kept = whole.stack.share(self.attention_share, self.mlp_share)
        return Piece(ModelPart(target, kept, embedding=True), owned=False)


class OwnLayers(Validated):
    """Sublayers of the target's shape with weights and KV cache of their own.

    ``input_width``: the first projection reads this many times the hidden size (EAGLE-3: 2). ``kv_heads``: as the
    target's, or one for each query head. ``experts``: feed-forward sublayers are routed where the target's are.
    ``cached`` false: attention sees the tokens of its own pass alone, and nothing is kept. ``window``: tokens that a
    query looks back on; None: all. ``context``: what the tokens that a step has computed run through, whole layers, or
    one product that gives the keys and values of all layers (vLLM ``precompute_and_store_context_kv``; the norm,
    rotation and writes beside it are left out).
    """

    kind: Literal["layers"] = "layers"
    context: Context = "layers"
    attention: NonNegativeInt = 0
    mlp: NonNegativeInt = 0
    input_width: PositiveInt = 1
    kv_heads: Literal["target", "all"] = "target"
    experts: bool = False
    cached: bool = True
    window: PositiveInt | None = None
    bits: Bits | None = None  # None: the target's own

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        shape = target.model_copy(
            update={
                "name": f"{target.name}'s drafter",
                **target.drafter_weights(self.bits),
                "num_kv_heads": target.num_heads if self.kv_heads == "all" else target.num_kv_heads,
                **UNIFORM,
                "sliding_window": self.window,
            }
        )
        mixer, feed_forward = shape.usual_sublayers(routed=self.experts)
        stack = Stack(
            ((mixer, self.attention),) if self.attention else (), ((feed_forward, self.mlp),) if self.mlp else ()
        )
        wider: tuple[Linear, ...] = ()
        if self.input_width > 1:
            qkv = mixer.linears(shape.hidden_size, 1)[0]
            more = (self.input_width - 1) * target.hidden_size
            wider = (Linear("qkv_input", qkv.n, more, self.attention, split=True),)
        part = ModelPart(shape, stack, matrices=wider, cached=self.cached)
        return Piece(part, owned=True, context=_keys_of(part) if self.context == "keys" else None)


class OwnMatrices(Validated):
    """``count`` matrices; sizes in units of the target's hidden size. ``on_rows``: only for positions with logits."""

    kind: Literal["matrices"] = "matrices"
    inputs: PositiveFloat = 1
    outputs: PositiveFloat = 1
    count: PositiveInt = 1
    on_rows: bool = False
    bits: Bits | None = None  # None: the target's own

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        hidden = target.hidden_size
        matrix = Linear(
            "matrix",
            round(self.outputs * hidden),
            round(self.inputs * hidden),
            self.count,
            on_rows=self.on_rows,
            bias=target.linear_bias,
        )
        return Piece(ModelPart(_plain(target, self.bits), matrices=(matrix,)), owned=True)


class Head(Validated):
    """Products that give logits. ``vocabulary``: tokens, None the target's. ``own``: not the target's LM head."""

    kind: Literal["head"] = "head"
    vocabulary: PositiveInt | None = None
    input_width: PositiveInt = 1
    count: PositiveInt = 1
    own: bool = False
    bits: Bits | None = None  # None: the target's own

    @model_validator(mode="after")
    def _shared_is_the_targets(self) -> Head:
        if not self.own and (self.vocabulary, self.input_width, self.count) != (None, 1, 1):
            raise ValueError("a shared head is the target's own, once; set own: true for another size or count")
        return self

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        tokens = min(self.vocabulary or target.vocab_size, target.vocab_size)
        head = Linear("lm_head", tokens, self.input_width * target.hidden_size, self.count, on_rows=True)
        shape = _plain(target, self.bits) if self.own else target
        return Piece(ModelPart(shape, final_norm=True, heads=(head,)), owned=self.own)


class SizedLayers(Validated):
    """Decoder layers of sizes of their own, whatever the target's: a head that somebody trained.

    Dense, with keys and values of their own. ``input_width``: the first projection reads so many hidden sizes.
    ``context``: as of OwnLayers.
    """

    kind: Literal["sized_layers"] = "sized_layers"
    context: Context = "layers"
    count: PositiveInt = 1
    hidden_size: PositiveInt
    num_heads: PositiveInt
    num_kv_heads: PositiveInt
    head_dim: PositiveInt
    intermediate_size: PositiveInt
    input_width: PositiveInt = 1

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        shape = ModelSpec(
            name=f"{target.name}'s drafter",
            source=target.source,
            num_layers=self.count,
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate_size,
            vocab_size=target.vocab_size,
        )
        stack, wider = shape.stack(), tuple[Linear, ...]()
        if self.input_width > 1:
            qkv = stack.linears(self.hidden_size)[0]
            more = (self.input_width - 1) * self.hidden_size
            wider = (Linear("qkv_input", qkv.n, more, self.count, split=True),)
        part = ModelPart(shape, stack, matrices=wider)
        return Piece(part, owned=True, context=_keys_of(part) if self.context == "keys" else None)


class SizedMatrix(Validated):
    """One matrix of sizes of its own."""

    kind: Literal["sized_matrix"] = "sized_matrix"
    inputs: PositiveInt
    outputs: PositiveInt

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        matrix = Linear("matrix", self.outputs, self.inputs, 1)
        return Piece(ModelPart(_plain(target, 16), matrices=(matrix,)), owned=True)


class SizedHead(Validated):
    """A product of a drafter's own width that gives logits over a vocabulary of its own."""

    kind: Literal["sized_head"] = "sized_head"
    vocabulary: PositiveInt | None = None  # None: the target's
    hidden_size: PositiveInt

    def piece(self, target: ModelSpec, draft: ModelSpec | None) -> Piece:
        head = Linear("lm_head", self.vocabulary or target.vocab_size, self.hidden_size, 1, on_rows=True)
        return Piece(ModelPart(_plain(target, 16), final_norm=True, heads=(head,)), owned=True)


def _named(value: object) -> object:
    """``draft_model`` for [{kind: draft_model}], ``none`` for no weights."""
    if isinstance(value, str):
        return () if value == "none" else ({"kind": value},)
    if isinstance(value, list | tuple):
        return [{"kind": item} if isinstance(item, str) else item for item in value]
    return value


DraftWeights = Annotated[
    DraftModelWeights
    | TargetLayers
    | TargetSublayers
    | OwnLayers
    | OwnMatrices
    | Head
    | SizedLayers
    | SizedMatrix
    | SizedHead,
    Field(discriminator="kind"),
]
WeightList = Annotated[tuple[DraftWeights, ...], BeforeValidator(_named)]


def check_layer(layer: int, target: ModelSpec, field: str) -> None:
    """Raises InvalidInput for a layer beyond the model."""
    if layer > target.num_layers:
        raise InvalidInput(
            f"{field} is {layer} and {target.name} has {target.num_layers} layers; lower it or choose a deeper model"
        )


def _keys_of(part: ModelPart) -> ModelPart:
    """Keys and values of a token for all layers of a part, in one product."""
    width = sum(count * round(mixer.token_values) for mixer, count in part.stack.mixers)
    return ModelPart(part.model, matrices=(Linear("context_keys", width, part.model.hidden_size, 1, split=True),))


def _without_head(part: ModelPart) -> ModelPart:
    return ModelPart(part.model, part.stack, embedding=part.embedding, matrices=part.matrices)


def _plain(target: ModelSpec, bits: float | None) -> ModelSpec:
    """The target's widths, for what has no layers."""
    plain: ModelSpec = target.model_copy(update={"name": f"{target.name}'s drafter", **target.drafter_weights(bits)})
    return plain

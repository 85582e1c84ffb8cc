"""So many sublayers of each kind: all of a model's layers, or those that a part of it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from specsim.specs.feed_forward import Experts, FeedForward
from specsim.specs.linear import Linear
from specsim.specs.mixers import Mixer
from specsim.specs.recurrent import Recurrent


class Layer(NamedTuple):
    """Sublayers that mix tokens (attention, state, or both side by side), and those that do not.

    ``vectors``: parameters beside those of its sublayers.
    """

    mixers: tuple[Mixer, ...]
    feed_forward: tuple[FeedForward, ...]
    vectors: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """(sublayer, how many) of each kind, in order of first appearance; dense feed-forward parts before routed ones."""

    mixers: tuple[tuple[Mixer, int], ...] = ()
    feed_forward: tuple[tuple[FeedForward, int], ...] = ()
    vectors: int = 0

    @classmethod
    def of(cls, layers: Iterable[Layer]) -> Stack:
        """All sublayers of these layers."""
        mixers: dict[Mixer, int] = {}
        feed_forward: dict[FeedForward, int] = {}
        vectors = 0
        for layer in layers:
            for mixer in layer.mixers:
                mixers[mixer] = mixers.get(mixer, 0) + 1
            for part in layer.feed_forward:
                feed_forward[part] = feed_forward.get(part, 0) + 1
            vectors += layer.vectors
        ordered = sorted(feed_forward.items(), key=lambda item: isinstance(item[0], Experts))
        return cls(tuple(mixers.items()), tuple(ordered), vectors)

    @property
    def num_mixers(self) -> int:
        return sum(count for _, count in self.mixers)

    @property
    def num_feed_forward(self) -> int:
        return sum(count for _, count in self.feed_forward)

    def share(self, mixers: float, feed_forward: float) -> Stack:
        """So much of each kind, rounded; of mixers at least one."""
        kept = [(one, round(mixers * count)) for one, count in self.mixers]
        if kept and not any(count for _, count in kept):
            kept[0] = (kept[0][0], 1)
        others = [(one, round(feed_forward * count)) for one, count in self.feed_forward]
        return Stack(tuple(run for run in kept if run[1]), tuple(run for run in others if run[1]))

    def linears(self, hidden: int) -> tuple[Linear, ...]:
        """Every weight matrix, fused as engines run them."""
        return tuple(
            linear for one, count in (*self.mixers, *self.feed_forward) for linear in _stored(one, hidden, count)
        )

    def vector_parameters(self) -> int:
        """Norm vectors inside sublayers, convolutions, sinks and the like; norms between sublayers left out."""
        return self.vectors + sum(one.vector_values * count for one, count in (*self.mixers, *self.feed_forward))

    def token_bytes(self, bits: float) -> float:
        """Cached bytes a token, those of a window or chunk too."""
        return sum(count * token_bytes(one, bits) for one, count in self.mixers)

    def state_bytes(self, bits: float) -> float:
        """Bytes a sequence, however long."""
        return sum(count * state_bytes(one, bits) for one, count in self.mixers)

    def shard(self, ranks: int, expert_gpus: int = 1) -> Stack:
        """What one rank of tensor parallelism holds, with its share of whole experts where GPUs divide them."""
        if ranks == expert_gpus == 1:
            return self
        mixers = tuple((one.shard(ranks), count) for one, count in self.mixers) if ranks > 1 else self.mixers
        feed_forward = tuple(
            (one.shard(ranks, expert_gpus) if isinstance(one, Experts) else one.shard(ranks), count)
            for one, count in self.feed_forward
        )
        return replace(self, mixers=mixers, feed_forward=feed_forward)


def _stored(one: Mixer | FeedForward, hidden: int, count: int) -> Iterator[Linear]:
    formats = dict(one.formats)
    for linear in one.linears(hidden, count):
        yield replace(linear, stored=formats[linear.name]) if linear.name in formats else linear


def token_bytes(mixer: Mixer, bits: float) -> float:
    """Cached bytes of a token in one sublayer, its indexer's keys included."""
    index = (
        0.0 if isinstance(mixer, Recurrent) or mixer.index is None or not mixer.index.own else mixer.index.cache_bytes
    )
    return mixer.token_values * bits / 8 + index


def state_bytes(mixer: Mixer, bits: float) -> float:
    """Bytes of a sequence in one sublayer, however long it is; a recurrent state has bits of its own."""
    return mixer.state_values * (16 if isinstance(mixer, Recurrent) else bits) / 8


EMPTY = Stack()

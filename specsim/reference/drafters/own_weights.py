"""What a program's drafter is given for weights of its own: seeded draws, or a checkpoint trained with the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from specsim.errors import InvalidInput
from specsim.reference.drafters.drafter_weights import (
    random_adapter,
    random_feature_head,
    random_heads,
    stored_adapter,
    stored_feature_head,
    stored_heads,
)
from specsim.reference.drafters.features import FeatureHead
from specsim.reference.drafters.heads import HeadWeights
from specsim.reference.drafters.own_target import AdapterLayer
from specsim.reference.network.checkpoint import Checkpoint
from specsim.reference.network.inflate import Embedding, fitted
from specsim.reference.network.transformer import Transformer


class OwnWeights(Protocol):
    """Weights by what a program says of them; all fit the target's states."""

    def heads(self, target: Transformer, count: int) -> HeadWeights:
        """``count`` heads that each guess from the target's last state."""

    def adapter(self, target: Transformer, layer: int, num_kv_heads: int) -> AdapterLayer:
        """One attention sublayer behind the target's first ``layer`` layers."""

    def feature_head(self, target: Transformer) -> FeatureHead:
        """One layer that continues the target's states."""


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Seeded draws: real passes, and guesses that are never right but by chance."""

    seed: int

    def heads(self, target: Transformer, count: int) -> HeadWeights:
        return random_heads(target, count, self.seed)

    def adapter(self, target: Transformer, layer: int, num_kv_heads: int) -> AdapterLayer:
        return random_adapter(target, self.seed, num_kv_heads=num_kv_heads)

    def feature_head(self, target: Transformer) -> FeatureHead:
        return random_feature_head(target, self.seed)


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """A checkpoint trained with the small model of ``into``, in the shape that the target has.

    Raises InvalidInput where the folder holds something else than the program describes.
    """

    checkpoint: Checkpoint
    into: Embedding

    def heads(self, target: Transformer, count: int) -> HeadWeights:
        return stored_heads(self._fitted(target, self.into), target, count)

    def adapter(self, target: Transformer, layer: int, num_kv_heads: int) -> AdapterLayer:
        trained = self.checkpoint.config.get("exit_layer")
        if trained != layer:
            raise InvalidInput(
                f"{self.checkpoint.name} was trained behind layer {trained} and the program leaves the target behind "
                f"layer {layer}; set target_layers.last of the program to that, or give another adapter"
            )
        large = self.into.large.model_copy(update={"num_kv_heads": num_kv_heads})
        return stored_adapter(self._fitted(target, replace(self.into, large=large)), target)

    def feature_head(self, target: Transformer) -> FeatureHead:
        return stored_feature_head(self._fitted(target, self.into), target)

    def _fitted(self, target: Transformer, into: Embedding) -> Checkpoint:
        return fitted(self.checkpoint, into, device=target.device, dtype=target.dtype)

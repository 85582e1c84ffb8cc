"""What the GPUs of a replica, and replicas that share experts, exchange in a pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from specsim.arrays import Reals
from specsim.cost.forward import Kernel, Precision, stored_experts
from specsim.specs.deployment import ExpertGroup
from specsim.specs.feed_forward import Experts
from specsim.specs.formats import format_of
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart, as_part


def collective_kernels(
    whole: ModelSpec | ModelPart,
    ranks: int,
    tokens: Reals,
    rows: Reals,
    precision: Precision,
    experts: ExpertGroup | None = None,
) -> Iterator[Kernel]:
    """What ranks of tensor parallelism exchange: an all-reduce a sublayer and one of the embedding, and the logits.

    Megatron-LM (arXiv 1909.08053, section 3); engines gather the logits' shares instead of reducing them. ``whole``
    is not sharded. Replicas that share experts also send each token to those that it chose and back.
    """
    part = as_part(whole)
    if experts is not None and experts.data_parallel > 1:
        yield from _exchanges(part, ranks, tokens, precision, experts)
    if ranks == 1:
        return
    count = part.mixers + part.feed_forward + part.embedding
    if count:
        reduced = tokens * part.model.hidden_size * precision.activation_bytes
        yield _collective("all_reduce", reduced, ranks, count)
    for head in part.heads:
        if np.any(rows):
            yield _collective("all_gather", rows * head.n * precision.activation_bytes, ranks, head.count)


def _exchanges(
    part: ModelPart, ranks: int, tokens: Reals, precision: Precision, experts: ExpertGroup
) -> Iterator[Kernel]:
    """Dispatch and combine of each routed layer: a copy of a token for each expert that it chose.

    As DeepEP's low-latency kernels do it: FP8 with a float32 scale for each 128 values on the way there, where the
    weights are FP8, and 16 bits back. A replica's GPUs send a share of its tokens each.
    """
    for routed, layers in part.stack.feed_forward:
        if isinstance(routed, Experts):
            width = routed.moe.latent_size or part.model.hidden_size
            narrow = format_of(stored_experts(routed, precision).weights).rate == "fp8"
            there = 1.0 + 4.0 / 128 if narrow else precision.activation_bytes
            values = tokens / ranks * routed.moe.experts_per_token * width * experts.imbalance
            for value_bytes in (there, precision.activation_bytes):
                yield _collective("all_to_all", values * value_bytes, experts.gpus, layers)


def _collective(operation: str, size: Reals, ranks: int, count: int) -> Kernel:
    return Kernel("collective", "communication", (size, float(ranks)), operation, "bfloat16", count, 0.0, size)

"""Capturing passes before the first request, as serving engines do when they start."""

from __future__ import annotations

from specsim.errors import InvalidInput
from specsim.reference.decoding.engine import Engine
from specsim.reference.network.graphs import bucket
from specsim.reference.timing.grid import WINDOW_TOKENS, SteadyBatch
from specsim.specs.engine import pad_to_graph
from specsim.speculation.policy import Decider

ROUNDS = 2  # the first one has no drafts to verify yet


def rehearse(engine: Engine, decider: Decider, *, shortest: int) -> None:
    """Capture what decoding will run: rounds at every batch size that pads to sizes of its own, and every bucket of
    keys from ``shortest`` tokens on, with the drafts that the decider asks for there.

    Slots hold random text afterwards. A decider that learns may ask for other drafts later; their passes are captured
    when they come.
    """
    target = engine.target
    if target.graphs is None:
        raise InvalidInput("graph_sizes are empty and a rehearsal captures graphs; name some sizes")
    buckets, keys = [], bucket(shortest)
    while keys <= target.max_length:
        buckets.append(keys)
        keys = bucket(keys + 1)
    seen: set[object] = set()
    for batch in range(target.max_sequences, 0, -1):
        for keys in buckets:
            draft_tokens = decider.draft_tokens(batch, keys)
            widths = 1, 1 + draft_tokens
            shape = (keys, draft_tokens, *(pad_to_graph(batch * width, target.graphs.sizes) for width in widths))
            context = keys - WINDOW_TOKENS // 2 - ROUNDS * (1 + draft_tokens)
            if shape not in seen and context > WINDOW_TOKENS // 2:
                seen.add(shape)
                rehearsal = Engine(target, engine.drafter, engine.draws)
                cell = SteadyBatch(rehearsal, batch, draft_tokens=draft_tokens, context_tokens=context, seed=0)
                for _ in range(ROUNDS):
                    cell.round()

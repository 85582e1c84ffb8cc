"""How a sequence takes blocks of one pool, where layers keep all tokens, the last ones, or a state.

As vLLM's hybrid cache manager has it (``kv_cache_utils.py``, read in 0.32): layers are grouped so that a block of
any group has as many bytes as one of the layers that keep all tokens; each group takes blocks of its own. A window's
group gives back what the window has left behind. A state takes one block a sequence, and one more for each draft that
may yet be rejected; blocks grow until one holds a layer's whole state.

Not modelled: blocks that a window holds until a chunk of a prompt is computed; SGLang's split of memory into pools.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from specsim.specs.mixers import Attention, Recurrent
from specsim.specs.model_part import ModelPart
from specsim.specs.stack import state_bytes, token_bytes

UNBOUNDED = 2**40  # tokens
TOKENS_MULTIPLE = 16  # of the tokens of a block that was made larger to hold a state


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """A sequence takes ``grows`` (0 or 1) blocks for each ``block_tokens`` of its tokens, ``window_blocks`` for each
    of them up to ``window_span``, which a window lies in at most, and ``state_blocks``. ``block_bytes``: of one.
    """

    block_tokens: int
    block_bytes: float
    grows: int = 1
    window_blocks: int = 0
    window_span: int = 0
    state_blocks: int = 0

    def blocks_for(self, tokens: float) -> int:
        """Blocks of a sequence of so many tokens."""
        each = ceil(tokens / self.block_tokens)
        return self.grows * each + self.window_blocks * min(each, self.window_span) + self.state_blocks

    def tokens_in(self, blocks: int) -> int:
        """The longest sequence that so many blocks hold; UNBOUNDED where it does not grow any more."""
        left = blocks - self.state_blocks
        bounded = self.window_blocks * self.window_span
        if left < 0:
            return 0
        each = left // max(1, self.grows + self.window_blocks)
        if left >= bounded and (not self.grows or each > self.window_span):
            each = left - bounded if self.grows else UNBOUNDED
        return min(each * self.block_tokens, UNBOUNDED)


def cache_layout(
    parts: Sequence[ModelPart], block_size: int, kv_bits: float, max_draft_tokens: int = 0
) -> CacheLayout:
    """The layout of a target and what its drafter caches, both one rank's.

    Llama: a block for each 16 tokens. gpt-oss-20b: the same twice, once for its 12 full layers and once, for 128
    tokens at most, for its 12 sliding ones.
    """
    kept = _Kept.of(parts, kv_bits)
    block_tokens, state_layers = block_size, kept.states
    if kept.full_layers and state_layers:
        token = kept.full_bytes / kept.full_layers
        largest = max(size for size, _ in state_layers)
        block_tokens = max(block_size, TOKENS_MULTIPLE * ceil(largest / (TOKENS_MULTIPLE * token)))
    if kept.full_layers:
        block_bytes = kept.full_bytes * block_tokens
    elif kept.windows:
        block_bytes = max(kept.windows.items())[1] * block_tokens
    else:
        block_bytes = sum(size * count for size, count in state_layers)
    if not kept.windows and not state_layers and not kept.fixed_bytes:
        return CacheLayout(block_tokens, block_bytes)
    window, window_bytes = max(kept.windows.items(), default=(0, 0.0))
    smaller = sum(tokens * size for tokens, size in kept.windows.items() if tokens != window)
    states = int(bool(state_layers))
    if kept.full_layers:
        states = ceil(sum(count for _, count in state_layers) / kept.full_layers)
    return CacheLayout(
        block_tokens,
        block_bytes,
        grows=int(kept.full_layers > 0),
        window_blocks=ceil(window_bytes * block_tokens / block_bytes),
        window_span=ceil((window - 1) / block_tokens) + 1 if window else 0,
        state_blocks=states * (1 + max_draft_tokens) + ceil((smaller + kept.fixed_bytes) / block_bytes),
    )


@dataclass(slots=True)
class _Kept:
    """What the layers keep: of all tokens (bytes a token, layers), of a window's (bytes a token by window), whole
    states (bytes, layers), and bytes a sequence beside.
    """

    full_bytes: float
    full_layers: int
    windows: dict[int, float]
    states: list[tuple[float, int]]
    fixed_bytes: float

    @classmethod
    def of(cls, parts: Sequence[ModelPart], kv_bits: float) -> _Kept:
        found = cls(0.0, 0, defaultdict(float), [], 0.0)
        for mixer, count in (run for part in parts if part.cached for run in part.stack.mixers):
            if isinstance(mixer, Recurrent):
                found.states.append((state_bytes(mixer, kv_bits), count))
                continue
            bound = (mixer.window or mixer.chunk) if isinstance(mixer, Attention) else None
            if bound:
                found.windows[bound] += count * token_bytes(mixer, kv_bits)
            elif token_bytes(mixer, kv_bits):
                found.full_bytes += count * token_bytes(mixer, kv_bits)
                found.full_layers += count
            found.fixed_bytes += count * state_bytes(mixer, kv_bits)
        return found

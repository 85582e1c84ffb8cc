"""How a sequence takes blocks of one pool, where layers keep all tokens, the last ones, or a state.

As vLLM's hybrid cache manager has it (``kv_cache_utils.py``, read in 0.32): layers of a kind are divided into groups
of as many layers as the rarest kind has, or, where no kind has half as many again, as the commonest; what is left over
is padding. Every group takes blocks of its own, all of one size. A window's group gives back what the window has left
behind. A state takes one block a sequence, and one more for each draft that may yet be rejected; blocks grow until one
holds a layer's whole state.

A block here is one of the engine's for each group of the layers that keep all tokens. 32 such layers beside a
drafter's 5 with a window make 7 groups of 5, 35 layers' room, and the window's group takes sevenths of such a block.

Not modelled: blocks that a window holds until a chunk of a prompt is computed; layers of unequal bytes a token beside
windows, which are counted as if the engine divided them by bytes; SGLang's split of memory into pools.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isclose

from specsim.specs.mixers import Attention
from specsim.specs.model_part import ModelPart
from specsim.specs.recurrent import Recurrent
from specsim.specs.stack import state_bytes, token_bytes

UNBOUNDED = 2**40  # tokens
NEARLY_ALIKE = 1.5  # kinds whose numbers of layers differ by less are padded to the larger; 1.25 in older releases
TOKENS_MULTIPLE = 16  # of the tokens of a block that was made larger to hold a state


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """How a sequence takes blocks of ``block_bytes``, each ``full_groups`` of the engine's.

    It takes ``grows`` (0 or 1) of them for each ``block_tokens`` of its tokens. Of the engine's it takes beside
    ``window_blocks`` for each of them up to ``window_span``, which a window lies in at most, and ``state_blocks``.
    """

    block_tokens: int
    block_bytes: float
    grows: int = 1
    window_blocks: int = 0
    window_span: int = 0
    state_blocks: int = 0
    full_groups: int = 1

    def blocks_for(self, tokens: float) -> int:
        """Blocks of a sequence of so many tokens."""
        each = ceil(tokens / self.block_tokens)
        return self.grows * each + self._bounded(min(each, self.window_span))

    def _bounded(self, windowed: int) -> int:
        return ceil((self.window_blocks * windowed + self.state_blocks) / self.full_groups)

    def tokens_in(self, blocks: int) -> int:
        """The longest sequence that so many blocks hold; UNBOUNDED where it does not grow any more."""
        bounded = self._bounded(self.window_span)
        each = UNBOUNDED if not self.grows else blocks - bounded
        if blocks < bounded or each < self.window_span:
            left = blocks * self.full_groups - self.state_blocks
            each = left // max(1, self.grows * self.full_groups + self.window_blocks)
        return max(0, min(each * self.block_tokens, UNBOUNDED))

    def served_tokens(self, blocks: int, longest: int, chunk: int) -> int:
        """Tokens that the engine's log says the cache holds: of sequences of ``longest`` tokens as many as fit.

        Each is counted with what its windows need while ``chunk`` tokens of its prompt are computed
        (``get_max_concurrency_for_kv_cache_config``).
        """
        if not self.grows:
            return self.tokens_in(blocks)
        each = ceil(longest / self.block_tokens)
        window = (self.window_span - 1) * self.block_tokens  # less the block that it may begin inside of
        windowed = ceil(min(window + chunk, longest) / self.block_tokens) + 1
        own = self.full_groups * each + self.window_blocks * windowed + self.state_blocks
        return blocks * self.full_groups * longest // own


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
    group = kept.group_layers()
    full_groups = ceil(kept.full_layers / group) or 1
    if kept.full_layers:
        block_bytes = kept.full_bytes / kept.full_layers * full_groups * group * block_tokens
    elif kept.windows:
        block_bytes = max(kept.windows.items())[1] * block_tokens
    else:
        block_bytes = sum(size * count for size, count in state_layers)
    if not kept.windows and not state_layers and not kept.fixed_bytes:
        return CacheLayout(block_tokens, block_bytes)
    window, window_bytes = max(kept.windows.items(), default=(0, 0.0))
    smaller = sum(tokens * size for tokens, size in kept.windows.items() if tokens != window)
    engine_bytes = block_bytes / full_groups
    states = int(bool(state_layers))
    if kept.full_layers:
        states = ceil(sum(count for _, count in state_layers) / group)
    return CacheLayout(
        block_tokens,
        block_bytes,
        grows=int(kept.full_layers > 0),
        window_blocks=ceil(window_bytes * block_tokens / engine_bytes),
        window_span=ceil((window - 1) / block_tokens) + 1 if window else 0,
        state_blocks=states * (1 + max_draft_tokens) + ceil((smaller + kept.fixed_bytes) / engine_bytes),
        full_groups=full_groups,
    )


@dataclass(slots=True)
class _Kept:
    """What the layers keep: of all tokens (bytes a token, layers), of a window's (bytes a token by window, layers by
    window), whole states (bytes, layers), and bytes a sequence beside.
    """

    full_bytes: float
    full_layers: int
    windows: dict[int, float]
    window_layers: dict[int, int]
    states: list[tuple[float, int]]
    fixed_bytes: float

    @classmethod
    def of(cls, parts: Sequence[ModelPart], kv_bits: float) -> _Kept:
        found = cls(0.0, 0, defaultdict(float), defaultdict(int), [], 0.0)
        for mixer, count in (run for part in parts if part.cached for run in part.stack.mixers):
            if isinstance(mixer, Recurrent):
                found.states.append((state_bytes(mixer, kv_bits), count))
                continue
            bound = (mixer.window or mixer.chunk) if isinstance(mixer, Attention) else None
            if bound:
                found.windows[bound] += count * token_bytes(mixer, kv_bits)
                found.window_layers[bound] += count
            elif token_bytes(mixer, kv_bits):
                found.full_bytes += count * token_bytes(mixer, kv_bits)
                found.full_layers += count
            found.fixed_bytes += count * state_bytes(mixer, kv_bits)
        return found

    def group_layers(self) -> int:
        """Layers of a group, at least 1."""
        kinds = [self.full_layers, *self.window_layers.values(), sum(count for _, count in self.states)]
        kinds = [layers for layers in kinds if layers]
        token = self.full_bytes / self.full_layers if self.full_layers else 0.0
        alike = all(isclose(self.windows[one], layers * token) for one, layers in self.window_layers.items())
        if not self.full_layers or not alike:
            return max(1, self.full_layers)
        return max(kinds) if max(kinds) < NEARLY_ALIKE * min(kinds) else min(kinds)

"""What the scheduler knows of a request, and what it decides about it in one step."""

from __future__ import annotations

from dataclasses import dataclass, field

from specsim.scheduling.kv_cache import CachedBlock, PrefixKey


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's state on one replica.

    Its known tokens are the prompt and what was emitted; ``computed_tokens`` of them are in the KV cache, as far as
    steps have completed. While decoding that is all but the last. ``draft_tokens`` wait to be verified.

    ``prefix_hashes`` name the prompt's beginning in blocks of ``hash_block_tokens`` tokens: equal numbers in two
    requests mean equal prompts up to the end of that block. What no hash names, and all that was emitted, is shared
    with nobody.
    """

    request_id: int
    prompt_tokens: int
    output_tokens: int  # the request ends after this many
    computed_tokens: int = 0
    emitted_tokens: int = 0
    draft_tokens: int = 0
    blocks: int = 0
    preemptions: int = 0
    priority: int = 0  # lower goes first, where the policy looks at it
    prefix_hashes: tuple[int, ...] = ()
    hash_block_tokens: int = 0
    arrival: int = 0  # rank among all requests; the scheduler sets it
    prefilling: bool = False  # its last step left prompt (or recomputed) tokens to compute
    in_flight_tokens: int = 0  # positions of a step that has not completed
    awaited_tokens: int = 0  # of these, positions beyond the known ones: the token to come and the drafts before it
    stale_tokens: int = 0  # positions in flight when the sequence was preempted
    merged_tokens: int = 0  # emitted tokens without a position of their own
    hit_tokens: int = 0  # found in the prefix cache, over all admissions
    lost_tokens: int = 0  # computed and thrown away by preemptions
    cached: list[CachedBlock] = field(default_factory=list)  # its first blocks, those with a name

    @property
    def known_tokens(self) -> int:
        """Positions whose token is known."""
        return self.prompt_tokens + self.emitted_tokens - self.merged_tokens

    @property
    def scheduled_tokens(self) -> int:
        """Positions computed or in flight, drafts among them."""
        return self.computed_tokens + self.in_flight_tokens

    @property
    def missing_tokens(self) -> int:
        """Positions to compute before the next token comes out, drafts left aside."""
        return self.known_tokens + self.awaited_tokens - self.scheduled_tokens

    @property
    def finished(self) -> bool:
        return self.emitted_tokens >= self.output_tokens

    def prefix_key(self, block: int, block_size: int) -> PrefixKey:
        """The name of the sequence up to the end of its ``block``-th block, from 0."""
        end = (block + 1) * block_size
        if end <= self.prompt_tokens and end <= len(self.prefix_hashes) * self.hash_block_tokens:
            return (False, self.prefix_hashes[(end - 1) // self.hash_block_tokens], block)
        return (True, self.request_id, block)


@dataclass(slots=True)
class Scheduled:
    """One sequence's share of a step: ``tokens`` new positions.

    The last ``padding`` of them are computed for nothing; before them stand ``drafts`` drafted ones (none, where
    drafts are not verified: they take no position then).
    """

    sequence: Sequence
    tokens: int
    drafts: int
    emits: bool  # all known tokens are computed after this step, so at least one new token comes out
    prefill: bool  # computes prompt (or recomputed) tokens, not a plain decode
    padding: int = 0

    @property
    def kv_tokens(self) -> int:
        """Positions in the cache once this share is computed; asked while no other step is in flight."""
        return self.sequence.computed_tokens + self.tokens


@dataclass(slots=True)
class Step:
    """What one engine step computes."""

    scheduled: list[Scheduled] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def total_tokens(self) -> int:
        return sum(s.tokens for s in self.scheduled)

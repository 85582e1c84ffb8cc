"""Which steps of an engine to measure: the shape columns of ``steps.csv`` and the grids that a run covers."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class StepShape:
    """One kind of step: ``sequences`` of ``query_len`` new tokens each at ``kv_len`` keys, the new ones included.

    ``num_draft_tokens`` = query_len - 1 in a decode or verify step, 0 without a drafter. ``prefill_tokens``: a prompt
    of so many tokens computed in the same step. A query_len above num_draft_tokens + 1 is a prompt chunk itself.
    """

    sequences: int
    query_len: int
    kv_len: int
    num_draft_tokens: int = 0
    prefill_tokens: int = 0

    @property
    def tokens(self) -> int:
        """New tokens of the whole step."""
        return self.sequences * self.query_len + self.prefill_tokens

    @property
    def chunk(self) -> bool:
        """Prompt chunks, not decoding."""
        return self.query_len > self.num_draft_tokens + 1

    def columns(self) -> tuple[float, ...]:
        """Values of the shape columns, in their order."""
        return tuple(float(value) for value in astuple(self))


@dataclass(frozen=True, slots=True)
class StepGrid:
    """The shapes of a run: decode and verify steps, prompt chunks alone, and both in one step.

    KV lengths stay off whole cache blocks: a step that opens a block for every sequence at once is rare in serving.
    """

    sequences: tuple[int, ...]
    draft_lengths: tuple[int, ...]
    kv_lens: tuple[int, ...]
    prefills: tuple[int, ...]
    sequences_beside_prefills: tuple[int, ...]

    def shapes(self) -> list[StepShape]:
        """Every shape once. Chunks end at the prompt's own length and at two longer ones."""
        steps = [StepShape(b, k + 1, kv, k) for b in self.sequences for k in self.draft_lengths for kv in self.kv_lens]
        middle = self.kv_lens[len(self.kv_lens) // 2]
        for chunk in self.prefills:
            ends = {chunk, *(kv for kv in (middle, self.kv_lens[-1]) if kv > chunk)}
            steps += [StepShape(1, chunk, kv) for kv in sorted(ends)]
            for k in sorted({self.draft_lengths[0], self.draft_lengths[-1]}):
                steps += [StepShape(b, k + 1, middle, k, chunk) for b in self.sequences_beside_prefills]
        return steps


CPU_GRID = StepGrid(
    (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), (0, 1, 2, 4, 6, 8), (120, 500, 1000, 1500, 2000), (32, 128, 512), (1, 8, 32)
)
CUDA_GRID = StepGrid(
    (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256),
    (0, 1, 2, 3, 4, 6, 8),
    (120, 500, 1000, 2000, 4000, 8000),
    (128, 512, 2048),
    (1, 16, 64),
)
PACE = StepShape(4, 1, 128)  # the plain step taken after each that is timed, where engines are up together
QUICK_GRID = StepGrid((1, 4, 16), (0, 2, 4), (120, 1000), (128,), (4,))

"""Attention's regimes: kernels that engines choose among by the new tokens of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from specsim.profiles.schema import Row

Regime = Literal["decode", "verify", "prefill"]


def regime(query_tokens: float) -> Regime:
    """The kernel that attention runs at this many new tokens a sequence: decode 1, verify 2 to 64, prefill above."""
    return "decode" if query_tokens <= 1 else "verify" if query_tokens <= 64 else "prefill"


def rows_of_regime(rows: Sequence[Row], which: Regime) -> list[Row]:
    """The attention rows that describe one regime; empty where none was measured.

    A row whose keys are its own new tokens is a prompt from its start, thus prefill at any width. Verify rows take the
    decode rows along as their lower end.
    """
    prompts = [row for row in rows if row.shape[1] > 16 or row.shape[1] == row.shape[2]]
    if which == "prefill":
        return prompts
    narrow = [row for row in rows if row.shape[1] <= 64 and row.shape[1] != row.shape[2]]
    if which == "verify":
        return narrow if any(row.shape[1] > 1 for row in narrow) else []
    return [row for row in narrow if row.shape[1] <= 1]

"""Prompt chunks of a pass are one attention kernel: what it conserves, and what it saves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.assembly import assemble
from specsim.cost.forward import WIDEST_NARROW_CHUNK, Group, one_prompt_kernel
from specsim.scenario import load_scenario

CHUNKS = st.lists(st.tuples(st.integers(65, 4000), st.integers(0, 8000)), min_size=2, max_size=9)


@given(CHUNKS)
def test_tokens_and_pairs_stay_as_they_are(chunks: list[tuple[int, int]]) -> None:
    decodes = [Group(7, 1, 900), Group(3, 4, 500, 4)]
    found = one_prompt_kernel([*decodes, *(Group(1, q, q + before, 1) for q, before in chunks)])
    assert found[:-1] == decodes
    whole, q, before = found[-1], *np.array(chunks, dtype=np.float64).T
    assert whole.tokens == pytest.approx(q.sum())
    assert whole.tokens * whole.query_tokens == pytest.approx((q**2).sum())
    assert whole.tokens * (whole.kv_tokens - whole.query_tokens) == pytest.approx((q * before).sum(), abs=1e-6)
    assert q.min() - 1e-9 <= whole.query_tokens <= q.max() + 1e-9


def test_narrow_chunks_and_single_ones_stay_apart() -> None:
    narrow = [Group(1, WIDEST_NARROW_CHUNK, 100, 0), Group(1, 2, 50, 0), Group(1, 700, 700, 1)]
    assert one_prompt_kernel(narrow) == narrow


def test_equal_chunks_cost_what_their_batch_costs() -> None:
    cost = assemble(load_scenario("cpu-144m", ["model=llama-3.1-8b", "gpu=h100-sxm", "speculation="])).cost
    one, batch = ([Group(1, 256, 256, 1)] * 8, [Group(8, 256, 256, 1)])
    seconds = [
        float(cost.step(groups, drafting=0, draft_tokens=0, drafting_kv_tokens=0).seconds) for groups in (one, batch)
    ]
    assert seconds[0] == pytest.approx(seconds[1], rel=1e-9)

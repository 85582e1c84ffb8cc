"""Arrays and rows of requests say the same, however they are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.workload.request import MAX_TOKENS, RequestSpec, joined, requests_of


@st.composite
def workloads(draw: st.DrawFn) -> list[RequestSpec]:
    """Open or closed loops of 1 to 12 requests, some with prefix hashes."""
    count, closed = draw(st.integers(1, 12)), draw(st.booleans())
    first = draw(st.integers(0, 50))
    times = sorted(draw(st.lists(st.floats(0, 1e6), min_size=count, max_size=count)))
    rows = []
    for index in range(count):
        hashes = tuple(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)))
        rows.append(
            RequestSpec(
                first + index,
                None if closed else times[index],
                draw(st.integers(1, MAX_TOKENS)),
                draw(st.integers(1, MAX_TOKENS)),
                draw(st.sampled_from(("code", "chat"))),
                draw(st.floats(0, 9)) if closed else 0.0,
                draw(st.integers(-3, 3)),
                hashes,
                16 if hashes else 0,
            )
        )
    return rows


@settings(max_examples=200)
@given(rows=workloads(), size=st.integers(1, 15))
def test_rows_survive_arrays_and_cutting(rows: list[RequestSpec], size: int) -> None:
    requests = requests_of(rows)
    assert len(requests) == len(rows)
    assert requests.rows() == rows
    parts = list(requests.chunks(size))
    assert [row for part in parts for row in part.rows()] == rows
    assert joined(parts).rows() == rows
    assert max(map(len, parts)) <= size


@settings(max_examples=100)
@given(rows=workloads(), data=st.data())
def test_taken_rows_keep_all_but_their_numbers(rows: list[RequestSpec], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    taken = requests_of(rows).take(np.array(order)).rows()
    assert [row.request_id for row in taken] == [row.request_id for row in rows]
    for row, index in zip(taken, order, strict=True):
        old = rows[index]
        assert (row.arrival_s, row.prompt_tokens, row.output_tokens, row.request_class, row.prefix_hashes) == (
            old.arrival_s,
            old.prompt_tokens,
            old.output_tokens,
            old.request_class,
            old.prefix_hashes,
        )


def test_numbers_out_of_sequence_are_kept() -> None:
    rows = [RequestSpec(number, 0.0, 1, 1) for number in (4, 2, 9)]
    requests = requests_of(rows)
    assert requests.request_ids.tolist() == [4, 2, 9]
    assert joined(list(requests.chunks(2))).rows() == requests.rows() == rows


def test_a_capped_prompt_keeps_the_hashes_of_its_blocks() -> None:
    rows = [
        RequestSpec(0, 0.0, 100, 1, prefix_hashes=(1, 2, 3, 4), hash_block_tokens=32),
        RequestSpec(1, 0.0, 33, 1, prefix_hashes=(1, 5), hash_block_tokens=32),
        RequestSpec(2, 0.0, 40, 1),
    ]
    prefixes = requests_of(rows).prefixes
    assert prefixes is not None
    # 64 tokens end two blocks, 65 begin a third, 33 begin a second.
    assert prefixes.shortened(np.array([64, 33, 40], np.int32)).rows() == [(1, 2), (1, 5), ()]
    assert prefixes.shortened(np.array([65, 32, 40], np.int32)).rows() == [(1, 2, 3), (1,), ()]


def test_an_empty_workload_has_no_rows() -> None:
    assert requests_of([]).rows() == []
    assert list(requests_of([]).chunks(4)) == []


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([RequestSpec(0, 0.0, 1, 1), RequestSpec(1, None, 1, 1)], "mixes open and closed loop"),
        ([RequestSpec(0, 0.0, 0, 1)], "has 0 tokens"),
        ([RequestSpec(0, 0.0, 1, 10**12)], "has 1000000000000 tokens"),
        ([RequestSpec(0, 0.0, 1, 1, prefix_hashes=(1,))], "one positive block size"),
    ],
)
def test_faulty_rows_are_refused(rows: list[RequestSpec], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        requests_of(rows)

"""Captured graph sizes against what engines printed, and padding to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.specs.engine import EngineLimits, default_graph_sizes, pad_to_graph

# 'cudagraph_capture_sizes' of a start of vLLM 0.27.1 with 256 requests (coldstart-recon-worker, startup_1.log).
LOGGED = (
    1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160, 168, 176, 184, 192,
    200, 208, 216, 224, 232, 240, 248, 256, 272, 288, 304, 320, 336, 352, 368, 384, 400, 416, 432, 448, 464, 480, 496,
    512,
)  # fmt: skip


def test_the_default_sizes_are_those_an_engine_printed() -> None:
    assert default_graph_sizes(256) == LOGGED
    assert default_graph_sizes(4096) == LOGGED


def test_few_requests_capture_few_sizes() -> None:
    """A start with 32 requests logged "PIECEWISE=11 (largest=64), FULL=7 (largest=32)" (vLLM 0.21)."""
    sizes = default_graph_sizes(32)
    assert (len(sizes), sizes[-1]) == (11, 64)
    assert sum(size <= 32 for size in sizes) == 7
    assert default_graph_sizes(1) == (1, 2)


def test_verification_batches_are_captured_though_off_the_grid() -> None:
    """With 2 draft tokens and 4 requests the grid ends at 24; 1, 2 and 4 requests verify 3, 6 and 12 tokens."""
    assert default_graph_sizes(4, 2) == (1, 2, 3, 4, 6, 8, 12, 16, 24)


def test_blackwell_captures_up_to_twice_as_much() -> None:
    assert default_graph_sizes(1024, largest=1024)[-1] == 1024
    assert default_graph_sizes(1024, largest=1024)[: len(LOGGED)] == LOGGED


@given(st.integers(1, 2000), st.integers(0, 20))
def test_sizes_ascend_and_hold_what_the_rule_names(requests: int, drafts: int) -> None:
    sizes, width = default_graph_sizes(requests, drafts), 1 + drafts
    most = min(2 * requests * width, 512)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] <= most
    assert all(count * width in sizes for count in (1, 2, 4) if count <= requests and count * width <= most)
    if requests * width <= most:
        assert requests * width in sizes
    for tokens in range(1, most + 1):  # the grid leaves no gap above 16 tokens
        padded, captured = pad_to_graph(tokens, sizes)
        assert captured == (tokens <= sizes[-1])
        assert tokens <= padded < tokens + 16


@given(st.lists(st.integers(1, 600), min_size=1, max_size=20), st.integers(1, 600))
def test_padding_one_count_and_many_agree(tokens: list[int], requests: int) -> None:
    sizes = default_graph_sizes(requests)
    padded, captured = pad_to_graph(np.asarray(tokens, dtype=np.float64), sizes)
    for count, size, graph in zip(tokens, np.asarray(padded), np.asarray(captured), strict=True):
        assert pad_to_graph(count, sizes) == (size, graph)


@pytest.mark.parametrize(
    ("tokens", "sizes", "expected"),
    [
        (1, (8, 16), (8, True)),
        (8, (8, 16), (8, True)),
        (9, (8, 16), (16, True)),
        (17, (8, 16), (17, False)),
        (5, (), (5, False)),
    ],
)
def test_padding_is_a_staircase_with_an_end(tokens: int, sizes: tuple[int, ...], expected: tuple[int, bool]) -> None:
    assert pad_to_graph(tokens, sizes) == expected
    padded, captured = pad_to_graph(np.array([tokens]), sizes)
    assert np.array_equal(padded, [expected[0]])
    assert np.array_equal(captured, [expected[1]])


def test_sizes_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"sizes \[8, 4\] do not ascend"):
        EngineLimits.model_validate({"graph_sizes": [8, 4]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"watermark": 1.0},
        {"watermark": -0.1},
        {"long_prefill_token_threshold": -1},
        {"max_model_len": 0},
        {"scheduling_policy": "lifo"},
    ],
)
def test_limits_that_vllm_refuses_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        EngineLimits.model_validate(wrong)


@pytest.mark.parametrize("sequences", [1, 2, 10, 40])
def test_a_padded_batch_reads_the_expected_longest_of_its_lengths(sequences: int) -> None:
    lengths = np.random.default_rng(0).uniform(160.0, 240.0, (200_000 // sequences, sequences))
    padded = EngineLimits(kv_spread=0.2).padded_kv(200.0, sequences)
    assert padded == pytest.approx(float(lengths.max(axis=1).mean()), rel=2e-3)
    assert EngineLimits().padded_kv(200.0, sequences) == 200.0

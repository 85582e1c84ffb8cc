"""Recorded acceptance of the trained models: what is stored, how it is split, and how laws are scored on it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specsim.profiling.acceptance.record_file import RecordedRequest, RecordedTraces, read_traces
from specsim.speculation.acceptance import ConstantAcceptance, RoundHistory, TraceAcceptance
from specsim.speculation.fit import autocorrelation

FOLDER = Path(__file__).parents[2] / "validation" / "studies" / "acceptance"
FILES = sorted((FOLDER / "traces").glob("*/*.jsonl"))


def script(name: str) -> Any:
    """A module of the folder, whose files import each other by plain names."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


study, prompts, page = (script(f"acceptance_{name}") for name in ("study", "prompts", "page"))


def bernoulli(rate: float, requests: int, positions: int, *, cap: int = 8, documents: int = 40) -> RecordedTraces:
    """Traces of drafts that are right with one probability everywhere, each token anew."""
    right = np.random.default_rng(4).random((requests, positions + cap)) < rate
    windows = np.lib.stride_tricks.sliding_window_view(right, cap, axis=1)[:, :positions]
    runs = np.cumprod(windows, axis=2).sum(axis=2)
    rows = (
        RecordedRequest(name=f"d{i % documents}@{i}", domain="code", runs=tuple(r.tolist()))
        for i, r in enumerate(runs)
    )
    return RecordedTraces(
        drafter="made up", target="none", temperature=0, seed=0, prompt_tokens=1, cap=cap, requests=tuple(rows)
    )


# -- what is stored -----------------------------------------------------------------------------------------------


def test_every_drafter_is_recorded_on_the_same_requests_at_both_temperatures() -> None:
    recorded = [read_traces(path) for path in FILES]
    assert {(path.parent.name, path.stem) for path in FILES} == {
        (target, drafter)
        for target in ("greedy", "sampled")
        for drafter in ("draft", "eagle", "exit", "medusa", "ngram")
    }
    assert {one.temperature for one in recorded} == {0.0, 1.0}
    assert len({tuple((r.name, r.domain) for r in one.requests) for one in recorded}) == 1
    assert {len(r.runs) for one in recorded for r in one.requests} == {128}
    domains = [r.domain for r in recorded[0].requests]
    assert {domain: domains.count(domain) for domain in prompts.DOMAINS} == dict.fromkeys(prompts.DOMAINS, 40)
    assert sum(path.stat().st_size for path in FILES) < 500_000


def test_runs_of_drafters_that_see_the_same_text_end_together() -> None:
    """A run of r > 1 of a drafter that guesses one token ahead leaves r - 1 at the next position."""
    for name in ("draft", "exit"):
        traces = read_traces(FOLDER / "traces" / "greedy" / f"{name}.jsonl")
        for request in traces.requests:
            for here, following in zip(request.runs, request.runs[1:], strict=False):
                assert here == 0 or here - 1 <= following <= here
                assert here in (0, traces.cap) or following == here - 1


def test_the_page_shows_the_stored_scores() -> None:
    assert (FOLDER / "README.md").read_text() == page.page(study.read(FOLDER / "scores.csv"))


def test_the_stored_scores_follow_from_the_stored_traces(tmp_path: Path) -> None:
    stored = study.read(FOLDER / "scores.csv")
    name = "ngram"
    found = list(study.scores("greedy", read_traces(FOLDER / "traces" / "greedy" / f"{name}.jsonl")))
    expected = [row for row in stored if (row.target, row.drafter, row.tested) == ("greedy", name, "second")]
    study.write(found, tmp_path / "scores.csv")
    assert study.read(tmp_path / "scores.csv") == expected


# -- how it is scored ---------------------------------------------------------------------------------------------


def test_no_document_is_on_both_sides_and_both_hold_about_half() -> None:
    traces = read_traces(FILES[0])
    fit = study.fitting_half(traces.requests)
    sides = [study.half(traces, study.ALL, fit, fit=side)[1] for side in (True, False)]
    assert not set(sides[0]) & set(sides[1])
    assert len(sides[0]) + len(sides[1]) == len(traces.requests)
    assert 0.4 < len(sides[0]) / len(traces.requests) < 0.6


def test_quantities_are_those_of_the_library() -> None:
    trace = read_traces(FILES[0]).trace()
    half = study.replayed(trace, [str(i) for i in range(len(trace.runs))])
    found = half.point()
    lengths = [k for k in study.LENGTHS if k <= trace.cap]
    for k in lengths:
        assert found[f"AL k={k}"] == pytest.approx(trace.expected_tokens(k), rel=1e-12)
    rates = [found[f"r_{i}"] for i in range(1, max(lengths) + 1)]
    assert rates == pytest.approx(trace.survival(max(lengths)).tolist(), rel=1e-12)
    each = trace.replay(study.SHAPE_AT)
    assert found["spread"] == pytest.approx(np.std([1 + x.mean() for x in each], ddof=1), rel=1e-12)
    rounds = [RoundHistory(np.zeros_like(x), np.full_like(x, study.SHAPE_AT), x) for x in each]
    assert found["lag 1"] == pytest.approx(autocorrelation(rounds), rel=1e-9)


def test_weights_count_requests_as_often_as_they_say() -> None:
    runs = ((0, 2, 1, 0, 3, 2, 1, 0), (1, 0, 0, 0, 0, 1, 0, 2), (4, 3, 2, 1, 0, 0, 1, 0))
    once = study.replayed(TraceAcceptance(runs=runs, cap=8), ["a", "b", "c"])
    twice = study.replayed(TraceAcceptance(runs=(runs[0], runs[2], runs[2]), cap=8), ["a", "c", "c"])
    found = once.quantities(np.array([[1.0, 0.0, 2.0]]))
    assert {name: values[0] for name, values in found.items()} == pytest.approx(twice.point())


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """60 halves of independent requests whose law is known; nine in ten intervals should hold its mean."""
    truth = ConstantAcceptance(rate=0.6).expected_tokens(4)
    inside = 0
    for seed in range(60):
        right = np.random.default_rng(seed).random((40, 72)) < 0.6
        runs = np.cumprod(np.lib.stride_tricks.sliding_window_view(right, 8, axis=1)[:, :64], axis=2).sum(axis=2)
        trace = TraceAcceptance(runs=tuple(tuple(row.tolist()) for row in runs), cap=8)
        low, high = study.replayed(trace, [str(i) for i in range(40)]).intervals(seed)["AL k=4"]
        inside += low <= truth <= high
    assert 45 <= inside <= 60


def test_every_law_is_right_about_drafts_that_are_right_at_random() -> None:
    """(1 - a^(k+1))/(1 - a) tokens a round, no difference between requests but chance, no memory."""
    rate = 0.6
    rows = [row for row in study.scores("x", bernoulli(rate, 160, 128)) if row.scope == study.ALL]
    for row in rows:
        if row.quantity.startswith("AL"):
            k = int(row.quantity.partition("=")[2])
            slack = 0.12 if row.law == "power law" else 0.03  # a power law cannot be a geometric one
            assert row.predicted == pytest.approx((1 - rate ** (k + 1)) / (1 - rate), rel=slack), row
        elif row.quantity == "lag 1":
            assert abs(row.predicted) < 0.05, row
        elif row.quantity == "spread" and row.law != "power law":
            assert row.predicted == pytest.approx(row.measured, rel=0.35), row


# -- prompts ------------------------------------------------------------------------------------------------------


def test_docstrings_are_all_of_them_and_nothing_else() -> None:
    source = (
        '"""First."""\nx = "no"\n\n\nclass A:\n    """Second\n    line."""\n\n    def f(self):\n        return 1\n'
    )
    assert prompts.docstrings(source) == "First.\n\nSecond\nline."
    assert prompts.docstrings("def (") == ""


def test_pieces_begin_at_lines_and_never_overlap() -> None:
    text = "".join(f"line {number} {'x' * (number % 40)}\n" for number in range(200))
    found = prompts.pieces("name", text)
    assert len(found) > 3
    end = 0
    for name, piece in found:
        start = int(name.removeprefix("name@"))
        assert text[start : start + prompts.PIECE] == piece
        assert start >= end
        assert start == 0 or text[start - 1] == "\n"
        end = start + prompts.PIECE


def test_prompts_come_only_from_text_held_out_of_training(tmp_path: Path) -> None:
    prompts.write(tmp_path / "a.jsonl", 3)
    prompts.write(tmp_path / "b.jsonl", 3)
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    held_out = {document.name for document in prompts.corpus().split()[1]}
    recorded = {study.document(request) for request in read_traces(FILES[0]).requests}
    trained_on = {document.name for document in prompts.corpus().split()[0]}
    assert not recorded & trained_on
    assert recorded & held_out

"""SLOs: bounds on percentiles, limits of single requests, and what a run says to them."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.results import Slo, slo_findings, slo_met

SUMMARY: dict[str, Any] = {
    "p95_ttft_ms": 800.0, "p50_tpot_ms": 30.0, "p95_tpot_ms": 44.0, "p99_itl_ms": None, "p90_e2el_ms": 9_000.0,
    "goodput_share": 0.93, "saturated": False, "truncated": False,
}  # fmt: skip


def slo(**fields: Any) -> Slo:
    return Slo.model_validate(fields)


def test_each_bound_is_told_with_what_the_run_showed() -> None:
    asked = slo(ttft_s={"p95": 1.0}, tpot_s={"p95": 0.04, "p50": 0.04}, goodput={"share": 0.9})
    found = slo_findings(SUMMARY, asked)
    assert [(one.name, one.met) for one in found] == [
        ("ttft p95", True),
        ("tpot p50", True),
        ("tpot p95", False),
        ("goodput", True),
    ]
    assert [one.ratio for one in found] == pytest.approx([0.8, 0.75, 1.1, 0.93 / 0.9])
    assert not slo_met(SUMMARY, asked)
    assert slo_met(SUMMARY, slo(e2e_s={"p90": 9.0}))


def test_a_queue_that_keeps_growing_meets_nothing() -> None:
    assert not slo_met(SUMMARY | {"saturated": True}, slo(ttft_s={"p95": 1.0}))


def test_requests_of_one_token_have_no_gaps_to_bound() -> None:
    assert slo_met(SUMMARY, slo(itl_s={"p99": 0.01}))


def test_a_request_is_held_to_the_highest_bounded_percentile_unless_goodput_says_otherwise() -> None:
    asked = slo(ttft_s={"p50": 0.5, "p99": 2.0}, tpot_s={"p95": 0.04}, goodput={"tpot_s": 0.1})
    assert asked.request_limits() == (2.0, 0.1, None)

"""Where a round's error sits: parts planted one by one."""

from __future__ import annotations

import pytest

from specsim.fidelity import Predicted, compare
from specsim.fidelity.where import (
    DRAFT,
    HOST,
    PARTS,
    SAMPLE,
    SLOW,
    TARGET,
    by_width,
    cell_parts,
    summaries,
    target_factors,
)
from specsim.results import GridRow

HOST_S, HOST_PER_PASS_S = 0.001, 0.0005


def seconds(batch: int, k: int) -> dict[str, float]:
    """A made-up machine: its true parts, by the cost model's names."""
    return {
        "gemm": 0.02 + 0.0003 * batch * (k + 1),
        "lm_head": 0.002,
        "attention": 0.0005 * batch,
        "elementwise": 0.0001 * batch * (k + 1) ** 1.5,
        "draft": (0.003 + HOST_PER_PASS_S) * k,
        "sampling": 0.0002 * batch,
        "host": HOST_S,
    }


def measured(repeat: int, batch: int, k: int, *, slow: float = 0.0) -> GridRow:
    """The same machine as an engine reports it: host time of draft passes stands with the host."""
    true = seconds(batch, k)
    target = true["gemm"] + true["lm_head"] + true["attention"] + true["elementwise"]
    host = true["host"] + HOST_PER_PASS_S * k
    draft = true["draft"] - HOST_PER_PASS_S * k
    total = sum(true.values())
    return GridRow(
        repeat, batch, k, 100.0, 10, 10 * total * (1 + slow), 10 * batch, total, total, total, target, draft,
        true["sampling"], host,
    )  # fmt: skip


CELLS = [(batch, k) for batch in (1, 4, 16) for k in (0, 2, 4)]


def scored(factors: dict[str, float], *, slow: float = 0.0) -> list:
    """Parts of cells whose prediction is the truth times ``factors``."""
    rows = [measured(repeat, *cell, slow=slow) for repeat in (0, 1) for cell in CELLS]
    predicted = []
    for batch, k in CELLS:
        parts = {name: factors.get(name, 1.0) * value for name, value in seconds(batch, k).items()}
        total = sum(parts.values())
        predicted.append(Predicted(batch, k, total, 0.9 * total, 1.1 * total, 1.0 + k, "interpolated", parts))
    return cell_parts(compare(predicted, rows), rows)


def test_the_truth_has_no_error_anywhere_though_the_host_is_billed_elsewhere() -> None:
    for summary in summaries(scored({})):
        assert summary.contribution == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("name", "part"), [("gemm", TARGET), ("draft", DRAFT), ("sampling", SAMPLE), ("host", HOST)])
def test_a_planted_error_is_found_in_its_part_and_no_other(name: str, part: str) -> None:
    found = {summary.part: summary for summary in summaries(scored({name: 1.25}))}
    assert found[part].contribution > 0
    assert found[part].error is not None
    if part != TARGET:
        assert found[part].error == pytest.approx(0.25)
    assert all(found[other].absolute == pytest.approx(0.0, abs=1e-12) for other in PARTS if other != part)


def test_contributions_add_up_to_the_error_of_each_cell() -> None:
    for cell in scored({"gemm": 0.8, "attention": 1.5, "draft": 1.1, "host": 2.0}, slow=0.03):
        assert sum(cell.contribution(part) for part in PARTS) == pytest.approx(cell.cell.error)


def test_rounds_slower_than_their_median_are_named() -> None:
    """The mean round is 3 % above the sum of the parts' medians: that is 0.03 / 1.03 of it."""
    found = {summary.part: summary for summary in summaries(scored({}, slow=0.03))}
    assert found[SLOW].contribution == pytest.approx(-0.03 / 1.03)


def test_factors_undo_what_was_planted_in_the_target() -> None:
    """Predictions are off by 0.5 in attention and 1.25 in matrix products, so the factors are 2 and 0.8."""
    cells = scored({"gemm": 1.25, "lm_head": 1.25, "attention": 0.5})
    found = {factor.part: factor for factor in target_factors(cells)}
    assert found["matrix products"].factor == pytest.approx(0.8)
    assert found["attention"].factor == pytest.approx(2.0)
    assert found["elementwise"].factor == pytest.approx(1.0)
    assert all(factor.standard_error < 1e-6 for factor in found.values())
    assert target_factors(cells[:3]) == []


def test_widths_double_and_hold_every_cell_once() -> None:
    groups = by_width(scored({}))
    assert sum(map(len, groups.values())) == len(CELLS)
    for (first, last), cells in groups.items():
        assert last == 2 * first - 1
        assert all(first <= cell.verified_tokens <= last for cell in cells)


def test_without_a_round_at_k_0_or_without_parts_nothing_is_said() -> None:
    rows = [measured(repeat, 1, k) for repeat in (0, 1) for k in (1, 2)]
    whole = [Predicted(1, k, 1.0, 0.9, 1.1, 1.0, "measured", seconds(1, k)) for k in (1, 2)]
    assert cell_parts(compare(whole, rows), rows) == []
    rows = [measured(repeat, *cell) for repeat in (0, 1) for cell in CELLS]
    bare = [Predicted(*cell, 1.0, 0.9, 1.1, 1.0, "measured") for cell in CELLS]
    assert cell_parts(compare(bare, rows), rows) == []

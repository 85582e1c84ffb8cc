"""What the replication table shows."""

from __future__ import annotations

from typing import Any

from specsim.report.replications import replications_json, replications_tables


def summary(**values: Any) -> dict[str, Any]:
    return {"saturated": False, "truncated": False, "completed": 5, "spec_decode_acceptance_length": None} | values


RUNS = {
    "off": [summary(p95_ttft_ms=10.0), summary(p95_ttft_ms=14.0)],
    "on": [summary(p95_ttft_ms=9.0, saturated=True), summary(p95_ttft_ms=13.0, saturated=True)],
}


def lines(runs: dict[str, list[dict[str, Any]]], pairs: list[tuple[str, str]]) -> list[dict[str, list[str]]]:
    """The cells of each table by their metric."""
    found = []
    for table in replications_tables(runs, pairs, first_seed=3):
        columns = [list(column.cells) for column in table.columns]
        rows = {str(row[0]): [str(cell) for cell in row[1:]] for row in zip(*columns, strict=True)}
        headings = [" ".join(str(column.header).split()) for column in table.columns]
        found.append(rows | {headings[0]: headings[1:], "title": [str(table.title)]})
    return found


def test_intervals_and_differences_by_hand() -> None:
    """t of 1 degree of freedom is 12.706; 10 and 14 have s/√2 = 2, so 12 ± 25.41; the differences are both -1."""
    (table,) = lines(RUNS, [("on", "off")])
    assert table["metric"] == ["off", "on", "on minus off"]
    assert table["TTFT p95, ms"] == ["12.0 ± 25.4", "11.0 ± 25.4", "-1.00"]
    assert table["queue kept growing"][:2] == ["0 of 2", "2 of 2"]
    assert "cut short" not in table
    assert "tokens a drafting round" not in table


def test_one_run_has_no_interval() -> None:
    (table,) = lines({name: runs[:1] for name, runs in RUNS.items()}, [("on", "off")])
    assert table["TTFT p95, ms"] == ["10.0", "9.00", "-1.00"]


def test_three_alternatives_have_their_differences_apart() -> None:
    runs = RUNS | {"speculation.program=ngram": RUNS["off"]}
    own, apart = lines(runs, [("on", "off"), ("speculation.program=ngram", "on")])
    assert own["title"] == ["each simulated 2 times, seeds 3 to 4: mean of the runs ± half of its 95 % interval"]
    assert own["metric"] == ["off", "on", "program=ngram"]
    assert apart["metric"] == ["on minus off", "program=ngram minus on"]
    assert apart["TTFT p95, ms"] == ["-1.00", "1.00"]


def test_json_has_the_same() -> None:
    found = replications_json(RUNS, [("on", "off")])
    assert found["differences"]["on minus off"]["p95_ttft_ms"] == {"mean": -1.0, "low": -1.0, "high": -1.0, "count": 2}
    assert found["intervals"]["off"]["completed"]["mean"] == 5.0

"""What the replication table shows."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from specsim.report.replications import replications_json, replications_table


def summary(**values: Any) -> dict[str, Any]:
    return {"saturated": False, "truncated": False, "completed": 5, "spec_decode_acceptance_length": None} | values


RUNS = {
    "off": [summary(p95_ttft_ms=10.0), summary(p95_ttft_ms=14.0)],
    "on": [summary(p95_ttft_ms=9.0, saturated=True), summary(p95_ttft_ms=13.0, saturated=True)],
}


def lines(runs: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(replications_table(runs, [("on", "off")]))
    rows = [line.strip("│┃ ") for line in capture.get().splitlines()]
    cells = [[cell.strip() for cell in row.replace("┃", "│").split("│")] for row in rows]
    return {row[0]: row[1:] for row in cells if len(row) > 1}


def test_intervals_and_differences_by_hand() -> None:
    """t of 1 degree of freedom is 12.706; 10 and 14 have s/√2 = 2, so 12 ± 25.41; the differences are both -1."""
    table = lines(RUNS)
    assert table["metric"] == ["off", "on", "on minus off"]
    assert table["TTFT p95, ms"] == ["12.0 ± 25.4", "11.0 ± 25.4", "-1.00 ± 0.00"]
    assert table["queue kept growing"] == ["0 of 2", "2 of 2"]
    assert "cut short" not in table
    assert "tokens a drafting round" not in table


def test_one_run_has_no_interval() -> None:
    table = lines({name: runs[:1] for name, runs in RUNS.items()})
    assert table["TTFT p95, ms"] == ["10.0", "9.00", "-1.00"]


def test_json_has_the_same() -> None:
    found = replications_json(RUNS, [("on", "off")])
    assert found["differences"]["on minus off"]["p95_ttft_ms"] == {"mean": -1.0, "low": -1.0, "high": -1.0, "count": 2}
    assert found["intervals"]["off"]["completed"]["mean"] == 5.0

"""One table, two renderings."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from specsim.report.sheet import Sheet

SHEET = Sheet("errors", ("load", "mean |error|"), [("poisson-30", "+1.0%"), ("gamma-80", "-2.0%")], "what ! means")


def test_markdown_keeps_bars_inside_their_cell() -> None:
    lines = SHEET.markdown().splitlines()
    assert lines[0] == "### errors"
    assert lines[2] == "| load | mean \\|error\\| |"
    assert lines[-1] == "what ! means"
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines[2:6])


def test_the_terminal_never_cuts_a_name() -> None:
    screen = Console(file=io.StringIO(), width=30)
    screen.print(SHEET.table())
    printed = screen.file.getvalue()
    assert "poisson-30" in printed
    assert "-2.0%" in printed


@pytest.mark.parametrize("width", [46, 60, 100])
def test_no_word_is_torn_where_the_words_have_room(width: int) -> None:
    """Also the longest ones of narrow columns beside a long name, which rich alone takes width from in proportion."""
    rows = [("a-name-of-a-study-of-30-letters", "extrapolated, measured", "12.9%, +12.9%")]
    sheet = Sheet("", ("study", "priced by", "mean |error|, bias"), rows, words=(0, 1))
    screen = Console(file=io.StringIO(), width=width)
    screen.print((sheet if width > 70 else sheet.grouped()).table(screen.width))
    printed = screen.file.getvalue()
    assert all(len(line) <= width for line in printed.splitlines())
    words = {word for row in (sheet.header, *sheet.rows) for cell in row for word in cell.split()}
    assert not {word for word in words if word not in printed}


def test_a_name_is_said_once_above_its_rows() -> None:
    rows = [("one", "p50", "1%"), ("one", "p95", "2%"), ("two", "p50", "3%")]
    grouped = Sheet("", ("study", "figure", "error"), rows, words=(0, 1)).grouped()
    assert grouped.header == ["study, figure", "error"]
    assert [row[0].strip() for row in grouped.rows] == ["one", "p50", "p95", "two", "p50"]
    assert [row[1] for row in grouped.rows] == ["", "1%", "2%", "", "3%"]


@pytest.mark.parametrize("columns", [3, 9, 14])
def test_no_word_is_torn_however_many_columns_there_are(columns: int) -> None:
    """Those that do not fit beside each other follow below, with what tells the rows apart."""
    names = [f"metric-{n}" for n in range(columns)]
    rows = [
        [load, run, *(f"+{n}.{n}% (381%)?" for n in range(columns))]
        for load in ("poisson-80", "gamma-30")
        for run in ("k2", "off")
    ]
    screen = Console(width=80, file=io.StringIO())
    screen.print(Sheet("errors", ("load", "run", *names), rows, "a note", words=range(2)).fitted(80))
    text = screen.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    assert {*names, "+0.0%"} <= {*words}
    assert words.count("(381%)?") == 4 * columns
    assert words.count("poisson-80") == 2 * words.count("load")
    assert text.count("a note") == 1

"""One table, two renderings."""

from __future__ import annotations

import io

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

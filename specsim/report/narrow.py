"""Tables for terminals of 80 columns."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table


def narrow_table(title: str) -> Table:
    """A table without side borders, for terminals of 80 columns."""
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False, pad_edge=False
    )

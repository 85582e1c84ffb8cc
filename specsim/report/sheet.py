"""A table that prints in a terminal and reads in Markdown alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from specsim.report.markdown import markdown_table


@dataclass(frozen=True, slots=True)
class Sheet:
    """Cells as text; the first ``left`` columns hold words, the others numbers. ``note`` explains what is marked."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    left: int = 1

    def table(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, caption=self.note or None, caption_justify="left")
        for index, column in enumerate(self.header):
            words = index < self.left
            table.add_column(column, justify="left" if words else "right", no_wrap=words, overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page: a heading, the table, the note."""
        header = [column.replace("|", "\\|") for column in self.header]
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        return "\n\n".join(filter(None, [f"### {self.title}", markdown_table(header, rows), self.note]))

"""A table that prints in a terminal and reads in Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from specsim.report.markdown import aligned_table, markdown_table


@dataclass(frozen=True, slots=True)
class Sheet:
    """Cells as text; columns of ``words`` are set left, others hold numbers. ``note`` explains what is marked."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: Collection[int] = (0,)

    @classmethod
    def of(cls, table: Table) -> Sheet:
        """What a terminal's table holds, its markup left out."""
        columns = table.columns
        cells = [[_plain(cell) for cell in column.cells] for column in columns]
        words = [index for index, column in enumerate(columns) if column.justify == "left"]
        header = [_plain(column.header) for column in columns]
        rows = list(zip(*cells, strict=True))
        return cls(_plain(table.title or ""), header, rows, _plain(table.caption or ""), words)

    def table(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, caption=self.note or None, caption_justify="left")
        for index, column in enumerate(self.header):
            words = index in self.words
            table.add_column(column, justify="left" if words else "right", no_wrap=words, overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page: a heading, the table, the note."""
        header = [column.replace("|", "\\|") for column in self.header]
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        return "\n\n".join(filter(None, [f"### {self.title}", markdown_table(header, rows), self.note]))

    def aligned(self) -> str:
        """The table alone, in Markdown that reads well as it is: every row in one line, as wide as that takes.

        Headings that are parted for a terminal are whole again.
        """
        header = [column.replace("-\n", "").replace("/\n", "/") for column in self.header]
        return aligned_table(header, self.rows, self.words)


def _plain(cell: object) -> str:
    """A cell's text without markup and the spaces that align it."""
    text = cell if isinstance(cell, Text) else Text.from_markup(str(cell))
    return text.plain.strip()

"""A table that prints in a terminal and reads in Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from specsim.report.markdown import aligned_table, markdown_table
from specsim.report.narrow import narrow_table

NARROWEST = 12


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

    def table(self, width: int | None = None) -> Table:
        """For a terminal so wide; no word is torn, unless the first column's have no room. None: as rich sees fit."""
        table = narrow_table(self.title)
        table.caption, table.caption_justify = self.note or None, "left"
        fitted = [None] * len(self.header) if width is None else self._widths(width)
        for index, column in enumerate(self.header):
            words = index in self.words
            table.add_column(
                column,
                justify="left" if words else "right",
                no_wrap=words and width is None,
                overflow="fold",
                width=fitted[index],
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def _widths(self, width: int) -> list[int]:
        """Of the columns: the widest is narrowed as far as its words allow until all fit; then the first one."""
        columns = [[name, *(row[index] for row in self.rows)] for index, name in enumerate(self.header)]
        widths = [max(len(line) for cell in cells for line in cell.splitlines() or [""]) for cells in columns]
        least = [max(len(word) for cell in cells for word in cell.split() or [""]) for cells in columns]
        room = width - 2 * (len(columns) - 1)  # two spaces between columns
        while sum(widths) > room and widths != least:
            widest = max(range(len(widths)), key=lambda index: widths[index] if widths[index] > least[index] else 0)
            widths[widest] -= 1
        widths[0] = max(min(NARROWEST, widths[0]), widths[0] - max(0, sum(widths) - room))
        return widths

    def grouped(self) -> Sheet:
        """The first column's names as rows of their own, each above those that it belongs to."""
        rows, last = list[Sequence[str]](), None
        for name, *cells in self.rows:
            if name != last:
                rows.append([name, *[""] * (len(cells) - 1)])
            rows.append([f"  {cells[0]}", *cells[1:]])
            last = name
        words = {0, *(index - 1 for index in self.words if index)}
        return replace(self, header=[f"{self.header[0]}, {self.header[1]}", *self.header[2:]], rows=rows, words=words)

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

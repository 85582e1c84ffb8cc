"""A table that prints in a terminal and reads in Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from specsim.report.markdown import aligned_table, fenced, markdown_table


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

    def aligned(self, width: int = 80) -> str:
        """The table alone, in Markdown that reads well as it is: where it would be wider, as a terminal has it."""
        pipes = aligned_table(self.header, self.rows, self.words)
        return pipes if len(pipes.partition("\n")[0]) <= width else fenced(self._text(width), "text")

    def _text(self, width: int) -> str:
        """Cells of several lines as such; no column is cut."""
        screen = Console(file=StringIO(), width=width)
        tables = [self._bare(padding) for padding in (1, 0)]
        fits = [one for one in tables if Measurement.get(screen, screen.options, one).maximum <= width]
        screen.print((fits or tables[-1:])[0])
        return "\n".join(line.rstrip() for line in screen.file.getvalue().splitlines())  # type: ignore[attr-defined]

    def _bare(self, padding: int) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, padding), show_edge=False, pad_edge=False)
        for index, column in enumerate(self.header):
            words = index in self.words
            table.add_column(Text(column), justify="left" if words else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


def _plain(cell: object) -> str:
    """A cell's text without markup and the spaces that align it."""
    text = cell if isinstance(cell, Text) else Text.from_markup(str(cell))
    return text.plain.strip()

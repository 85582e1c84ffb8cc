"""A table that prints in a terminal and reads in Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from rich.console import Group
from rich.table import Table
from rich.text import Text

from specsim.report.markdown import aligned_table, markdown_table
from specsim.report.narrow import narrow_table

NARROWEST = 12
BETWEEN = 2  # spaces between columns


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

    def fitted(self, width: int) -> Group:
        """For a terminal so wide, in several tables below each other where one would tear words."""
        return Group(*(one.table(width) for one in self.parted(width)))

    def parted(self, width: int) -> list[Sheet]:
        """Itself where it fits; else parts that do, each with the first columns, as many as tell its rows apart."""
        names = next((index for index in range(len(self.header)) if index not in self.words), 1)
        distinct = (n for n in range(1, names + 1) if len({tuple(row[:n]) for row in self.rows}) == len(self.rows))
        kept = range(next(distinct, 1))
        least = [max(map(len, " ".join(column).split()), default=0) + BETWEEN for column in self._columns()]
        least[0] = min(least[0], NARROWEST + BETWEEN)  # a longer name is folded
        parts, room = [list[int]()], width + BETWEEN - sum(least[index] for index in kept)
        for index in range(len(kept), len(least)):
            if parts[-1] and sum(least[other] for other in [*parts[-1], index]) > room:
                parts.append([])
            parts[-1].append(index)
        return [self] if len(parts) == 1 else [self._part([*kept, *columns], parts, columns) for columns in parts]

    def _part(self, shown: Sequence[int], parts: Sequence[object], columns: object) -> Sheet:
        first, last = columns is parts[0], columns is parts[-1]
        return Sheet(
            self.title if first else f"{self.title}, continued",
            [self.header[index] for index in shown],
            [[row[index] for index in shown] for row in self.rows],
            self.note if last else "",
            [place for place, index in enumerate(shown) if index in self.words],
        )

    def _columns(self) -> list[list[str]]:
        """Each with its heading."""
        return [[name, *(row[index] for row in self.rows)] for index, name in enumerate(self.header)]

    def _widths(self, width: int) -> list[int]:
        """Of the columns: the widest is narrowed as far as its words allow until all fit; then the first one."""
        columns = self._columns()
        widths = [max(len(line) for cell in cells for line in cell.splitlines() or [""]) for cells in columns]
        least = [max(len(word) for cell in cells for word in cell.split() or [""]) for cells in columns]
        room = width - BETWEEN * (len(columns) - 1)
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

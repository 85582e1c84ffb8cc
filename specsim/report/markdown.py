"""Markdown: tables, and text that means what it says."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# What starts something in Markdown or HTML wherever it stands, and an underscore that is not inside of a word; what
# does so at the start of a line.
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
_FIRST = re.compile(r"^([#>+=-]|(?=\d+[.)]\s))")


def markdown_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A pipe table; cells are written as ``str`` writes them."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Collection[int]) -> str:
    """A pipe table whose columns are as wide as their widest cell, those of ``words`` set left, the others right."""
    cells = [[_escaped(cell) for cell in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        sides = [
            cell.ljust(width) if index in words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(sides)} |"

    rule = ["-" * width if index in words else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    return "\n".join(map(line, [cells[0], rule, *cells[1:]]))


def inline(text: str) -> str:
    """Text in one line that neither Markdown nor HTML reads anything into."""
    return _FIRST.sub(lambda found: "\\" + found[0] if found[0] else "\u200b", _escaped(text))


def _escaped(text: str) -> str:
    """The same inside of a line."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], " ".join(text.split())).replace("<", "&lt;")


def fenced(text: str, language: str = "") -> str:
    """A code block, its fence longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"

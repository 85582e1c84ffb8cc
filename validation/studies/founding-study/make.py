"""Writes this folder's tables and page.

python validation/studies/founding-study/make.py            everything (about two minutes)
python validation/studies/founding-study/make.py --page     only README.md, from the tables
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from founding_page import page
from founding_study import FOLDER, TABLES, closed_form, read, traffic, write


def main() -> None:
    """Write the tables, unless told not to, and the page."""
    if "--page" not in sys.argv[1:]:
        tables: list[Sequence[Any]] = [*closed_form(), traffic()]
        for name, rows in zip(TABLES, tables, strict=True):
            write(FOLDER / name, rows)
    (FOLDER / "README.md").write_text(page(*(read(FOLDER / name, kind) for name, kind in TABLES.items())))


if __name__ == "__main__":
    main()

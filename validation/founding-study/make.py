"""Writes this folder's tables and page.

python validation/founding-study/make.py            everything (about two minutes)
python validation/founding-study/make.py --page     only README.md, from the tables
"""

from __future__ import annotations

import sys

from founding_page import page
from founding_study import FOLDER, Line, Point, Run, Share, closed_form, read, traffic, write

TABLES = {"best.csv": Point, "shares.csv": Share, "lines.csv": Line, "traffic.csv": Run}


def main() -> None:
    """Write the tables, unless told not to, and the page."""
    if "--page" not in sys.argv[1:]:
        for name, rows in zip(TABLES, (*closed_form(), traffic()), strict=True):
            write(FOLDER / name, rows)
    (FOLDER / "README.md").write_text(page(*(read(FOLDER / name, kind) for name, kind in TABLES.items())))


if __name__ == "__main__":
    main()

"""Writes this folder's predicted.csv and page.

python validation/spec-bench/make.py
"""

from __future__ import annotations

from spec_bench_page import page, write_rows
from spec_bench_study import FOLDER, measured, tries


def main() -> None:
    """Fit, predict, score, write."""
    rows = measured()
    found = tries(rows)
    write_rows(rows, found)
    (FOLDER / "README.md").write_text(page(rows, found))


if __name__ == "__main__":
    main()

"""Writes this folder's tables and page.

python validation/studies/spec-bench/make.py            everything (about two minutes)
python validation/studies/spec-bench/make.py --page     only README.md, from the tables
"""

from __future__ import annotations

import sys

import spec_bench_corner
import spec_bench_splits
from spec_bench_data import FOLDER, measured
from spec_bench_page import page
from spec_bench_study import read, tries, write


def main() -> None:
    """Fit, predict and score, unless told not to, and write the page."""
    rows = measured()
    if "--page" not in sys.argv[1:]:
        write(tries(rows), rows)
        spec_bench_corner.write(spec_bench_corner.leave_one_out())
        spec_bench_splits.write(spec_bench_splits.spreads(rows))
    (FOLDER / "README.md").write_text(page(rows, read(), spec_bench_corner.read(), spec_bench_splits.read()))


if __name__ == "__main__":
    main()

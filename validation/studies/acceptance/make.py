"""Writes this folder's scores and page.

python validation/studies/acceptance/make.py            fit, test, write scores.csv and README.md (under a minute)
python validation/studies/acceptance/make.py --record   record the traces first (minutes of one core; needs torch)
python validation/studies/acceptance/make.py --page     only README.md, from scores.csv
"""

from __future__ import annotations

import sys

from acceptance_page import page
from acceptance_study import HERE, read, study, write

SCORES = HERE / "scores.csv"


def main() -> None:
    """As the arguments say."""
    chosen = set(sys.argv[1:])
    if "--record" in chosen:
        from acceptance_record import record

        record()
    if "--page" not in chosen:
        write(study(), SCORES)
    (HERE / "README.md").write_text(page(read(SCORES)))


if __name__ == "__main__":
    main()

"""Writes formats.csv and prints it: how far a format is off that another one stands in for."""

from __future__ import annotations

import formats_study as study

if __name__ == "__main__":
    found = study.results()
    study.write(found)
    for one in found:
        print(
            f"{one.card:14s} {one.kind:5s} {one.format:18s} from {one.stand_in:18s} {one.regime:8s} {one.count:4d} "
            f"row / price: {one.median:.2f} ({one.p10:.2f} to {one.p90:.2f})"
        )

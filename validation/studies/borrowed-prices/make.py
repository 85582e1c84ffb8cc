"""Writes borrowed.csv and prints it: how far borrowed prices and rooflines are off on cards that are measured."""

from __future__ import annotations

import borrowed_study as study

if __name__ == "__main__":
    found = study.results()
    study.write(found)
    print(f"{'card':10s} {'from':10s} {'what':28s} borrowed: bias, median, p90    roofline: bias, median, p90")
    for one in found:
        print(
            f"{one.card:10s} {one.lender:10s} {one.what:28s} "
            f"{one.borrowed_bias:+.1%} {one.borrowed_median:6.1%} {one.borrowed_p90:6.1%}    "
            f"{one.roofline_bias:+.1%} {one.roofline_median:6.1%} {one.roofline_p90:6.1%}"
        )

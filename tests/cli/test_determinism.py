"""One seed gives the same digits in every process, and no answer depends on the order of a set, which Python draws
anew in each.
"""

from __future__ import annotations

import os
import subprocess
import sys

TWO_VERBS = """
from specsim.cli.main import main
short = [
    "workload.requests=40",
    "workload.arrivals={kind: poisson, rate_per_s: 20}",
    "workload.lengths={kind: lognormal, prompt_mean: 64, prompt_cv: 1, output_mean: 16, output_cv: 1}",
]
assert main(["predict", "cpu-144m", "--json"]) == 0
assert main(["simulate", "cpu-144m", "--json", *(f"--set={one}" for one in short)]) == 0
"""


def test_answers_are_the_same_in_every_process_under_every_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", TWO_VERBS],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000

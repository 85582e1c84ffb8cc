"""No answer depends on the order of a set, which Python draws anew in every process."""

from __future__ import annotations

import os
import subprocess
import sys


def test_predictions_are_the_same_under_every_hash_seed() -> None:
    arguments = [sys.executable, "-m", "specsim.cli.main", "predict", "cpu-144m", "--json"]
    outputs = {
        subprocess.run(arguments, capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1

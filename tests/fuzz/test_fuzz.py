"""Whatever is given, the answer is a result or one line: no traceback, no hang, no number that is not finite."""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

from specsim.cli.main import main
from tests.fuzz.inputs import KINDS, SHORT

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(10**6))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
LONGEST_S = 60  # of one input, on a machine with others on it
LONGEST_LINE = 4_000  # characters: up to twenty faults


def _answers(index: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the input of a number; returns its kind and exit status. Fails with the command line that repeats it."""
    chance = random.Random(f"{SEED}/{index}")
    kind = chance.choice(list(KINDS))
    folder.mkdir()
    arguments = KINDS[kind](chance, folder)
    again = f"FUZZ_SEED={SEED}, input {index} ({kind}): specsim {' '.join(arguments)[:300]}, files in {folder}"

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer in {LONGEST_S} s; {again}")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = main(arguments)
    except Exception as error:
        raise AssertionError(again) from error
    finally:
        signal.alarm(0)
    shown = capsys.readouterr()
    told = [line for line in shown.err.splitlines() if line.startswith("specsim: ")]
    assert status in (0, 2, 3), again
    assert "NaN" not in shown.out, again
    assert "Infinity" not in shown.out, again
    if status:
        assert told, again
        assert len(told[-1]) < LONGEST_LINE, again
    return f"{kind} {status}"


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """The simulator's compilation is no hang."""
    assert main(["simulate", "cpu-144m", *SHORT]) == 0


def test_every_input_gets_a_result_or_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    until, found, index = time.monotonic() + SECONDS, Counter[str](), 0
    while time.monotonic() < until:
        found[_answers(index, tmp_path / str(index), capsys)] += 1
        index += 1
    with capsys.disabled():
        print(f"\nfuzz: seed {SEED}, {index} inputs, {dict(sorted(found.items()))}: no traceback, no hang")


@pytest.mark.full
def test_twenty_thousand_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(10**6, 10**6 + 20_000):
        _answers(index, tmp_path / str(index), capsys)

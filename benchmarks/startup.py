"""CPU seconds (user + system) that each verb takes, from the start of its process to the end.

    python benchmarks/startup.py [--repeats 3] [--first]

The best of the repeats after one that fills the caches; beside it what importing numpy, scipy and pydantic takes, and
the bar. ``--first``: also a simulation with empty caches, as on a new machine, compilation included. The dashboard's
first view is a process that draws the page once; a change of k is one more drawing in that process, of one scenario
and of two side by side.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SCENARIO = """\
schema: 1
name: llama-3.1-8b-on-h100
model: llama-3.1-8b
gpu: h100-sxm
speculation:
  program: draft-model
  draft_model: llama-3.2-1b
  max_draft_tokens: 6
  acceptance: {kind: constant, rate: 0.7}
workload:
  kind: synthetic
  arrivals: {kind: poisson, rate_per_s: 8}
  lengths: {kind: fixed, prompt_tokens: 512, output_tokens: 256}
  requests: 500
"""
# As for a user: one thread, and Python keeps its byte code.
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
PAGE = Path(__file__).parents[1] / "streamlit_app.py"
# Prints what the first view takes, and changes of k then: of one scenario, and of both A and B, on another card.
DASHBOARD = f"""
import time
from streamlit.testing.v1 import AppTest

def drawn(asked):
    page = asked.run()
    assert not page.exception and not page.error, page

def changed(*values):
    for value in values:  # the first may draw another acceptance law than the page began with
        begun = time.process_time()
        drawn(page.number_input(key="draft-tokens").set_value(value))
    return time.process_time() - begun

page = AppTest.from_file({str(PAGE)!r}, default_timeout=120)
drawn(page)
found = [time.process_time(), changed(5, 6)]
drawn(page.toggle(key="two").set_value(True))
drawn(page.selectbox(key="b-gpu").set_value("h200"))
print(*found, changed(5, 7))
"""

VIEWS = ("dashboard, first view", "dashboard, a change", "dashboard, a change of A and B")


@dataclass(frozen=True, slots=True)
class Line:
    """A command line, and the most CPU seconds that it should take."""

    name: str
    arguments: list[str]
    bar_s: float | None = None


def spent(arguments: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """CPU seconds of a process and its children, and what it printed."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | SETTINGS | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return after.children_user + after.children_system - before.children_user - before.children_system, done.stdout


def best(line: Line, repeats: int) -> tuple[float, str]:
    """The fastest of the repeats, after one that does not count."""
    spent(line.arguments, {})
    return min((spent(line.arguments, {}) for _ in range(repeats)), key=lambda one: one[0])


def lines(scenario: str, folder: str) -> list[Line]:
    cli = ["-m", "specsim.cli.main"]
    return [
        Line("import numpy, scipy, pydantic", ["-c", "import numpy, scipy, pydantic"]),
        Line("specsim --help", [*cli, "--help"], 0.4),
        Line("specsim predict", [*cli, "predict", scenario], 1.5),
        Line("specsim tune", [*cli, "tune", scenario, "--for", "vllm"], 2.0),
        Line(
            "specsim report --by-formula",
            [*cli, "report", scenario, "--by-formula", "--out", f"{folder}/report.html"],
            2.0,
        ),
        Line("specsim simulate", [*cli, "simulate", scenario, "--alone"], 3.0),
        Line("dashboard", ["-c", DASHBOARD]),
    ]


def show(name: str, seconds: float, bar_s: float | None) -> None:
    bar = "" if bar_s is None else f"   {'within' if seconds <= bar_s else 'ABOVE'} {bar_s:g}"
    print(f"{name:32} {seconds:6.2f} s{bar}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--first", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.yaml"
        scenario.write_text(SCENARIO)
        for line in lines(str(scenario), folder):
            seconds, printed = best(line, asked.repeats)
            if line.name.startswith("dashboard"):
                for name, each_s, bar_s in zip(VIEWS, map(float, printed.split()), (3.0, 0.3, 0.3), strict=True):
                    show(name, each_s, bar_s)
            else:
                show(line.name, seconds, line.bar_s)
        if asked.first:
            empty = {"NUMBA_CACHE_DIR": f"{folder}/numba", "XDG_CACHE_HOME": f"{folder}/cache"}
            arguments = ["-m", "specsim.cli.main", "simulate", str(scenario), "--alone"]
            show("specsim simulate, first time", spent(arguments, empty)[0], 15.0)


if __name__ == "__main__":
    main()

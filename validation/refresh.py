"""Fill the figures of README.md and validation/README.md with what the commands print.

Run ``python validation/refresh.py`` after a profile, the cost model or a case has changed; the tests compare the same
blocks.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

from specsim.cli.main import main
from specsim.profiles.store import load_profile, profile_names

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = ("gemm bfloat16", "attention decode bfloat16", "attention prefill bfloat16")


def printed(*arguments: str) -> str:
    """What ``specsim`` prints."""
    output = io.StringIO()
    with redirect_stdout(output):
        status = main(list(arguments))
    if status:
        raise SystemExit(f"specsim {' '.join(arguments)} ended with {status}")
    return "\n".join(line.rstrip() for line in output.getvalue().strip().splitlines())


def block(text: str, name: str, fill: Callable[[str], str]) -> str:
    """``text`` with what stands between ``<!-- name -->`` and the next ``<!-- end -->`` filled anew."""
    return re.sub(
        f"(<!-- {name} -->\n)(.*?)(\n<!-- end -->)", lambda m: m[1] + fill(m[2]) + m[3], text, count=1, flags=re.DOTALL
    )


def accuracy(scores: dict[str, Any]) -> Callable[[str], str]:
    """Figures of each case's row; its first two cells are the author's."""

    def fill(old: str) -> str:
        lines = old.split("\n")
        for index, line in enumerate(lines):
            score = scores.get(line.removeprefix("| ").split(":")[0])
            if score is not None:
                errors = (
                    score["mean_absolute_error"], score["p90_absolute_error"],
                    score["committed"]["mean_absolute_error"],
                )  # fmt: skip
                cells = [f"{error:.1%}" for error in errors]
                cells += [f"{score['interval_coverage']:.0%}", f"{score['worst_regret']:.1%}"]
                lines[index] = "|".join(line.split("|")[:3]) + "| " + " | ".join(cells) + " |"
        return "\n".join(lines)

    return fill


def imported() -> str:
    """One row a profile made from another project's tables."""
    rows = [
        "| profile | rows | 16-bit GEMM: median, p90, covered, n (unseen) | decode attention | prefill attention |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in profile_names():
        profile = load_profile(name)
        if profile.header.importer is None:
            continue
        found = [profile.header.heldout_error[kind] for kind in IMPORTED]
        cells = [f"{e.median:.1%}, {e.p90:.1%}, {e.coverage:.0%}, {e.n} ({e.unseen})" for e in found]
        rows.append(f"| {name} | {sum(map(len, profile.rows.values())):,} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def run() -> None:
    os.environ["COLUMNS"] = "120"
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        quickstart = printed("quickstart")
    scores = json.loads(printed("validate", "--json"))
    for path in (ROOT / "README.md", ROOT / "validation" / "README.md"):
        text = block(path.read_text(), "quickstart", lambda _: f"```text\n{quickstart}\n```")
        text = block(text, "accuracy", accuracy(scores))
        path.write_text(block(text, "imported", lambda _: imported()))


if __name__ == "__main__":
    run()

"""Fill the figures of README.md and validation/README.md with what the commands print.

Run ``python validation/refresh.py`` after a profile, the cost model or a case has changed (``gpu``: the tables of
published GPU runs alone; ``quickstart``: the README's first output alone, with ``python docs/figures.py`` for its
picture); the tests compare the same blocks.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

from specsim.cli.main import main
from specsim.cli.validate_gpu import scored
from specsim.profiles.store import load_profile, profile_names
from specsim.report.markdown import markdown_table
from specsim.report.validation.study_errors import write_study_errors
from specsim.report.validation.study_tables import decision_lines, headline_table, split_sheets, unpredicted_lines
from specsim.studies.score import StudyScore
from specsim.studies.study import SPLITS

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


MAP_HEADER = (
    "case", "drafters", "price source", "cells",
    "as predicted before the run: round time, mean \\|error\\|", "p95", "in the stated 90 % interval",
    "throughput lost by the predicted k, at most", "today's code: mean (90 %), p95, in the interval, lost",
)  # fmt: skip
SERVED_HEADER = (
    "case", "acceptance", "price source", "figures", "tokens/s", "TTFT p50", "TPOT p50", "TTFT p99",
    "TPOT p99", "in the stated 90 % interval", "cost of the predicted best, at most",
    "today's code: tokens/s, TTFT p50, TPOT p50",
)  # fmt: skip
SERVED_METRICS = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_ttft_ms", "p99_tpot_ms")
RETIRED = "retired"


def accuracy(document: dict[str, Any]) -> str:
    """A row a case of maps, and one of all that have imposed acceptance."""
    maps = {name: case for name, case in document["cases"].items() if case["kind"] == "map"}
    rows = [[f"`{name}`", ", ".join(case["drafters"]), case["source"], *figures(case)] for name, case in maps.items()]
    if len(rows) > 1 and document["all_maps"]:
        rows.append(["**all, acceptance imposed**", "", "", *figures(document["all_maps"])])
    return markdown_table(MAP_HEADER, rows)


def figures(case: dict[str, Any]) -> list[str]:
    """The figures of a row: before the run, and by today's code where it is asked."""
    before, now = case["committed"], case["now"]
    told = [str(before["count"]), *headline(before)]
    if now is None:
        return [*told, RETIRED]
    between = now["mean_absolute_error_90"]
    mean, *rest = headline(now)
    of = "" if now["count"] == before["count"] else f"; {now['count']} cells"
    return [*told, f"{mean} ({100 * between['low']:.1f} to {between['high']:.1%}), {', '.join(rest)}{of}"]


def headline(found: dict[str, float]) -> list[str]:
    """Mean and p95 |error|, coverage of the stated intervals, throughput lost."""
    return [
        f"{found['mean_absolute_error']:.1%}",
        f"{found['p95_absolute_error']:.1%}",
        f"{found['interval_coverage']:.0%}",
        f"{found['worst_regret']:.1%}",
    ]


def served(document: dict[str, Any]) -> str:
    """A row a served case: mean |error| of each metric, as predicted before the run."""
    rows = []
    for name, case in document["cases"].items():
        if case["kind"] == "served":
            errors = [case["metrics"].get(metric) for metric in SERVED_METRICS]
            now = [] if case["now"] is None else [case["now"].get(metric) for metric in SERVED_METRICS[:3]]
            rows.append(
                [
                    f"`{name}`",
                    case["acceptance"],
                    case["source"],
                    str(case["count"]),
                    *("-" if one is None else f"{one['mean_absolute']:.1%}" for one in errors),
                    f"{case['interval_coverage']:.0%}",
                    "-" if case["worst_regret"] is None else f"{case['worst_regret']:.1%}",
                    ", ".join("-" if one is None else f"{one:.1%}" for one in now) or RETIRED,
                ]
            )
    return markdown_table(SERVED_HEADER, rows) if rows else "No served case has been measured yet."


SPEEDUP_HEADER = (
    "case (vLLM)", "price source", "cells", "cost error: mean \\|error\\|", "worst", "acceptance error: mean", "worst",
    "both: mean", "worst", "in the stated 90 % interval", "throughput lost by the predicted k, at most",
)  # fmt: skip


def speedups(document: dict[str, Any]) -> str:
    """A row a map of a real engine, and one of each price source: speed-ups over plain decoding in the same repeat."""
    maps = {name: case for name, case in document["cases"].items() if case["kind"] == "map"}
    cells = {
        name: [cell for one in case["drafters"].values() for cell in one["speedups"]] for name, case in maps.items()
    }
    real = [name for name in maps if cells[name]]
    rows = [
        [f"`{name}`", maps[name]["source"], *_speedup_figures(cells[name]), headline(maps[name]["committed"])[-1]]
        for name in real
    ]
    for source in sorted({maps[name]["source"] for name in real}):
        own = [name for name in real if maps[name]["source"] == source]
        lost = max(maps[name]["committed"]["worst_regret"] for name in own)
        every = [cell for name in own for cell in cells[name]]
        rows.append([f"**all, {source}**", source, *_speedup_figures(every), f"{lost:.1%}"])
    return markdown_table(SPEEDUP_HEADER, rows)


def _speedup_figures(cells: list[dict[str, Any]]) -> list[str]:
    errors = [[abs(cell[name]) for cell in cells] for name in ("cost_error", "acceptance_error", "error")]
    covered = sum(cell["covered"] for cell in cells) / len(cells)
    figures = [f"{value:.1%}" for one in errors for value in (sum(one) / len(one), max(one))]
    return [str(len(cells)), *figures, f"{covered:.0%}"]


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


def narrow() -> str:
    """One row a surface of narrow formats, one column a profile made from another project's tables."""
    headers = [profile.header for profile in map(load_profile, profile_names()) if profile.header.importer]
    surfaces = sorted({name for header in headers for name in header.heldout_error if not name.endswith("float16")})
    rows = [
        [
            surface,
            *(
                "-"
                if (e := header.heldout_error.get(surface)) is None
                else f"{e.median:.1%}, {e.p90:.0%}, {e.coverage:.0%}"
                for header in headers
            ),
        ]
        for surface in surfaces
        if not surface.startswith("collective")
    ]
    return markdown_table(("kernels", *(header.gpu for header in headers)), rows)


def gpu_tables(scores: list[StudyScore]) -> str:
    """Every table and sentence that ``specsim validate gpu`` prints."""
    found = [sheet.markdown() for split in SPLITS for sheet in split_sheets(scores, split)]
    lines = [line for split in SPLITS for line in decision_lines(scores, split)]
    return "\n\n".join([*found, "\n".join(f"- {line}" for line in (*lines, *unpredicted_lines(scores)))])


FRONT_HEADER = (
    "figure",
    "rows",
    "mean \\|error\\|, bias",
    "worst",
    "in the stated 90 % interval",
    '"speed-up = acceptance length"',
)


def front(gpu_page: str, cases_page: str) -> str:
    """The README's rows of accuracy, from the tables of the two pages of evidence."""
    rows = []
    for name, count, error, worst, covered, naive, *_ in table_rows(gpu_page, "headline")[:4]:
        rows.append([f"GPUs: {name}", count, error, worst, covered, naive.partition(" (")[0]])
    _, _, _, cells, mean, p95, covered, *_ = table_rows(cases_page, "accuracy")[-1]
    rows.append(["CPUs: round time, reference engine", cells, mean, f"p95 {p95}", covered, "-"])
    _, _, cells, *_, mean, worst, covered, _ = table_rows(cases_page, "speedups")[-1]
    rows.append(["CPUs: speed-up, vLLM", cells, mean, f"worst {worst}", covered, "-"])
    return markdown_table(FRONT_HEADER, rows)


def table_rows(page: str, name: str) -> list[list[str]]:
    """Cells of the rows of a page's block."""
    found = re.search(f"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert found is not None, f"no block {name}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found[1].splitlines()[2:]]


def refresh_front() -> None:
    """The README's rows, once the pages of evidence are filled."""
    gpu_page, cases_page = (ROOT / "validation" / name / "README.md" for name in ("gpu", ""))
    readme = ROOT / "README.md"
    text = front(gpu_page.read_text(), cases_page.read_text())
    readme.write_text(block(readme.read_text(), "front", lambda _: text))


def run() -> None:
    run_quickstart()
    document = json.loads(printed("validate", "--json"))
    run_gpu()
    path = ROOT / "validation" / "README.md"
    text = block(path.read_text(), "accuracy", lambda _: accuracy(document))
    text = block(text, "speedups", lambda _: speedups(document))
    text = block(text, "served", lambda _: served(document))
    text = block(text, "imported", lambda _: imported())
    path.write_text(block(text, "narrow", lambda _: narrow()))
    refresh_front()


def run_quickstart() -> None:
    """What the README says that the quickstart prints."""
    os.environ["COLUMNS"] = "120"
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        quickstart = printed("quickstart")
    readme = ROOT / "README.md"
    readme.write_text(block(readme.read_text(), "quickstart", lambda _: f"```text\n{quickstart}\n```"))


def run_gpu() -> None:
    """The tables of published GPU runs alone, and the errors that reports quote."""
    scores = scored(None)
    write_study_errors(scores, ROOT / "validation" / "gpu")
    path = ROOT / "validation" / "gpu" / "README.md"
    text = block(path.read_text(), "headline", lambda _: headline_table(scores))
    path.write_text(block(text, "gpu", lambda _: gpu_tables(scores)))
    refresh_front()


if __name__ == "__main__":
    {"gpu": run_gpu, "quickstart": run_quickstart, "front": refresh_front}.get(" ".join(sys.argv[1:]), run)()

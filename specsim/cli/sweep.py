"""``specsim sweep``: many settings at once, on one machine or a cluster, and which of them nothing beats."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from specsim.cli.options import JsonOption, console, messages, print_json, progress_of

MOST_REASONS = 5


class BackendName(StrEnum):
    LOKY = "loky"
    DASK = "dask"
    RAY = "ray"


def sweep(
    file: Annotated[str, typer.Argument(help="A sweep's YAML (a scenario, and the fields that vary), or pareto.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; finished points are never answered again. NAME-sweep.")
    ] = None,
    backend: Annotated[
        BackendName, typer.Option(case_sensitive=False, help="Processes of this machine, or a cluster.")
    ] = BackendName.LOKY,
    address: Annotated[str | None, typer.Option(help="Of a running Dask or Ray cluster; else one is started.")] = None,
    jobs: Annotated[int, typer.Option(help="Workers; -1: all cores.", min=-1)] = -1,
    as_json: JsonOption = False,
) -> None:
    """Answer every point, keep rows as they come (Parquet), and show the Pareto frontier as a table and a page."""
    from specsim.errors import InvalidInput
    from specsim.kept_files import only_writer
    from specsim.planning.sweep.answers import ANSWERS
    from specsim.planning.sweep.frontier import offers
    from specsim.planning.sweep.kept import KeptRows
    from specsim.planning.sweep.points import own_prices, read_sweep, sweep_points
    from specsim.planning.sweep.run import run_points
    from specsim.report.frontier import write_page

    if address is not None and backend is BackendName.LOKY:
        raise InvalidInput(f"--address {address} is of a cluster; give --backend dask or ray with it")
    if jobs == 0:
        raise InvalidInput("--jobs 0 answers nothing; give -1 for all cores, or how many")
    asked = read_sweep(file)
    folder = out or Path(f"{asked.name}-sweep")
    points = sweep_points(asked)
    with only_writer(folder), progress_of("points") as progress:
        kept, answer = KeptRows(folder), ANSWERS[asked.answer]
        done = run_points(points, answer, kept, backend=backend.value, address=address, jobs=jobs, progress=progress)
        kept.gather()
    rows = [kept.rows[point.key] for point in points]
    found = offers(rows, asked.usd_per_gpu_hour or own_prices(points))
    write_page(folder / "pareto.html", asked.name, found)
    if as_json:
        _print_json(rows, found, done, folder)
        return
    _print(rows, found, done, folder)


def _print_json(rows: list[dict[str, Any]], found: list[Any], done: int, folder: Path) -> None:
    from dataclasses import asdict

    from specsim.planning.sweep.frontier import cheapness, frontier

    document: dict[str, Any] = {"points": rows, "answered_now": done, "files": str(folder)}
    document["frontier"] = [asdict(one) | {"label": one.label} for one in frontier(found)]
    if any(one.usd is not None for one in found):
        document["cost_frontier"] = [asdict(one) | {"label": one.label} for one in frontier(found, cheapness)]
    print_json(document)


def _print(rows: list[dict[str, Any]], found: list[Any], done: int, folder: Path) -> None:
    from specsim.report.document.blocks import as_sentence
    from specsim.report.frontier import frontier_tables, gain_line

    screen = console()
    for table in frontier_tables(found):
        screen.print(table)
    line = gain_line(found)
    if line is not None:
        screen.print(as_sentence(line), markup=False)
    reasons = Counter(row["error"] for row in rows if row.get("error") is not None)
    for reason, count in reasons.most_common(MOST_REASONS):
        screen.print(f"no answer, {count} points: {reason}", markup=False)
    if len(reasons) > MOST_REASONS:
        screen.print(f"and {len(reasons) - MOST_REASONS} reasons more, in the column error")
    told = messages()
    told.print(f"{len(rows)} points, {done} answered now and {len(rows) - done} kept from before")
    told.print(f"wrote {folder}/results.parquet and pareto.html")

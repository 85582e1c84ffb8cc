"""``specsim quickstart``: the whole answer from bundled data, offline, in seconds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import typer

from specsim.cli.options import JsonOption, console, print_json

CASE, DRAFTER = "cpu-imposed-acceptance", "draft-model"


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the files it writes.")] = Path("specsim-quickstart"),
    as_json: JsonOption = False,
) -> None:
    """Predict the bundled scenario and compare with the run recorded for it on a CPU."""
    from specsim.analytic.load import answered_map
    from specsim.assembly import assemble
    from specsim.cases import committed_score, load_case, score
    from specsim.report.document import Evidence, capacity_report
    from specsim.report.tables import map_table
    from specsim.report.validation.map_tables import regret_sheet
    from specsim.report.verdict import verdict
    from specsim.scenario import ShortOptions, ask

    question = ask("quickstart", ShortOptions())
    speedups, asked = answered_map(assemble(question.scenario), decode_only=True)  # as the recorded run measured
    answer = verdict(speedups, asked)
    case = load_case(CASE)
    fidelity, committed = score(case, DRAFTER), committed_score(case, DRAFTER)
    out.mkdir(parents=True, exist_ok=True)
    (out / "prediction.json").write_text(json.dumps(speedups.as_json(), indent=1) + "\n")
    with (out / "map.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(speedups.as_json()["grid"][0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(speedups.as_json()["grid"])
    report = capacity_report(question, simulated=False, decode_only=True, evidence=Evidence(fidelity, case.origin()))
    (out / "report.html").write_text(report.html(), encoding="utf-8")
    if as_json:
        print_json(speedups.as_json() | {"verdict": answer.as_json(), "files": str(out)})
        return
    screen = console()
    screen.print(f"[bold]{answer.sentence}[/bold]\n{answer.about}\n{answer.limits}\n")
    screen.print(map_table(speedups))
    screen.print(
        f"\n{case.origin()}\nmean |error| of round time {fidelity.mean_absolute_error():.1%} over "
        f"{len(fidelity.cells)} cells; following the predicted best k loses at most {fidelity.worst_regret():.1%}",
        soft_wrap=True,
    )
    if committed is not None:
        screen.print(
            f"as predicted before the run, with the profile of that hour: {committed.mean_absolute_error():.1%}; "
            f"at most {committed.worst_regret():.1%}",
            soft_wrap=True,
        )
    screen.print(regret_sheet(fidelity).table())
    screen.print(f"files: {out}/report.html (open in a browser), prediction.json, map.csv", soft_wrap=True)
    screen.print(f"repeat the run on this machine (needs torch): specsim validate {CASE} --here")
    screen.print("explore: specsim dashboard")

"""``specsim calibrate``: the constants of your engine from runs of it, half of them held back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from specsim.cli.options import JsonOption, ScenarioArgument, SetOption, console, messages, print_json

if TYPE_CHECKING:
    from specsim.planning.calibrate import Calibration


def calibrate(
    scenario: ScenarioArgument,
    runs: Annotated[
        list[Path],
        typer.Argument(help="Results of vllm bench serve and other load generators, dumps of /metrics, vLLM's logs."),
    ],
    settings: SetOption = None,
    out: Annotated[
        Path, typer.Option(help="The engine's file: its fields belong into scenarios of this engine.")
    ] = Path("engine.yaml"),
    whole: Annotated[
        Path | None, typer.Option("--scenario", help="Also write the scenario with these fields in it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit host times, front end and one kernel factor; defaults stay unless runs held back surely come out better."""
    from specsim.kept_files import replace_text
    from specsim.planning.calibrate import calibrate as fit
    from specsim.planning.measured_runs import measured_runs
    from specsim.report.calibrated import constants_table, figures_table, runs_table, verdict
    from specsim.scenario import load_scenario

    question = load_scenario(scenario, settings or ())
    measured = [run for path in runs for run in measured_runs(path, question)]
    found = fit(measured)
    source = f"specsim calibrate, {(len(measured) + 1) // 2} of {len(measured)} runs"
    fragment, told = found.fragment(question, source), verdict(found)
    text = f"# {source}: {told}\n" + (yaml.safe_dump(fragment, sort_keys=False) if fragment else "{}\n")
    replace_text(out, text)
    if whole is not None:
        replace_text(whole, _with(scenario, settings or [], fragment, told))
    if as_json:
        print_json({"verdict": told, "fields": fragment, "file": str(out), **_document(found)})
        return
    screen = console()
    for table in (runs_table(found), figures_table(found), constants_table(found)):
        screen.print(table)
    screen.print(told, soft_wrap=True)
    messages().print(f"wrote {out}" + ("" if whole is None else f" and {whole}"))


def _document(found: Calibration) -> dict[str, Any]:
    constants = {
        name: {"default": found.defaults[name], "found": value, "error": found.errors[name]}
        for name, value in found.found.items()
    }
    gain = {"mean": float(found.gains.mean()), "least": found.least_gain, "runs": len(found.gains)}
    figures = [asdict(one) for one in found.figures]
    return {"better": found.better, "gain": gain, "constants": constants, "figures": figures}


def _with(reference: str, settings: list[str], fragment: dict[str, Any], told: str) -> str:
    """The scenario's own fields and the calibrated ones over them, as YAML."""
    from specsim.scenario.read import apply_settings, read_fields

    data, _ = read_fields(reference)
    apply_settings(data, settings)
    for section, fields in fragment.items():
        data[section] = _over(data.get(section) or {}, fields)
    return f"# calibrated: {told}\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _over(owner: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    made = dict(owner)
    for name, value in fields.items():
        made[name] = _over(made.get(name) or {}, value) if isinstance(value, dict) else value
    return made

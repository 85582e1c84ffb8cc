"""``specsim validate``: predictions against measured runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.groups import OptionGroup, spread
from specsim.cli.lists import WholeNumbers, list_option, whole_numbers
from specsim.cli.options import JsonOption, SetOption, messages, print_json
from specsim.cli.validate_gpu import validate_gpu
from specsim.errors import Faults, InvalidInput

if TYPE_CHECKING:
    from specsim.cases import Case

GPU = "gpu"
MINUTES = 8.0
HERE = Path("validation-here")


@dataclass(frozen=True, slots=True)
class EngineOptions(OptionGroup):
    """A real engine that a scenario is profiled, predicted and measured on."""

    engine: Annotated[
        str | None, typer.Option(help="Instead of a case: profile, predict and measure a scenario on vllm.")
    ] = None
    vllm: Annotated[Path | None, typer.Option(help="Its virtual environment, or its Python.")] = None
    model: Annotated[Path | None, typer.Option(help="The target's folder for it, if the scenario has no weights.")] = (
        None
    )
    draft_model: Annotated[Path | None, typer.Option(help="The draft model's folder, likewise.")] = None
    draft_lengths: Annotated[
        WholeNumbers | None,
        list_option(whole_numbers(least=0), "Draft lengths that --engine looks at, as 0,2,4; default: some of all."),
    ] = None
    minutes: Annotated[float | None, typer.Option(help="Minutes that --engine takes, about; 8.", min=0.1)] = None
    settings: SetOption = None

    def given(self) -> list[str]:
        """The options that are given."""
        names = {one.name: f"--{one.name.replace('_', '-')}" for one in fields(self)} | {"settings": "--set"}
        return [option for name, option in names.items() if getattr(self, name) not in (None, [])]


@dataclass(frozen=True, slots=True)
class CaseOptions(OptionGroup):
    """What is done with a case, and what is written of it."""

    predict: Annotated[bool, typer.Option("--predict", help="Only write the prediction, before a run.")] = False
    repeats: Annotated[
        int | None,
        typer.Option(help="With --predict of a map: how often each cell will be measured.", min=1),
    ] = None
    here: Annotated[bool, typer.Option("--here", help="Profile, predict and measure it on this machine.")] = False
    report: Annotated[bool, typer.Option("--report", help="Also write report.md into each case's folder.")] = False
    plot: Annotated[Path | None, typer.Option(help="Also write a page of plots, self-contained HTML.")] = None

    def given(self) -> list[str]:
        """The options that are given."""
        return [f"--{one.name}" for one in fields(self) if getattr(self, one.name)]

    def faults(self) -> list[str]:
        """What is asked for of nothing."""
        loose = self.repeats is not None and not self.predict
        return [f"--repeats {self.repeats} goes with --predict; add it, or leave out --repeats"] if loose else []


@spread
def validate(
    case: Annotated[
        str | None, typer.Argument(help="A case's name or folder; gpu: published GPU runs; none: all cases.")
    ] = None,
    study: Annotated[
        str | None, typer.Argument(help="After gpu: one study's name or path; none: all of them.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Of gpu: every figure, predicted beside measured.")] = False,
    of_cases: CaseOptions = CaseOptions(),
    on: EngineOptions = EngineOptions(),
    out: Annotated[
        Path | None, typer.Option(help="Folder that --here and --engine write; default validation-here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Errors with their intervals, where they sit, coverage of the stated intervals, and what the advice costs."""
    _refuse_together(case, study, rows, of_cases, on)
    if out is not None and not of_cases.here and on.engine is None:
        raise InvalidInput(f"--out {out} is where --here and --engine write; add one of them, or leave it out")
    folder = out or HERE
    if case == GPU:
        validate_gpu(study, rows=rows, as_json=as_json)
    elif on.engine is not None and case is not None:
        _on_engine(case, on.engine, on, folder, as_json=as_json)
    elif of_cases.predict:
        from specsim.cli.case_runs import predict_into

        (one,) = _cases(case, here=folder if of_cases.here else None, predict=True)
        messages().print(f"wrote {predict_into(one, of_cases.repeats)}", soft_wrap=True)
    else:
        cases = _cases(case, here=folder if of_cases.here else None)
        _score(cases, report=of_cases.report, plot=of_cases.plot, as_json=as_json, every=case is None)


def _refuse_together(
    case: str | None, study: str | None, rows: bool, of_cases: CaseOptions, on: EngineOptions
) -> None:
    """Raises InvalidInput for options that are about different runs."""
    faults = Faults()
    if case == GPU:
        faults.found += _beside("validate gpu takes --rows and --json", [*of_cases.given(), *on.given()])
    elif on.engine is not None:
        if case is None:
            faults.found.append("--engine measures a scenario; name one")
        faults.found += _beside("--engine measures one scenario", [*_of_gpu(study, rows), *of_cases.given()])
    else:
        faults.found += _beside("without --engine a case is what its folder holds, measured already", on.given())
        faults.found += _beside(
            "only gpu has studies and rows (specsim validate gpu [STUDY] [--rows])", _of_gpu(study, rows)
        )
    faults.found += of_cases.faults()
    faults.tell()


def _of_gpu(study: str | None, rows: bool) -> list[str]:
    return [*([] if study is None else [study]), *(["--rows"] if rows else [])]


def _beside(rule: str, given: list[str]) -> list[str]:
    return [f"{rule}; leave out {', '.join(given)}"] if given else []


def _on_engine(name: str, kind: str, on: EngineOptions, out: Path, *, as_json: bool) -> None:
    from specsim.cli.measure_engine import RealEngine
    from specsim.cli.validate_engine import validate_on_engine
    from specsim.scenario import load_scenario

    real = RealEngine(kind, on.vllm, on.model, on.draft_model, None)
    validate_on_engine(
        load_scenario(name, on.settings or []),
        real,
        out,
        minutes=MINUTES if on.minutes is None else on.minutes,
        draft_lengths=on.draft_lengths or (),
        as_json=as_json,
    )


def _cases(name: str | None, *, here: Path | None, predict: bool = False) -> list[Case]:
    """The case that is named, run again into the folder ``here`` if one is given; every shipped one without a name."""
    from specsim.cases import case_names, load_case
    from specsim.cli.here import repeat_here

    if name is not None:
        return [load_case(name if here is None else str(repeat_here(load_case(name), here)))]
    if here is not None or predict:
        raise InvalidInput(
            f"--{'predict' if here is None else 'here'} is about one case; name one of {', '.join(case_names())}"
        )
    return [load_case(one) for one in case_names()]


def _score(cases: list[Case], *, report: bool, plot: Path | None, as_json: bool, every: bool) -> None:
    """Print how good the measured ones were predicted; ``every``: all that are shipped, a line each."""
    from specsim.cases.scores import score_case
    from specsim.cli.case_scores import measured, print_all, print_case, write_report

    by_case = [score_case(one) for one in measured(cases)]
    scores = [score for found in by_case for score in found]
    if report:
        for found in by_case:
            write_report(found)
    if plot is not None:
        from specsim.report.validation.html_page import write_fidelity_page

        write_fidelity_page(plot, scores)
        messages().print(f"wrote {plot}", soft_wrap=True)
    if as_json:
        from specsim.report.validation.json_document import fidelity_document

        print_json(fidelity_document(scores))
    elif every:
        print_all(scores)
    else:
        print_case(scores)

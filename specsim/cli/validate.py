"""``specsim validate``: predictions against measured runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.groups import OptionGroup, spread
from specsim.cli.lists import whole_numbers
from specsim.cli.options import JsonOption, SetOption, messages, print_json
from specsim.cli.validate_gpu import validate_gpu
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.cases import Case

GPU = "gpu"


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
        str | None, typer.Option(help="Draft lengths that --engine looks at, as 0,2,4; default: some of all.")
    ] = None
    minutes: Annotated[float, typer.Option(help="Minutes that --engine takes, about.", min=0.1)] = 8.0
    settings: SetOption = None


@dataclass(frozen=True, slots=True)
class CaseOptions(OptionGroup):
    """What is done with a case, and what is written of it."""

    predict: Annotated[bool, typer.Option("--predict", help="Only write the prediction, before a run.")] = False
    here: Annotated[bool, typer.Option("--here", help="Profile, predict and measure it on this machine.")] = False
    report: Annotated[bool, typer.Option("--report", help="Also write report.md into each case's folder.")] = False
    plot: Annotated[Path | None, typer.Option(help="Also write a page of plots, self-contained HTML.")] = None

    @property
    def any(self) -> bool:
        return self.predict or self.here or self.report or self.plot is not None


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
    out: Annotated[Path, typer.Option(help="Folder that --here and --engine write.")] = Path("validation-here"),
    as_json: JsonOption = False,
) -> None:
    """Errors with their intervals, where they sit, coverage of the stated intervals, and what the advice costs."""
    _refuse_together(case, study, rows, of_cases, on)
    if case == GPU:
        validate_gpu(study, rows=rows, as_json=as_json)
    elif on.engine is not None and case is not None:
        _on_engine(case, on.engine, on, out, as_json=as_json)
    elif of_cases.predict:
        from specsim.cli.case_runs import predict_into

        (one,) = _cases(case, here=out if of_cases.here else None, predict=True)
        messages().print(f"wrote {predict_into(one)}", soft_wrap=True)
    else:
        cases = _cases(case, here=out if of_cases.here else None)
        _score(cases, report=of_cases.report, plot=of_cases.plot, as_json=as_json, every=case is None)


def _refuse_together(
    case: str | None, study: str | None, rows: bool, of_cases: CaseOptions, on: EngineOptions
) -> None:
    """Raises InvalidInput for options that are about different runs."""
    if case == GPU:
        if of_cases.any:
            raise InvalidInput(
                "validate gpu takes --rows and --json; --here, --predict, --report and --plot are of cases"
            )
    elif on.engine is not None:
        if case is None:
            raise InvalidInput("--engine measures a scenario; name one")
        if of_cases.any or study is not None:
            raise InvalidInput("--engine takes one scenario, --set and --json; leave the other options out")
    elif on.settings:
        raise InvalidInput("--set goes with --engine: a case is what its folder holds")
    elif study is not None or rows:
        raise InvalidInput(f"{study or '--rows'} goes with validate gpu; write specsim validate gpu [STUDY] [--rows]")


def _on_engine(name: str, kind: str, on: EngineOptions, out: Path, *, as_json: bool) -> None:
    from specsim.cli.measure_engine import RealEngine
    from specsim.cli.validate_engine import validate_on_engine
    from specsim.scenario import load_scenario

    real = RealEngine(kind, on.vllm, on.model, on.draft_model, None)
    lengths = whole_numbers(on.draft_lengths, "--draft-lengths", least=0)
    validate_on_engine(
        load_scenario(name, on.settings or []), real, out, minutes=on.minutes, draft_lengths=lengths, as_json=as_json
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

"""Predicted against measured, study by study, and against the user's own load test."""

from __future__ import annotations

import streamlit as st

from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw_sheet
from specsim.dashboard.drawing import plain, show
from specsim.dashboard.running import run_on_demand
from specsim.dashboard.simulated import ALONE, ON, simulated
from specsim.interop.load_results import LoadResult
from specsim.progress import TimedProgress
from specsim.report.sheet import Sheet
from specsim.report.validation.study_errors import StudyError, read_study_errors
from specsim.report.validation.study_figures import agreement_figure, errors_figure
from specsim.report.validation.study_tables import study_sheet, unpredicted_lines
from specsim.studies.quantities import LABELS
from specsim.studies.score import StudyScore, score_study
from specsim.studies.study import SPLITS, load_study, study_names, study_path


def draw(answered: Answered) -> None:
    """The errors of all studies as last scored, one study predicted anew, and the user's own run."""
    st.markdown("**How far off predictions were on public GPU runs**")
    errors = read_study_errors()
    told = {one.figure for one in errors}
    labels = [label for label in LABELS if label in told]
    label = st.selectbox("Figure", labels, key="evidence figure")
    show(errors_figure(errors, label), "study errors", f"mean error of {label} by study")
    st.caption(plain(_summary(errors, label)))
    alike = [one for one in errors if _alike(one, answered)]
    if alike:
        st.markdown(
            f"**The same card or model as yours: {answered.scenario.model.name}, {answered.scenario.gpu.name}**"
        )
        draw_sheet(_errors_sheet(alike))
    else:
        st.caption("No study has your card or your model: expect errors as of cards whose prices are not measured.")
    with st.expander("All studies"):
        draw_sheet(_errors_sheet(errors))
    st.subheader("One study, row by row")
    _one_study()
    st.subheader("Your own load test")
    _own(answered)


def _alike(error: StudyError, answered: Answered) -> bool:
    return answered.scenario.gpu.name == error.gpu or answered.scenario.model.name == error.model


def _summary(errors: list[StudyError], label: str) -> str:
    told = []
    for split in SPLITS:
        mine = [one for one in errors if (one.figure, one.split) == (label, split)]
        rows, stated = sum(one.rows for one in mine), sum(one.stated for one in mine)
        if rows:
            mean = sum(one.mean * one.rows for one in mine) / rows
            held = (
                f", {sum(one.covered for one in mine) / stated:.0%} within the stated 90 % interval" if stated else ""
            )
            told.append(f"{split} rows: {mean:.1%} mean |error| over {rows} figures{held}")
    return f"{'; '.join(told)}. Constants were fitted on calibration rows alone, never on test rows."


def _errors_sheet(errors: list[StudyError]) -> Sheet:
    rows = [
        [
            one.study,
            one.model,
            one.gpu,
            one.engine,
            one.figure,
            f"{one.rows} {one.split}",
            f"{one.mean:.1%}",
            f"{one.bias:+.1%}",
            f"{one.worst:+.0%}",
            f"{one.covered} of {one.stated}" if one.stated else "-",
        ]
        for one in errors
    ]
    header = ("study", "model", "GPU", "engine", "figure", "rows", "mean |error|", "bias", "worst", "in 90 %")
    return Sheet("", header, rows, words=range(5))


def _one_study() -> None:
    name = st.selectbox("Study", study_names(), key="evidence study")
    study, rows = load_study(study_path(name))
    st.caption(plain(f"{study.title}. {study.source} ({study.licence}). {study.conditions}"))

    def run(told: TimedProgress) -> StudyScore:
        told(0, 1, f"{len(rows)} rows of {name}")
        return score_study(name, study, rows)

    about = f"Predicts the {len(rows)} measured conditions of {name}, as specsim validate gpu {name} does."
    score = run_on_demand(f"study {name}", "Predict its rows", about, run)
    if score is None:
        return
    labels = list(dict.fromkeys(one.label for one in score.figures))
    if labels:
        label = st.selectbox("Figure of the study", labels, key="evidence label") if len(labels) > 1 else labels[0]
        show(agreement_figure(score.figures, label), "study agreement", f"predicted against measured {label}")
    for split in SPLITS:
        sheet = study_sheet([score], split)
        if sheet.rows:
            draw_sheet(sheet)
    for line in unpredicted_lines([score]):
        st.caption(plain(line))


def _own(answered: Answered) -> None:
    kept: tuple[str, LoadResult] | None = st.session_state.get("measured")
    if kept is None:
        st.info(
            "Give a load test's JSON (vllm bench serve, SGLang's bench_serving, AIPerf, GuideLLM) in the sidebar: its "
            "figures are set beside a simulation of the same load.",
            icon=":material/upload_file:",
        )
        return
    name, run = kept
    found = simulated(answered)
    if found is None:
        return
    predicted = found.get(ON) or found[ALONE]
    rows = [
        [key, f"{value:,.4g}", f"{told:,.4g}", f"{told / value - 1:+.1%}"]
        for key, value in run.metrics.items()
        if isinstance(told := predicted.get(key), int | float) and value
    ]
    draw_sheet(Sheet("", (f"figure of {name}", "measured", "predicted", "error"), rows))
    st.caption(plain(f"{run.format}, {run.requests:,} requests; one simulated run of the question as it stands."))

"""What can be taken along: the question, its answers, the engine's configuration, and the command that repeats it."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from specsim.dashboard.answered import Answered
from specsim.dashboard.drawing import plain
from specsim.dashboard.inputs.words import FILE
from specsim.dashboard.simulated import run
from specsim.report.document import capacity_report
from specsim.report.predicted import prediction_json
from specsim.report.timeline import write_timeline
from specsim.scenario.commented import commented_yaml

PERFETTO = "One simulated run; open it at ui.perfetto.dev."


def offer(answered: Answered, verb: str, *flags: str) -> None:
    """The command line of a view, and files to take along."""
    side = answered.side
    st.subheader("Repeat it, share it, take it along")
    st.code(answered.words.command(verb, *flags), language="sh", wrap_lines=True)
    if answered.words.by_file(verb):
        st.caption(plain(f"In a folder with {FILE}, below, and the files that it names."))
    st.caption("The address of this page holds the whole question but for uploaded traces and profiles: share it.")
    row = st.container(horizontal=True)
    scenario = commented_yaml(answered.asked)
    files: list[tuple[str, Any, str, str, str | None]] = [
        ("Scenario (YAML)", scenario, FILE, "application/yaml", None),
        ("Report (HTML)", lambda: _report(answered), "specsim-report.html", "text/html", None),
        ("Map (CSV)", lambda: _csv(answered), "map.csv", "text/csv", None),
        ("Prediction (JSON)", lambda: _json(answered), "prediction.json", "application/json", None),
        ("Timeline (Perfetto)", lambda: _timeline(answered), "timeline.json.gz", "application/gzip", PERFETTO),
    ]
    for label, content, name, media_type, help_ in files:
        row.download_button(label, content, name, media_type, key=f"{name} {side}", on_click="ignore", help=help_)
    with st.expander(FILE):
        st.code(scenario, language="yaml")


def _csv(answered: Answered) -> str:
    """The map's cells, a line each; times by part in columns of their own."""
    grid = answered.speedups.as_json()["grid"]
    parts = list(dict.fromkeys(part for cell in grid for part in cell["parts"]))
    text = io.StringIO()
    names = [name for name in grid[0] if name != "parts"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *(f"{part}_s" for part in parts)])
    for cell in grid:
        writer.writerow([*(cell[name] for name in names), *(cell["parts"].get(part, 0.0) for part in parts)])
    return text.getvalue()


def _json(answered: Answered) -> str:
    document = prediction_json(answered.asked, answered.speedups, answered.verdict)
    return json.dumps(document, indent=1, allow_nan=False, default=str) + "\n"


def _report(answered: Answered) -> bytes:
    return capacity_report(answered.asked, simulated=False, batch=answered.words.batch).html().encode()


def _timeline(answered: Answered) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.json.gz"
        write_timeline(path, run(answered.scenario))
        return path.read_bytes()

"""How often drafts are accepted: by position, and the tokens of a round by draft length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from specsim.assembly import Assembly
from specsim.report.figures import OFF, ON, laid_out
from specsim.report.sheet import Sheet


def rates_figure(machine: Assembly, logged: Sequence[float] = ()) -> Any:
    """P(the first i drafts are all accepted) as the law has it, ``logged`` rates beside it."""
    law, longest = _law(machine), max(machine.longest, 1)
    positions = [str(i) for i in range(1, longest + 1)]
    figure = go.Figure()
    figure.add_bar(
        x=positions,
        y=[100 * rate for rate in law.survival(longest)],
        name="used here",
        marker_color=ON,
        texttemplate="%{y:.0f}",
        hovertemplate="position %{x}: %{y:.1f} %<extra>used here</extra>",
    )
    if logged:
        figure.add_scatter(
            x=[str(i) for i in range(1, len(logged) + 1)],
            y=[100 * rate for rate in logged],
            mode="markers",
            name="your logs",
            marker={"symbol": "diamond", "size": 11, "color": OFF},
            hovertemplate="position %{x}: %{y:.1f} %<extra>your logs</extra>",
        )
    figure.update_xaxes(title="position in the draft", type="category")
    figure.update_yaxes(title="accepted (% of rounds)", range=[0, 108])
    figure.update_layout(showlegend=bool(logged), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(figure, 320, top=40)


def lengths_figure(machine: Assembly) -> Any:
    """Tokens that a round commits by draft length, beside as many as there could be."""
    lengths = list(machine.choices())
    figure = go.Figure()
    figure.add_scatter(
        x=lengths,
        y=[1 + k for k in lengths],
        mode="lines",
        name="if all were accepted",
        line={"color": "#9ca3af", "dash": "dash"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=lengths,
        y=[_law(machine).expected_tokens(k) for k in lengths],
        mode="lines+markers",
        name="committed",
        line={"color": ON, "width": 2},
        hovertemplate="k = %{x}: %{y:.2f} tokens a round<extra></extra>",
    )
    figure.update_xaxes(title="draft length k (tokens)", dtick=max(1, len(lengths) // 10))
    figure.update_yaxes(title="tokens a round, bonus included", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(figure, 320, top=40)


def rates_sheet(machine: Assembly, logged: Sequence[float] = ()) -> Sheet:
    """Rates by position, each given those before it, and the tokens of a round that drafts so far."""
    law, longest = _law(machine), machine.longest
    given, rates = law.conditional_rates(longest), law.survival(longest)
    columns: Mapping[str, list[str]] = {
        "position": [str(i) for i in range(1, longest + 1)],
        "first i accepted": [f"{rate:.3f}" for rate in rates],
        "given those before": [f"{rate:.3f}" for rate in given],
        "tokens a round, k = i": [f"{law.expected_tokens(i):.3f}" for i in range(1, longest + 1)],
    }
    if logged:
        told = [f"{rate:.3f}" for rate in logged[:longest]]
        columns = {**columns, "your logs": told + ["-"] * (longest - len(told))}
    return Sheet("", tuple(columns), list(zip(*columns.values(), strict=True)), words=())


def _law(machine: Assembly) -> Any:
    assert machine.speculation is not None  # without drafts nothing is accepted
    return machine.speculation.acceptance

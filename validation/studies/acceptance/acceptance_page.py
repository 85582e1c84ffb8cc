"""The page of this folder from its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from acceptance_study import ALL, HERE, LENGTHS, SHAPE_AT, Score, document, fitting_half

from specsim.profiling.acceptance.record_file import read_traces
from specsim.report.markdown import markdown_table

TARGETS = {"greedy": "temperature 0", "sampled": "temperature 1"}
LAWS = (
    "constant", "power law", "conditional", "latent, requests", "latent, requests and spans", "hurdle, geometric",
    "hurdle, lengths seen", "replay",
)  # fmt: skip
SHOWN = ("constant", "conditional", "latent, requests and spans", "hurdle, lengths seen", "replay")


def page(rows: Sequence[Score]) -> str:
    """README.md."""
    text = (HERE / "page.md").read_text()
    second = _of(rows, tested="second")
    parts = {
        "recorded": _recorded(HERE / "traces"),
        "laws": _laws(rows),
        "lengths": _lengths(second),
        "shape": _shape(second),
        "domains": _domains(second),
        "rates": _rates(second),
        "best": _best(rows),
    }
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def _of(rows: Sequence[Score], **wanted: str) -> list[Score]:
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


def _drafters(rows: Sequence[Score]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.target, row.drafter) for row in rows))


def _measured(row: Score) -> str:
    return f"{row.measured:.2f} ({row.low:.2f} .. {row.high:.2f})"


def _mark(row: Score) -> str:
    """The prediction, in bold outside the test half's interval."""
    return f"{row.predicted:.2f}" if row.inside else f"**{row.predicted:.2f}**"


def _recorded(folder: Path) -> str:
    requests = read_traces(folder / "greedy" / "draft.jsonl").requests
    fit = fitting_half(requests)
    fitted = sum(document(one) in fit for one in requests)
    return f"{fitted} requests from {len(fit)} documents to fit on, {len(requests) - fitted} from others to test on"


def _laws(rows: Sequence[Score]) -> str:
    """Each law's errors over all drafters, both temperatures and both directions."""
    lines = []
    for law in LAWS:
        mixed = _of(rows, scope=ALL, law=law)
        lengths = [row for row in mixed if row.quantity.startswith("AL")]
        rates = [row for row in mixed if row.quantity.startswith("r_")]
        spread, lag = _of(mixed, quantity="spread"), _of(mixed, quantity="lag 1")
        lines.append(
            [
                law,
                *(f"{_error(_of(lengths, quantity=f'AL k={k}')):.1%}" for k in LENGTHS),
                f"{np.mean([_misfit(_of(lengths, target=t, drafter=d)) for t, d in _drafters(rows)]):.1%}",
                f"{sum(row.inside for row in lengths)} of {len(lengths)}",
                f"{np.mean([abs(row.error) for row in rates]):.3f}",
                f"{np.mean([row.predicted / row.measured for row in spread]):.2f}",
                f"{np.mean([row.predicted for row in lag]):+.2f} ({np.mean([row.measured for row in lag]):+.2f})",
            ]
        )
    head = ["law", *(f"AL k={k}" for k in LENGTHS), "misfit", "inside", "r_i", "spread ratio", "lag 1 (measured)"]
    return markdown_table(head, lines)


def _error(rows: Sequence[Score]) -> float:
    return float(np.mean([abs(row.error) / row.measured for row in rows]))


def _misfit(rows: Sequence[Score]) -> float:
    """Mean over k of |mean of both directions' relative errors| of one drafter's acceptance lengths."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        errors.setdefault(row.quantity, []).append(row.error / row.measured)
    return float(np.mean([abs(np.mean(both)) for both in errors.values()]))


def _lengths(rows: Sequence[Score]) -> str:
    """Acceptance lengths of each drafter."""
    lines = []
    for target, drafter in _drafters(rows):
        for k in LENGTHS:
            found = {
                row.law: row for row in _of(rows, target=target, drafter=drafter, scope=ALL, quantity=f"AL k={k}")
            }
            if found:
                cells = [_mark(found[law]) for law in SHOWN]
                lines.append([drafter, TARGETS[target], k, _measured(found["constant"]), *cells])
    return markdown_table(["drafter", "target", "k", "test half", *SHOWN], lines)


def _shape(rows: Sequence[Score]) -> str:
    """Spread between requests, and how neighbouring rounds are alike."""
    lines = []
    for quantity in ("spread", "lag 1"):
        for target, drafter in _drafters(rows):
            found = {row.law: row for row in _of(rows, target=target, drafter=drafter, scope=ALL, quantity=quantity)}
            cells = [_mark(found[law]) for law in SHOWN]
            lines.append([quantity, drafter, TARGETS[target], _measured(found["constant"]), *cells])
    return markdown_table([f"at k = {SHAPE_AT}", "drafter", "target", "test half", *SHOWN], lines)


def _domains(rows: Sequence[Score]) -> str:
    """Each domain's own acceptance length beside the rate pooled over all of them."""
    lines = []
    scopes = [scope for scope in dict.fromkeys(row.scope for row in rows) if scope != ALL]
    for target, drafter in _drafters(rows):
        cells = []
        for scope in scopes:
            found = {row.law: row for row in _of(rows, target=target, drafter=drafter, scope=scope, quantity="AL k=4")}
            cells += [_measured(found["constant"]), _mark(found["replay"])]
        pooled = _of(rows, target=target, drafter=drafter, scope=ALL, quantity="AL k=4", law="constant")
        lines.append([drafter, TARGETS[target], f"{pooled[0].predicted:.2f}", *cells])
    head = [cell for scope in scopes for cell in (scope, "same domain's other half")]
    return markdown_table(["drafter", "target", "pooled constant", *head], lines)


def _rates(rows: Sequence[Score]) -> str:
    """r_i of the greedy target at the longest k."""
    lines = []
    for target, drafter in _drafters(rows):
        if target != "greedy":
            continue
        for law in ("constant", "conditional", "latent, requests and spans", "hurdle, lengths seen"):
            found = [
                row for row in _of(rows, target=target, drafter=drafter, scope=ALL, law=law) if "r_" in row.quantity
            ]
            if law == "constant":
                lines.append([drafter, "test half", *(f"{row.measured:.3f}" for row in found)])
            lines.append([drafter, law, *(f"{row.predicted:.3f}" for row in found)])
    width = max(map(len, lines))
    return markdown_table(
        ["drafter", "", *(f"r_{i}" for i in range(1, width - 1))],
        [[*line, *[""] * (width - len(line))] for line in lines],
    )


def _best(rows: Sequence[Score]) -> str:
    """Which law misses the acceptance lengths least, drafter by drafter."""
    lines = []
    shown = [law for law in LAWS if law != "power law"]
    for target, drafter in _drafters(rows):
        mine = [row for row in _of(rows, target=target, drafter=drafter, scope=ALL) if row.quantity.startswith("AL")]
        found = {law: _misfit(_of(mine, law=law)) for law in shown}
        best = min((law for law in shown if law != "replay"), key=lambda law: found[law])
        cells = [f"**{found[law]:.1%}**" if law == best else f"{found[law]:.1%}" for law in shown]
        lines.append([drafter, TARGETS[target], *cells])
    return markdown_table(["drafter", "target", *shown], lines)

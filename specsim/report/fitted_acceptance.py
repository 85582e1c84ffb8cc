"""What logs say of acceptance: what was read, which laws were tried, what the logs cannot tell; the law as YAML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from specsim.interop.acceptance import AcceptanceRecord
from specsim.report.narrow import narrow_table
from specsim.speculation.acceptance import HurdleAcceptance, LatentAcceptance
from specsim.speculation.fit import ChosenLaw, Estimate, Observed, autocorrelation

NOT_IN_LOGS = (
    "laws of confidence, of a tree's ranks and by exit layer were not tried: no log holds confidences, ranks or layers"
)

CANDIDATES = (
    "gain: log-likelihood of 1,000 unseen rounds over the constant law's; behind: the best, in standard errors; "
    "taken: the simplest that the best does not surely beat"
)


def read_table(paths: Sequence[Path], records: Sequence[AcceptanceRecord], used: Sequence[bool]) -> Table:
    """A line a file."""
    table = narrow_table("what was read")
    for column in ("file", "format", "requests", "rounds", "longest\ndraft", "AL", "used"):
        words = column in ("file", "format", "used")
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for path, record, use in zip(paths, records, used, strict=True):
        counts, mean = record.counts, record.mean
        rounds = counts.drafting_rounds() if counts is not None else mean.rounds if mean is not None else None
        table.add_row(
            path.name,
            record.format,
            _count(len(record.requests) or None),
            _count(rounds),
            str(record.draft_tokens()),
            f"{record.acceptance_length():.3f}",
            "yes" if use else "no, others tell more",
        )
    return table


def candidates_table(chosen: ChosenLaw) -> Table:
    """The laws that were tried, by how likely each makes rounds it was not fitted to."""
    table = narrow_table("laws tried: fitted on one half, scored on the other, both ways")
    table.caption, table.caption_justify = CANDIDATES, "left"
    table.add_column("law")
    for column in ("numbers", "gain", "behind"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for one in chosen.candidates:
        if one.refused is not None:
            table.add_row(one.name, str(one.parameters), "-", "-", f"not tried: {one.refused}")
            continue
        gain = "-" if one.gain is None else f"{one.gain:+,.2f}"
        mark = "taken" if one.name == chosen.name else ""
        table.add_row(one.name, str(one.parameters), gain, f"{one.behind:.1f}", mark)
    return table


def law_lines(chosen: ChosenLaw) -> list[str]:
    """The law's numbers with their intervals, and what they mean for rounds and for requests."""
    level, length, k = f"{chosen.level:.0%}", chosen.acceptance_length, chosen.draft_tokens
    lines = [
        f"acceptance length over rounds that drafted, k = {k}: {_shown(length)}",
        f"law: {chosen.name}; intervals hold together at {level}",
    ]
    lines += [f"  {name} {_shown(one)}" for name, one in chosen.numbers.items()]
    if isinstance(chosen.law, LatentAcceptance):
        spread = chosen.law.by_request(k)
        lines.append(
            f"  over requests, each counted alike: {spread.mean:.3f}, standard deviation "
            f"{spread.standard_deviation:.3f}; pooled counters count slow requests more: "
            f"{chosen.law.expected_tokens(k):.3f}"
        )
    return lines


def untold_lines(chosen: ChosenLaw, rounds: Observed | None) -> list[str]:
    """What the logs cannot tell, and which log would."""
    lines = []
    if rounds is None:
        lines.append("rates by position: the logs tell a mean alone, so one rate stands for all of them")
    if rounds is None or rounds.pooled:
        lines.append(
            "how much requests differ, and so the slow tail: pooled counters weight by rounds (requests of AL 1.5 and "
            "4 pool to 2.18, not 2.75). Intervals allow for a spread as seen elsewhere. Give responses of a server "
            "with --per-request-spec-decode-metrics, or --concentration where the spread is known"
        )
    elif not rounds.histories:
        lines.append("whether a request's rounds come in good and bad spans: that needs rounds in order (detailed)")
    elif (memory := autocorrelation(rounds.histories)) is not None:
        lines.append(f"neighbouring rounds correlate by {memory:+.2f}; what lies beyond the next round is not shown")
    if rounds is not None:
        lines.append(f"drafts longer than {rounds.longest}: none was seen, so at larger k the law extrapolates")
        share = 1 - rounds.proposing_share()
        if share:
            lines.append(
                f"{share:.1%} of the rounds proposed nothing: "
                + (
                    "the law holds them as breaks between runs"
                    if isinstance(chosen.law, HurdleAcceptance)
                    else "the law speaks of the others; whether a schedule or the drafter chose so is not told"
                )
            )
        if not rounds.histories:
            lines.append(
                "whether the drafter copies (then the first rate depends on k): that needs rounds in order, or two k"
            )
    return [*lines, NOT_IN_LOGS]


def law_yaml(chosen: ChosenLaw, told: Sequence[str]) -> str:
    """The law as ``speculation.acceptance`` takes it, pasted or by the file's path, what was told in comments."""
    comments = "".join(f"# {line.rstrip()}\n" for line in told)
    return comments + yaml.safe_dump(law_fields(chosen), sort_keys=False)


def law_fields(chosen: ChosenLaw) -> dict[str, Any]:
    """The law's fields, numbers to six digits."""
    fields: dict[str, Any] = _rounded(chosen.law.model_dump(mode="json", exclude_none=True))
    return fields


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _shown(one: Estimate) -> str:
    if not math.isfinite(one.low):
        return f"{one.value:.4g} (no interval: the file does not say how many rounds)"
    return f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g})"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"

"""What ``specsim validate --json`` prints: every figure of its tables under names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from specsim.cases.scores import MapScore, Score, ServedScore, real_acceptance
from specsim.fidelity import Fidelity, together
from specsim.fidelity.served_errors import MetricError, ServedFidelity, ablation, summarize
from specsim.fidelity.where import summaries, target_factors
from specsim.report.map_fidelity import drafter_name
from specsim.report.served_fidelity import bars_of


def fidelity_document(scores: Sequence[Score]) -> dict[str, Any]:
    """``{"cases": {name: ...}, "all_maps": ...}``; the latter over maps with imposed acceptance, null without any."""
    maps = imposed_maps(scores)
    return {
        "cases": {
            one.case.name: _map_document(one) if isinstance(one, MapScore) else _served_document(one) for one in scores
        },
        "all_maps": _all_maps(maps) if maps else None,
    }


def _all_maps(maps: Sequence[MapScore]) -> dict[str, Any]:
    before = [one.committed for one in maps if one.committed is not None]
    committed = _headline(together(before)) if before else None
    return _headline(together([one.now for one in maps])) | {"committed": committed}


def imposed_maps(scores: Sequence[Score]) -> list[MapScore]:
    """The maps whose error is the cost model's alone."""
    return [one for one in scores if isinstance(one, MapScore) and not real_acceptance(one.case)]


def _about(score: Score) -> dict[str, Any]:
    return {
        "kind": "map" if isinstance(score, MapScore) else "served",
        "acceptance": "real" if real_acceptance(score.case) else "imposed",
        "source": score.case.scenario.cost.source,
        "conditions": None if score.conditions is None else score.conditions.model_dump(),
    }


def _map_document(score: MapScore) -> dict[str, Any]:
    return _about(score) | _headline(score.now) | {
        "drafter": drafter_name(score),
        "repeats": score.repeats,
        "committed": None if score.committed is None else _headline(score.committed),
        "where": [asdict(one) for one in summaries(score.parts)] if score.parts else None,
        "target_factors": [asdict(one) for one in target_factors(score.parts)],
        "cells": [
            {
                **asdict(c.predicted), "measured_s": c.measured_s, "error": c.error, "spread": c.spread,
                "noise": c.noise,
            }
            for c in score.now.cells
        ],
        "regret": [asdict(regret) for regret in score.now.regrets],
    }  # fmt: skip


def _headline(fidelity: Fidelity) -> dict[str, Any]:
    return {
        "mean_absolute_error": fidelity.mean_absolute_error(),
        "mean_absolute_error_90": asdict(fidelity.mean_range()),
        "mean_error": fidelity.mean_error(),
        "p90_absolute_error": fidelity.percentile_absolute_error(90),
        "p95_absolute_error": fidelity.percentile_absolute_error(95),
        "interval_coverage": fidelity.coverage(),
        "worst_regret": fidelity.worst_regret(),
        "count": len(fidelity.cells),
    }


def _served_document(score: ServedScore) -> dict[str, Any]:
    served, bars = score.committed, bars_of(score)
    found = [summarize(metric, served.of(metric), bars) for metric in served.metrics()]
    return _about(score) | {
        "count": len(served.rows),
        "interval_coverage": served.covered() / len(served.rows),
        "worst_regret": served.worst_regret(),
        "metrics": {one.metric: asdict(one) | {"worst": _row(one.worst)} for one in found},
        "now": _now(score.now),
        "rows": [_row(row) for row in served.rows],
        "regret": [asdict(regret) for regret in served.regrets],
        "ablation": [
            asdict(one) | {"verdict": one.verdict}
            for variant, other in score.variants.items()
            for one in ablation(served, other, variant)
        ],
    }


def _now(served: ServedFidelity) -> dict[str, float]:
    return {metric: summarize(metric, served.of(metric), ()).mean_absolute for metric in served.metrics()}


def _row(row: MetricError) -> dict[str, Any]:
    return {
        "load": row.load, "share": row.share, "alternative": row.alternative, "metric": row.metric,
        "source": row.source, **asdict(row.predicted), "measured": row.measured, "error": row.error,
        "spread": row.spread, "noise": row.noise, "repeats": row.repeats.tolist(), "covered": row.covered,
    }  # fmt: skip

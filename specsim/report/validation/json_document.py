"""What ``specsim validate --json`` prints: every figure of its tables under names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from specsim.cases import Case
from specsim.cases.map import real_acceptance
from specsim.cases.scores import MapScore, Score, ServedScore
from specsim.fidelity import Fidelity, together
from specsim.fidelity.served_errors import MetricError, ablation, summarize
from specsim.fidelity.where import summaries, target_factors
from specsim.report.validation.served_tables import bars_of, mean_errors


def fidelity_document(scores: Sequence[Score]) -> dict[str, Any]:
    """``{"cases": {name: ...}, "all_maps": ...}``; the latter over maps with imposed acceptance, null without any."""
    maps: dict[str, list[MapScore]] = {}
    for one in scores:
        if isinstance(one, MapScore):
            maps.setdefault(one.case.name, []).append(one)
    documents = {name: _maps_document(found) for name, found in maps.items()}
    documents |= {one.case.name: _served_document(one) for one in scores if isinstance(one, ServedScore)}
    imposed = imposed_maps(scores)
    return {"cases": documents, "all_maps": _together(imposed) if imposed else None}


def imposed_maps(scores: Sequence[Score]) -> list[MapScore]:
    """The maps whose error is the cost model's alone."""
    return [one for one in scores if isinstance(one, MapScore) and not real_acceptance(one.case)]


def _about(case: Case, kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "acceptance": "real" if real_acceptance(case) else "imposed",
        "source": case.scenario.cost.source,
        "machine": case.machine().get("device_name"),
        "date": case.machine().get("date"),
    }


def _maps_document(scores: Sequence[MapScore]) -> dict[str, Any]:
    return (
        _about(scores[0].case, "map")
        | _together(scores)
        | {"drafters": {one.drafter: _map_document(one) for one in scores}}
    )


def _together(scores: Sequence[MapScore]) -> dict[str, Any]:
    """``committed`` before the run, and ``now``, each null where there is none."""
    before = [one.committed for one in scores if one.committed is not None]
    now = [one.now for one in scores if one.now is not None]
    return {
        "committed": _headline(together(before)) if before else None,
        "now": _headline(together(now)) if now else None,
    }


def _map_document(score: MapScore) -> dict[str, Any]:
    """``cells``, ``regret`` and ``where``: of today's code, or of the committed prediction where that is retired."""
    return (
        _together([score])
        | _state(score)
        | {
            "repeats": score.repeats,
            "where": [asdict(one) for one in summaries(score.parts)] if score.parts else None,
            "target_factors": [asdict(one) for one in target_factors(score.parts)],
            "cells": [
                {
                    **asdict(c.predicted),
                    "measured_s": c.measured_s,
                    "error": c.error,
                    "spread": c.spread,
                    "noise": c.noise,
                }
                for c in score.told.cells
            ],
            "regret": [asdict(regret) for regret in score.told.regrets],
            "speedups": [
                {
                    "batch": one.predicted.batch,
                    "draft_tokens": one.predicted.draft_tokens,
                    "predicted": one.foretold,
                    "measured": one.measured,
                    "error": one.error,
                    "cost_error": one.cost_error,
                    "acceptance_error": one.acceptance_error,
                    "covered": one.covered,
                    "ratios": one.ratios.tolist(),
                    "tokens_per_round": one.tokens,
                }
                for one in score.speedups
            ],
        }
    )


def _state(score: Score) -> dict[str, Any]:
    return {
        "retired": score.retired,
        "conditions": None if score.conditions is None else score.conditions.model_dump(),
    }


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
    return (
        _about(score.case, "served")
        | _state(score)
        | {
            "count": len(served.rows),
            "interval_coverage": served.covered() / len(served.rows),
            "worst_regret": served.worst_regret(),
            "metrics": {one.metric: asdict(one) | {"worst": _row(one.worst)} for one in found},
            "now": None if score.now is None else mean_errors(score.now),
            "rows": [_row(row) for row in served.rows],
            "regret": [asdict(regret) for regret in served.regrets],
            "ablation": [
                asdict(one) | {"verdict": one.verdict}
                for variant, other in score.variants.items()
                for one in ablation(served, other, variant)
            ],
        }
    )


def _row(row: MetricError) -> dict[str, Any]:
    return {
        "load": row.load,
        "share": row.share,
        "alternative": row.alternative,
        "metric": row.metric,
        "source": row.source,
        **asdict(row.predicted),
        "measured": row.measured,
        "error": row.error,
        "spread": row.spread,
        "noise": row.noise,
        "repeats": row.repeats.tolist(),
        "covered": row.covered,
    }

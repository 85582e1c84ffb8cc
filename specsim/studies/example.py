"""Published speed-ups that a first answer is shown beside: one model and technique, two cards, every load told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from specsim.studies.quantities import SPEEDUP
from specsim.studies.score import THROUGHPUT, score_study
from specsim.studies.study import Split, load_study, study_path

ROWS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("H100, vLLM about 0.8.5", "h100-llama-3-8b-vllm-prs", {"report": "pr-16937", "drafter": "eagle3"}),
    ("A100, vLLM 0.24", "a100-llama-3.1-8b-eagle3", {"weights": "16-bit", "kv_cache": "16-bit"}),
)


@dataclass(frozen=True, slots=True)
class PublishedSpeedup:
    """``acceptance_length``: as measured in that run; None: not told, and the drafter's published one stands in."""

    runs: str
    study: str
    split: Split
    sequences: int
    draft_tokens: int
    acceptance_length: float | None
    measured: float
    predicted: float


def published_speedups() -> list[PublishedSpeedup]:
    """EAGLE-3 on Llama-3.1-8B in 16 bits: as others measured it, and as ``validate gpu`` predicts it."""
    found = []
    for runs, name, condition in ROWS:
        study, rows = load_study(study_path(name))
        kept = [
            replace(row, figures={key: row.figures[key] for key in (SPEEDUP, THROUGHPUT) if key in row.figures})
            for row in rows
            if condition.items() <= row.condition.items()
        ]
        for figure in score_study(name, study, kept).figures:
            row, told = figure.row, figure.measured or figure.smallest
            if figure.quantity == SPEEDUP and row.load is not None:
                found.append(
                    PublishedSpeedup(
                        runs,
                        name,
                        row.split,
                        round(row.load[1]),
                        row.k,
                        row.acceptance_length,
                        figure.value,
                        told.value,
                    )
                )
    return found

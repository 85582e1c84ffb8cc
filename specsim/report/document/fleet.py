"""GPUs and cost, with speculation and without."""

from __future__ import annotations

from specsim.planning.plan.answer import PlanAnswer
from specsim.report.assumed import ranking_line
from specsim.report.document.answers import PartAnswer
from specsim.report.document.blocks import Bullets, DocumentBlock, Paragraph, Section, as_sentence
from specsim.report.plan import (
    excluded_lines,
    growth_sentences,
    growth_table,
    later_table,
    options_table,
    plan_lines,
    plan_sentences,
)
from specsim.report.sheet import Sheet

TITLE = "GPUs and cost"


def fleet(told: PartAnswer[PlanAnswer]) -> Section:
    """The plan, or in one line why there is none."""
    answer = told.answer
    if answer is None:
        return Section(TITLE, [Paragraph(as_sentence(told.why))])
    plan, growth = answer.plan, answer.growth
    sentences = plan_sentences(plan, answer.asides)
    sentences += [] if growth is None else growth_sentences(growth)
    blocks: list[DocumentBlock] = [Bullets(sentences), Sheet.of(options_table(plan))]
    if growth is not None:
        blocks.append(Sheet.of(growth_table(growth)))
    if answer.later:
        blocks.append(Sheet.of(later_table((plan, *answer.later))))
    ranking = ranking_line(answer.drafters)
    blocks += [
        Bullets([*plan_lines(plan), *([ranking] if ranking else [])]),
        Paragraph("Left out:"),
        Bullets(excluded_lines(plan.excluded)),
    ]
    return Section(TITLE, blocks)

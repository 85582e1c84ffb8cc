"""The answer: on or off and with which k, whether the SLO is met, and what to paste into the engine."""

from __future__ import annotations

from specsim.planning.decide import Decision
from specsim.report.document.answers import OFF, ON, Answers, ServedAnswer, bounded
from specsim.report.document.blocks import Bullets, DocumentBlock, Listing, Paragraph, Section, Tone, as_sentence
from specsim.report.plan import plan_answer_sentences
from specsim.report.served import number, run_table, slo_line, slo_sheet
from specsim.report.sheet import Sheet
from specsim.report.tuned import decision_sentence, formula_sentence, schedule_table, trials_table
from specsim.report.verdict import Verdict
from specsim.results import Slo, slo_met

NO_SLO = "No SLO is given: with one (--ttft-p95 1 --tpot-p95 40ms, or slo in the file) this says whether it is met."


def sentence(answer: Verdict, found: Answers | None, slo: Slo | None) -> str:
    """The decision in one sentence, by simulation where there is one."""
    served = None if found is None else found.served.answer
    if served is None:
        return f"{answer.sentence}."
    best, bounds = served.runs[best_name(served)], bounded(slo)
    met = "" if bounds is None else f"; the SLO is {'met' if slo_met(best, bounds) else 'missed'}"
    confirmation = None if served.decision is None else served.decision.confirmation
    if confirmation is None:
        return f"NO DRAFTER: mean E2E {number(best['mean_e2el_ms'], 1e-3)} s under the load{met}."
    return f"{decision_sentence(confirmation)}{met}."


def tone(answer: Verdict, found: Answers | None) -> Tone:
    """On, off, or no drafter to decide about."""
    if answer.drafting is None:
        return "neutral"
    served = None if found is None else found.served.answer
    if served is None or served.decision is None:
        return "on" if answer.on else "off"
    return "on" if served.decision.policy.longest else "off"


def lead(answer: Verdict, found: Answers | None, slo: Slo | None) -> list[str]:
    """What belongs to the decision: the SLO's answer, GPUs and cost, and how far it holds."""
    lines = [] if found is not None else [f"{answer.about}."]
    if found is not None:
        served, plan = found.served, found.plan
        if served.answer is None:
            lines.append(as_sentence(f"not simulated: {served.why}"))
        elif (bounds := bounded(slo)) is not None:
            told = slo_line(served.answer.runs[best_name(served.answer)], bounds)
            lines.append(f"{told}; one run under the scenario's own seed.")
        if plan.answer is not None:
            lines += plan_answer_sentences(plan.answer.plan)
    return [*lines, f"{answer.limits}."]


def best_name(served: ServedAnswer) -> str:
    """The alternative that is recommended."""
    on = served.decision is not None and served.decision.policy.longest
    return ON if on else OFF


def service_levels(served: ServedAnswer, slo: Slo | None) -> Section:
    """The SLO's bounds, met or missed and by how much, and every figure of the runs."""
    bounds = bounded(slo)
    first = [Paragraph(NO_SLO)] if bounds is None else [slo_sheet(served.runs, bounds)]
    sides = " and ".join(served.runs)
    told = (
        f"One run, {sides}, under the scenario's own seed; on drafts {_drafts(served)}."
        if ON in served.runs
        else "One run under the scenario's own seed."
    )
    runs = Sheet.of(run_table(served.runs, OFF if ON in served.runs else None))
    return Section("Service levels", [*first, Paragraph(told), runs])


def _drafts(served: ServedAnswer) -> str:
    speculation = served.scenarios[ON].speculation
    assert speculation is not None
    name, policy = speculation.drafter_name(), speculation.policy
    return f"with {name}, {'k by batch size' if policy.kind != 'fixed' else f'{policy.longest} tokens a round'}"


def drafts(decision: Decision, slo: Slo | None, note: str) -> Section:
    """Every draft length under the load, the schedule, and the engine's command line."""
    confirmation = decision.confirmation
    assert confirmation is not None
    tables = (trials_table(confirmation, slo), schedule_table(decision.tuning))
    blocks: list[DocumentBlock] = [Paragraph(formula_sentence(decision.tuning)), *map(Sheet.of, tables)]
    if not decision.policy.longest:
        return Section("Draft length", [*blocks, Paragraph(as_sentence(decision.off_line()))])
    if decision.engine is None:
        return Section("Draft length", [*blocks, Paragraph(as_sentence(f"nothing to paste: {note}"))])
    text = decision.text
    listings: list[DocumentBlock] = [Listing(decision.command, "sh")]
    if decision.engine == "tensorrt-llm":
        listings.append(Listing(text.text, "yaml"))
    listings += [Listing(f"# {name}\n{content}") for name, content in text.files.items()]
    return Section(
        "Draft length, and what to paste",
        [*blocks, Paragraph(f"For {decision.question.engine.name}:"), *listings, Bullets(text.notes)],
    )

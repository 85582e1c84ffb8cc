"""``specsim tune``: the batch -> k schedule of a scenario, as an engine takes it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.options import JsonOption, console, messages, print_json
from specsim.cli.predict import whole_numbers
from specsim.cli.question import Question, takes_question

if TYPE_CHECKING:
    from specsim.interop.engine_config import EngineText
    from specsim.planning.tune import Tuning
    from specsim.scenario import Scenario


class EngineName(StrEnum):
    VLLM = "vllm"
    SGLANG = "sglang"
    TENSORRT_LLM = "tensorrt-llm"


class Preference(StrEnum):
    THROUGHPUT = "throughput"
    SURE = "sure"


@takes_question
def tune(
    asked: Question,
    target: Annotated[
        EngineName | None,
        typer.Option("--for", case_sensitive=False, help="Whose text; default the question's engine, else vllm."),
    ] = None,
    batches: Annotated[
        str | None, typer.Option(help="Batch sizes to price, comma-separated; default all up to max_num_seqs.")
    ] = None,
    context: Annotated[float | None, typer.Option(help="KV length in tokens; default the workload's mean.")] = None,
    prefer: Annotated[
        Preference, typer.Option(help="Highest throughput, or only what the 90 % interval says is sure to pay.")
    ] = Preference.THROUGHPUT,
    tolerance: Annotated[float, typer.Option(help="Share of throughput to give up for fewer ranges.")] = 0.01,
    draft_model: Annotated[
        str | None, typer.Option(help="Checkpoint of the drafter that the engine shall load; default its name here.")
    ] = None,
    load: Annotated[
        bool, typer.Option(help="Also simulate the workload: off, with the best single k, with the schedule.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Best draft length at every batch size, ready to paste; exit status 3 if none pays anywhere."""
    from specsim.assembly import assemble
    from specsim.errors import NoAnswer
    from specsim.planning.headroom import headroom
    from specsim.planning.traffic import under_load
    from specsim.planning.tune import WITHOUT, engine_text, rule_of
    from specsim.planning.tune import tune as find
    from specsim.report.assumed import unstated_line
    from specsim.report.served import run_table

    answered = asked.ask()
    engine = target or _engine_of(answered.scenario)
    question = answered.scenario.run_by(engine.value)
    rule = rule_of(engine.value, question)
    machine = assemble(question)
    found = find(
        machine, rule=rule, batches=whole_numbers(batches, "--batches"), context_tokens=context,
        prefer=prefer.value, tolerance=tolerance,
    )  # fmt: skip
    document: dict[str, Any] = {
        "name": question.name, "for": engine.value, "assumed": list(answered.assumed),
        "serving_engine": question.assumed_engine(), **found.as_json(),
    }  # fmt: skip
    if not found.pays:
        if as_json:
            print_json(document | {"text": "", "files": {}, "notes": []})
        else:
            print(f"# off: start {engine.value} without {WITHOUT[engine.value]}")
        raise NoAnswer(
            f"no k pays at any batch size up to {found.batches[-1].batch}; run {engine.value} without speculation, "
            "or try a cheaper or better drafter"
        )
    text = engine_text(question, found, engine.value, draft_model)
    alone = headroom(machine, found.policy)
    served = under_load(machine, found) if load else {}
    if as_json:
        document["alone"] = alone and {"schedule": alone.policy, "oracle": alone.oracle}
        document |= {"load": served} if load else {}
        print_json(document | {"text": text.text, "files": dict(text.files), "notes": list(text.notes)})
        return
    _print_text(text)
    _print_schedule(question, found)
    for line in unstated_line(answered.assumed):
        console().print(line, soft_wrap=True, markup=False)
    if alone is not None:
        console().print(
            f"Alone in the batch: {alone.policy:.2f}x off; {alone.oracle:.2f}x for an oracle that knew what each "
            "round would accept",
            soft_wrap=True,
        )
    if served:
        console().print(run_table(served, "off"))


def _engine_of(scenario: Scenario) -> EngineName:
    kind = scenario.engine.kind
    return EngineName(kind) if kind in list(EngineName) else EngineName.VLLM


def _print_text(text: EngineText) -> None:
    print(text.text.rstrip("\n"))
    for name, content in text.files.items():
        print(f"# {name}:\n{content.rstrip()}")
    for note in text.notes:
        messages().print(note, soft_wrap=True)


def _print_schedule(question: Scenario, found: Tuning) -> None:
    from specsim.report.tables import schedule_table

    out = console()
    out.print(schedule_table(found))
    mean, low, high = found.gain_over_off()
    out.print(
        f"{mean:.2f}x off (90 %: {low:.2f} to {high:.2f}) and {found.gain_over_fixed():.2f}x the best single k, "
        f"{found.fixed_draft_tokens}: means over batch sizes {found.batches[0].batch} to {found.batches[-1].batch}, "
        f"each doubling alike. {question.model.name} on {question.gpu.name}, context {found.context_tokens:.0f} "
        f"tokens, prices: {found.price_name}, engine: {question.engine.name}",
        soft_wrap=True,
    )

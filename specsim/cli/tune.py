"""``specsim tune``: the batch -> k schedule of a scenario, as an engine takes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.options import JsonOption, console, messages, print_json, progress_bar, progress_of
from specsim.cli.predict import whole_numbers
from specsim.cli.question import Question, takes_question
from specsim.errors import NoAnswer

if TYPE_CHECKING:
    from specsim.assembly import Assembly
    from specsim.interop.engine_config import EngineText
    from specsim.planning.confirm import Confirmation
    from specsim.planning.tune import Tuning
    from specsim.scenario import Asked, Scenario
    from specsim.speculation.policy import FixedPolicy, TablePolicy


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
    contexts: Annotated[
        str | None, typer.Option(help="Also the best k at these KV lengths, comma-separated: 1000,8000.")
    ] = None,
    prefer: Annotated[
        Preference, typer.Option(help="Highest throughput, or only what the 90 % interval says is sure to pay.")
    ] = Preference.THROUGHPUT,
    tolerance: Annotated[float, typer.Option(help="Share of throughput to give up for fewer ranges.")] = 0.01,
    draft_model: Annotated[
        str | None, typer.Option(help="Checkpoint of the drafter that the engine shall load; default a placeholder.")
    ] = None,
    confirmed: Annotated[
        bool,
        typer.Option("--simulate/--by-formula", help="Confirm in simulation against off and every single k; or not."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Best draft length at every batch size, confirmed under your load, ready to paste; exit status 3 if off wins."""
    from specsim.assembly import assemble
    from specsim.planning.headroom import headroom
    from specsim.planning.tune import rule_of
    from specsim.planning.tune import tune as find

    answered = asked.ask()
    engine = target or _engine_of(answered.scenario)
    question = _longest_worth_trying(answered).run_by(engine.value)
    rule = rule_of(engine.value, question)
    machine = assemble(question)
    with progress_of("draft lengths") as progress:
        tuning = find(
            machine,
            rule=rule,
            batches=whole_numbers(batches, "--batches"),
            context_tokens=context,
            prefer=prefer.value,
            tolerance=tolerance,
            progress=progress,
        )
    confirmation = _confirm(question, tuning) if confirmed and tuning.pays else None
    answer = _tuned(answered, question, engine, tuning, confirmation, draft_model)
    if as_json:
        alone = headroom(machine, tuning.policy) if tuning.pays else None
        document = answer.as_json() | {"alone": alone and {"schedule": alone.policy, "oracle": alone.oracle}}
        print_json(document | ({} if contexts is None else {"by_context": _by_context(machine, contexts)}))
    else:
        answer.print()
        if contexts is not None:
            _print_contexts(_by_context(machine, contexts))
        if tuning.pays and (alone := headroom(machine, tuning.policy)) is not None:
            console().print(
                f"Alone in the batch the schedule is {alone.policy:.2f}x off, an oracle that knew what each round "
                f"would accept {alone.oracle:.2f}x.",
                soft_wrap=True,
            )
    if not answer.policy.longest:
        raise NoAnswer(answer.off_line())


def _tuned(
    asked: Asked,
    question: Scenario,
    engine: EngineName,
    tuning: Tuning,
    confirmation: Confirmation | None,
    draft_model: str | None,
) -> _Tuned:
    from specsim.interop.engine_config import EngineText
    from specsim.planning.command import command_line, graph_notes
    from specsim.planning.tune import engine_text

    policy = tuning.policy if confirmation is None else confirmation.chosen.policy
    text = EngineText("") if not policy.longest else engine_text(question, policy, engine.value, draft_model)
    command, notes = command_line(question, engine.value, text.text)
    told = (*text.notes, *notes, *(graph_notes(question, policy) if policy.longest else ()))
    return _Tuned(
        asked, question, engine, tuning, confirmation, policy, EngineText(text.text, text.files, told), command
    )


@dataclass(frozen=True, slots=True)
class _Tuned:
    """``question``: what was tuned. ``text``: the speculation alone, with every note; ``command``: the whole line."""

    asked: Asked
    question: Scenario
    engine: EngineName
    tuning: Tuning
    confirmation: Confirmation | None
    policy: FixedPolicy | TablePolicy
    text: EngineText
    command: str

    def as_json(self) -> dict[str, Any]:
        question, confirmation = self.question, self.confirmation
        return {
            "name": question.name, "for": self.engine.value, "assumed": list(self.asked.assumed),
            "serving_engine": question.assumed_engine(), **self.tuning.as_json(),
            "confirmation": confirmation and confirmation.as_json(question.slo),
            "text": self.text.text, "files": dict(self.text.files), "notes": list(self.text.notes),
            "command": self.command,
        }  # fmt: skip

    def off_line(self) -> str:
        """Why speculation stays off, and what to do."""
        if self.confirmation is None:
            where = f"no k pays at any batch size up to {self.tuning.batches[-1].batch}"
        else:
            doubt = "" if self.confirmation.sure else ", but not certain"
            where = f"off serves this load faster than every draft length{doubt}"
        return f"{where}; run {self.engine.value} without speculation, or try a cheaper or better drafter"

    def print(self) -> None:
        from specsim.planning.tune import WITHOUT
        from specsim.report.assumed import run_lines, unstated_line
        from specsim.report.tuned import schedule_table, trials_table, tuned_lines

        if not self.text.text:
            print(f"# off: start {self.engine.value} without {WITHOUT[self.engine.value]}")
        print(
            f"# {self.command}\n{self.text.text.rstrip()}" if self.engine is EngineName.TENSORRT_LLM else self.command
        )
        for name, content in self.text.files.items():
            print(f"# {name}:\n{content.rstrip()}")
        for note in self.text.notes:
            messages().print(f"note: {note}", soft_wrap=True, markup=False)
        out = console()
        for line in tuned_lines(self.question, self.tuning, self.confirmation):
            out.print(line, soft_wrap=True)
        if self.confirmation is not None:
            out.print(trials_table(self.confirmation, self.question.slo))
        out.print(schedule_table(self.tuning))
        question, prices = self.question, self.tuning.price_name
        worst = self.confirmation.chosen.runs[0]["price_source"] if self.confirmation else None
        for line in (*run_lines(question, prices, worst), *unstated_line(self.asked.assumed)):
            out.print(line, soft_wrap=True, markup=False)


def _longest_worth_trying(answered: Asked) -> Scenario:
    """The question, with longer drafts than its drafter's default where it does not say how long they may be."""
    from specsim.planning.longer import trying_longer

    stated = answered.fields.get("speculation")
    if isinstance(stated, dict) and "max_draft_tokens" not in stated:
        return trying_longer(answered.scenario)
    return answered.scenario


def _confirm(question: Scenario, tuning: Tuning) -> Confirmation:
    from specsim.assembly import assemble
    from specsim.planning.confirm import confirm

    lengths = [k for k in assemble(question).choices() if k]
    with progress_bar() as bar:
        task = bar.add_task("", total=2 + len(lengths), completed=-1)
        return confirm(
            question, tuning.policy, lengths, progress=lambda name: bar.update(task, description=name, advance=1)
        )  # fmt: skip


def _by_context(machine: Assembly, contexts: str) -> list[dict[str, Any]]:
    """The best k of each batch size at each KV length, decoding alone."""
    from specsim.analytic.rounds import speedup_map

    found = []
    for context in whole_numbers(contexts, "--contexts") or []:
        bests = speedup_map(machine, context_tokens=context).best()
        rows = [{"batch": one.batch, "draft_tokens": one.draft_tokens, "speedup": one.speedup} for one in bests]
        found.append({"context_tokens": context, "best": rows})
    return found


def _print_contexts(found: list[dict[str, Any]]) -> None:
    from specsim.report.tuned import context_table

    console().print(context_table(found))


def _engine_of(scenario: Scenario) -> EngineName:
    kind = scenario.engine.kind
    return EngineName(kind) if kind in list(EngineName) else EngineName.VLLM

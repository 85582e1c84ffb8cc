"""``specsim tune``: the batch -> k schedule of a scenario, as an engine takes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from specsim.cli.groups import OptionGroup
from specsim.cli.lists import COUNTS, WholeNumbers, list_option
from specsim.cli.options import JsonOption, console, messages, print_json, progress_bar, progress_of
from specsim.cli.question import Question, takes_question
from specsim.errors import NoAnswer

if TYPE_CHECKING:
    from specsim.assembly import Assembly
    from specsim.planning.decide import Decision
    from specsim.planning.engine_text import ScheduleRule
    from specsim.planning.headroom import Headroom
    from specsim.planning.tune import Tuning
    from specsim.scenario import Asked, Scenario


class EngineName(StrEnum):
    VLLM = "vllm"
    SGLANG = "sglang"
    TENSORRT_LLM = "tensorrt-llm"


class Preference(StrEnum):
    THROUGHPUT = "throughput"
    SURE = "sure"


@dataclass(frozen=True, slots=True)
class SearchOptions(OptionGroup):
    """Where the best draft length is looked for, and what best means."""

    batches: Annotated[
        WholeNumbers | None,
        list_option(COUNTS, "Batch sizes to price, comma-separated; default all up to max_num_seqs."),
    ] = None
    context: Annotated[float | None, typer.Option(help="KV length in tokens; default the workload's mean.")] = None
    contexts: Annotated[
        WholeNumbers | None,
        list_option(COUNTS, "Also the best k at these KV lengths, comma-separated: 1000,8000."),
    ] = None
    prefer: Annotated[
        Preference, typer.Option(help="Highest throughput, or only what the 90 % interval says is sure to pay.")
    ] = Preference.THROUGHPUT
    tolerance: Annotated[float, typer.Option(help="Share of throughput to give up for fewer ranges.")] = 0.01

    def tuned(self, machine: Assembly, rule: ScheduleRule) -> Tuning:
        """The schedule by formula, of those that an engine of this rule takes."""
        from specsim.planning.tune import tune

        with progress_of("draft lengths") as progress:
            return tune(
                machine,
                rule=rule,
                batches=self.batches,
                context_tokens=self.context,
                prefer=self.prefer.value,
                tolerance=self.tolerance,
                progress=progress,
            )

    def by_context(self, machine: Assembly) -> list[dict[str, Any]] | None:
        """The best k of each batch size at each KV length, decoding alone; None where no lengths were given."""
        from specsim.analytic.rounds import speedup_map

        if self.contexts is None:
            return None
        found = []
        for context in self.contexts:
            bests = speedup_map(machine, context_tokens=context).best()
            rows = [{"batch": one.batch, "draft_tokens": one.draft_tokens, "speedup": one.speedup} for one in bests]
            found.append({"context_tokens": context, "best": rows})
        return found


@takes_question
def tune(
    asked: Question,
    search: SearchOptions,
    target: Annotated[
        EngineName | None,
        typer.Option("--for", case_sensitive=False, help="Whose text; default the question's engine, else vllm."),
    ] = None,
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
    from specsim.planning.engine_text import rule_of
    from specsim.planning.longer import longest_worth_trying

    answered = asked.ask()
    engine = target or _engine_of(answered.scenario)
    question = longest_worth_trying(answered.scenario, answered.fields).run_by(engine.value)
    rule = rule_of(engine.value, question)
    machine = assemble(question)
    tuning = search.tuned(machine, rule)
    decision = _decided(machine, engine, tuning, simulated=confirmed, draft_model=draft_model)
    answer = _Tuned(answered, engine, decision, machine, search.by_context(machine))
    if as_json:
        print_json(answer.as_json())
    else:
        answer.print()
    if not decision.policy.longest:
        raise NoAnswer(decision.off_line())


def _decided(
    machine: Assembly, engine: EngineName, tuning: Tuning, *, simulated: bool, draft_model: str | None
) -> Decision:
    from specsim.planning.decide import decide

    with progress_bar() as bar:
        task = bar.add_task("", total=2 + len(machine.choices()), completed=-1)
        return decide(
            machine.scenario,
            engine.value,
            tuning,
            simulated=simulated,
            draft_model=draft_model,
            progress=lambda name: bar.update(task, description=name, advance=1),
        )


@dataclass(frozen=True, slots=True)
class _Tuned:
    """A decision as it is printed; ``machine``: the one that was tuned; ``by_context``: its best k by KV length."""

    asked: Asked
    engine: EngineName
    decision: Decision
    machine: Assembly
    by_context: list[dict[str, Any]] | None

    def as_json(self) -> dict[str, Any]:
        decision, alone = self.decision, self._alone()
        question, confirmation, text = decision.question, decision.confirmation, decision.text
        return {
            "name": question.name,
            "for": self.engine.value,
            "assumed": list(self.asked.assumed),
            "serving_engine": question.assumed_engine(),
            **decision.tuning.as_json(),
            "confirmation": confirmation and confirmation.as_json(question.slo),
            "text": text.text,
            "files": dict(text.files),
            "notes": list(text.notes),
            "command": decision.command,
            "alone": alone and {"schedule": alone.policy, "oracle": alone.oracle},
            **({} if self.by_context is None else {"by_context": self.by_context}),
        }

    def _alone(self) -> Headroom | None:
        from specsim.planning.headroom import headroom

        tuning = self.decision.tuning
        return headroom(self.machine, tuning.policy) if tuning.pays else None

    def print(self) -> None:
        from specsim.report.assumed import run_lines, tried_longer, unstated_line
        from specsim.report.tuned import confirmed_lines, context_table, formula_sentence, schedule_table, trials_table

        question, tuning, confirmation = self.decision.question, self.decision.tuning, self.decision.confirmation
        out = console()
        for line in (
            _formula_lines(self.machine) if confirmation is None else confirmed_lines(confirmation, question.slo)
        ):
            out.print(line)
        self._print_command()
        out.print(formula_sentence(tuning))
        if confirmation is not None:
            out.print(trials_table(confirmation, question.slo))
        out.print(schedule_table(tuning))
        worst = confirmation.chosen.runs[0]["price_source"] if confirmation else None
        assumed = (*self.asked.assumed, *tried_longer(self.asked, _longest(self.machine)))
        for line in (*run_lines(question, tuning.price_name, worst), *unstated_line(assumed)):
            out.print(line, markup=False)
        if self.by_context is not None:
            out.print(context_table(self.by_context))
        if (alone := self._alone()) is not None:
            out.print(
                f"Alone in the batch the schedule gives {alone.policy:.2f}x the output tokens/s of no drafter, an "
                f"oracle that knew what each round would accept {alone.oracle:.2f}x."
            )

    def _print_command(self) -> None:
        """What to paste, between empty lines, as it is."""
        from specsim.planning.engine_text import WITHOUT

        text, command = self.decision.text, self.decision.command
        print()
        if not text.text:
            print(f"# off: start {self.engine.value} without {WITHOUT[self.engine.value]}")
        print(f"# {command}\n{text.text.rstrip()}" if self.engine is EngineName.TENSORRT_LLM else command)
        for name, content in text.files.items():
            print(f"# {name}:\n{content.rstrip()}")
        print(flush=True)
        for note in text.notes:
            messages().print(f"note: {note}", soft_wrap=True, markup=False)


def _longest(machine: Assembly) -> int:
    speculation = machine.scenario.speculation
    return 0 if speculation is None else speculation.max_draft_tokens


def _formula_lines(machine: Assembly) -> list[str]:
    """On or off at the batch that the load leads to, as ``specsim predict`` says it; or why there is no such batch."""
    from specsim.analytic.load import answered_map
    from specsim.report.verdict import verdict

    try:
        answer = verdict(*answered_map(machine))
    except NoAnswer as error:
        return [escape(f"No batch size of the load itself: {error}")]
    return [f"[bold]{answer.sentence}[/bold]", answer.about]


def _engine_of(scenario: Scenario) -> EngineName:
    kind = scenario.engine.kind
    return EngineName(kind) if kind in list(EngineName) else EngineName.VLLM

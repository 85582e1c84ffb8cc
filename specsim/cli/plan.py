"""``specsim plan``: fewest GPUs and lowest cost that meet an SLO at a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.choices import GrowthOptions, PriceOptions
from specsim.cli.groups import OptionGroup
from specsim.cli.lists import names, numbers, whole_numbers
from specsim.cli.options import JsonOption, console, print_json, progress_bar, tell_compilation
from specsim.cli.question import Question, takes_question
from specsim.cli.workers import cores, worker_processes
from specsim.errors import InvalidInput
from specsim.progress import Progress

if TYPE_CHECKING:
    from specsim.planning.plan.answer import PlanAnswer
    from specsim.planning.plan.growth import Growth
    from specsim.planning.plan.named import Named


@dataclass(frozen=True, slots=True)
class SpaceOptions(OptionGroup):
    """What the plan may choose from."""

    gpu: Annotated[str | None, typer.Option(help="GPU types, comma-separated: h100,h200.")] = None
    tensor_parallel: Annotated[
        str | None, typer.Option("--tp", "--tensor-parallel-size", help="GPUs a replica; default 1,2,4,8.")
    ] = None
    data_parallel: Annotated[
        str | None, typer.Option("--dp", "--data-parallel-size", help="Replicas that share their experts: 1,8.")
    ] = None
    drafter: Annotated[
        str | None, typer.Option(help="Drafters, comma-separated: eagle-3,ngram; off is always tried too.")
    ] = None
    draft_tokens: Annotated[
        str | None, typer.Option("--draft-tokens", "--num-speculative-tokens", help="Draft lengths to try: 1,3,5.")
    ] = None
    schedules: Annotated[
        bool, typer.Option("--schedules", help="Also try draft lengths by batch size, as tune finds them.")
    ] = False
    weight_bits: Annotated[str | None, typer.Option(help="Bits of weights to try: 16,8; default the model's.")] = None
    kv_bits: Annotated[str | None, typer.Option(help="Bits of the KV cache to try: 16,8.")] = None
    disaggregated: Annotated[
        bool, typer.Option("--disaggregated", help="Also try prefill and decode replicas in pools of their own.")
    ] = False

    def named(self, prices: PriceOptions) -> Named:
        from specsim.planning.plan.named import Named

        return Named(
            gpus=names(self.gpu),
            tensor_parallel=whole_numbers(self.tensor_parallel, "--tp", least=1),
            data_parallel=whole_numbers(self.data_parallel, "--dp", least=1),
            drafters=names(self.drafter),
            draft_tokens=whole_numbers(self.draft_tokens, "--draft-tokens"),
            weight_bits=numbers(self.weight_bits, "--weight-bits"),
            kv_bits=numbers(self.kv_bits, "--kv-bits"),
            schedules=self.schedules,
            disaggregated=self.disaggregated,
            usd=prices.usd_by_gpu(),
        )


@takes_question
def plan(
    question: Question,
    space: SpaceOptions,
    prices: PriceOptions,
    growth: GrowthOptions,
    loads: Annotated[
        str | None, typer.Option(help="Requests/s, for each of which the plan is made anew: 40,60,90.")
    ] = None,
    what_if: Annotated[
        bool, typer.Option("--what-if/--no-what-if", help="Also GPUs where load, lengths, acceptance, prices differ.")
    ] = True,
    max_rate: Annotated[
        bool, typer.Option("--max-rate", help="The largest load of the one deployment given, instead.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fewest GPUs and lowest cost that meet an SLO at a load, confirmed by simulation; exit status 3 if none does."""
    named = space.named(prices)
    grows, rates = growth.asked(), numbers(loads, "--loads")
    if max_rate:
        if grows is not None or rates:
            raise InvalidInput("--max-rate looks for the load itself; drop --growth and --loads")
        _print_largest(question, named, as_json=as_json)
        return
    answer = _answer(question, named, rates, grows, what_if=what_if, workers=workers or cores())
    if as_json:
        print_json(answer.as_json())
    else:
        _print(answer)
        if named.leaves_schedules(answer.scenario):
            console().print("--schedules also tries a k by batch size.")


def _answer(
    question: Question, named: Named, rates: Sequence[float], growth: Growth | None, *, what_if: bool, workers: int
) -> PlanAnswer:  # fmt: skip
    from specsim.planning.plan.answer import plan_answer

    given: dict[str, Any] = {"rate_per_s": rates[0]} if rates else {}
    if named.gpus and question.reference is None:
        given |= {"gpu": named.gpus[0], "tensor_parallel": 1}
    asked = replace(question, short=question.short | given).ask()
    tell_compilation()
    with progress_bar() as progress, worker_processes(workers) as pool:

        def told(what: str) -> Progress:
            task = progress.add_task(what, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        return plan_answer(asked, named, rates[1:], growth=growth, what_if=what_if, pool=pool, progress=told)


def _print_largest(question: Question, named: Named, *, as_json: bool) -> None:
    """With the drafter and without one."""
    from specsim.planning.plan.answer import largest_json
    from specsim.planning.plan.capacity import capacity

    given = {
        "gpu": named.gpus, "tensor_parallel": named.tensor_parallel, "drafter": named.drafters,
        "draft_tokens": named.draft_tokens,
    }  # fmt: skip
    several = [name for name, values in given.items() if len(values) > 1]
    if several:
        raise InvalidInput(f"--max-rate is asked of one deployment and several of {several[0]} are given; give one")
    asked = replace(question, short=question.short | {name: one[0] for name, one in given.items() if one}).ask()
    scenario = asked.scenario
    sides = [scenario, scenario.without_speculation()] if scenario.speculation is not None else [scenario]
    tell_compilation()
    found = [capacity(side) for side in sides]
    if as_json:
        rows = [{"drafter": one.candidate.drafter, "gpus": one.gpus, **largest_json(one.largest)} for one in found]
        print_json({"name": scenario.name, "largest_rates": rows, "assumed": list(asked.assumed)})
        return
    for one in found:
        name = one.candidate.describe()
        ends = "" if one.largest.beyond is None else f"; 1 % above, it {one.largest.beyond.misses()}"
        console().print(
            f"{one.gpus} GPUs, {name}: up to {one.largest.rate_per_s:.3g} requests/s{ends}.", soft_wrap=True
        )


def _print(answer: PlanAnswer) -> None:
    from specsim.report.assumed import engine_line, unstated_line
    from specsim.report.plan import (
        excluded_table,
        growth_sentences,
        growth_table,
        later_table,
        options_table,
        plan_lines,
        plan_sentences,
        start_lines,
        what_if_table,
    )

    out, plan, growth = console(), answer.plan, answer.growth
    first, *others = plan_sentences(plan, answer.asides)
    out.print(f"[bold]{first}[/bold]")
    for sentence in (*others, *(growth_sentences(growth) if growth is not None else ())):
        out.print(sentence)
    tables = [options_table(plan)]
    if growth is not None:
        tables.append(growth_table(growth))
    if answer.later:
        tables.append(later_table((plan, *answer.later)))
    if answer.asides.what_ifs:
        tables.append(what_if_table(plan.best, answer.asides.what_ifs))
    for table in (*tables, excluded_table(plan.excluded)):
        out.print()
        out.print(table)
    out.print()
    for line in start_lines(plan.best):
        out.print(line, markup=False, soft_wrap=True)
    for line in (*plan_lines(plan), engine_line(plan.best.candidate.scenario), *unstated_line(answer.assumed)):
        out.print(line, markup=False)

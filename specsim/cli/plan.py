"""``specsim plan``: fewest GPUs and lowest cost that meet an SLO at a load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.choices import GrowthOptions, PriceOptions
from specsim.cli.groups import OptionGroup
from specsim.cli.lists import COUNTS, Names, Numbers, WholeNumbers, list_option, names, numbers
from specsim.cli.options import JsonOption, console, print_json, progress_bar, tell_compilation
from specsim.cli.question import Question, takes_question
from specsim.cli.workers import cores, worker_processes
from specsim.errors import Faults, InvalidInput
from specsim.progress import Progress

if TYPE_CHECKING:
    from specsim.planning.plan.answer import PlanAnswer
    from specsim.planning.plan.growth import Growth
    from specsim.planning.plan.named import Named
    from specsim.scenario import Asked


@dataclass(frozen=True, slots=True)
class SpaceOptions(OptionGroup):
    """What the plan may choose from."""

    gpu: Annotated[Names | None, list_option(names, "GPU types, comma-separated: h100,h200.")] = None
    tensor_parallel: Annotated[
        WholeNumbers | None,
        list_option(COUNTS, "GPUs a replica; default 1,2,4,8.", "--tp", "--tensor-parallel-size"),
    ] = None
    data_parallel: Annotated[
        WholeNumbers | None,
        list_option(COUNTS, "Replicas that share experts: 1,8.", "--dp", "--data-parallel-size"),
    ] = None
    drafter: Annotated[
        Names | None,
        list_option(names, "Drafters, comma-separated: eagle-3,ngram; off is always tried too."),
    ] = None
    draft_tokens: Annotated[
        WholeNumbers | None,
        list_option(
            COUNTS,
            "Draft lengths to try: 1,3,5; off is always tried too.",
            "--draft-tokens",
            "--num-speculative-tokens",
        ),
    ] = None
    schedules: Annotated[
        bool, typer.Option("--schedules", help="Also try draft lengths by batch size, as tune finds them.")
    ] = False
    weight_bits: Annotated[
        Numbers | None,
        list_option(numbers, "Bits of weights to try: 16,8; default the model's."),
    ] = None
    kv_bits: Annotated[Numbers | None, list_option(numbers, "Bits of the KV cache to try: 16,8.")] = None
    disaggregated: Annotated[
        bool, typer.Option("--disaggregated", help="Also try prefill and decode replicas in pools of their own.")
    ] = False

    def named(self, usd: Mapping[str, float]) -> Named:
        """At these prices an hour, by the GPU's full name."""
        from specsim.planning.plan.named import Named

        return Named(
            gpus=self.gpu or (),
            tensor_parallel=self.tensor_parallel or (),
            data_parallel=self.data_parallel or (),
            drafters=self.drafter or (),
            draft_tokens=self.draft_tokens or (),
            weight_bits=self.weight_bits or (),
            kv_bits=self.kv_bits or (),
            schedules=self.schedules,
            disaggregated=self.disaggregated,
            usd=usd,
        )

    def of_many(self) -> list[str]:
        """Options given that have no meaning where the deployment is one and stands."""
        given = {
            "--dp": self.data_parallel, "--weight-bits": self.weight_bits, "--kv-bits": self.kv_bits,
            "--schedules": self.schedules, "--disaggregated": self.disaggregated,
        }  # fmt: skip
        return [option for option, value in given.items() if value]


@takes_question
def plan(
    question: Question,
    space: SpaceOptions,
    prices: PriceOptions,
    growth: GrowthOptions,
    loads: Annotated[
        Numbers | None,
        list_option(numbers, "Requests/s, for each of which the plan is made anew: 40,60,90."),
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
    faults, usd, grows = Faults(), dict[str, float](), None
    with faults.kept():
        usd = prices.usd_by_gpu()
    with faults.kept():
        grows = growth.asked()
    if max_rate:
        with faults.kept():
            _refuse_beside_max_rate(question, space, prices, growth, loads)
    named = space.named(usd)
    with faults.kept():
        asked, named = _asked(question, named, loads, largest=max_rate)
    faults.tell()
    if max_rate:
        _print_largest(asked, as_json=as_json)
        return
    answer = _answer(asked, named, loads or (), grows, what_if=what_if, workers=workers or cores())
    if as_json:
        print_json(answer.as_json())
    else:
        _print(answer)
        if named.leaves_schedules(answer.scenario):
            console().print("--schedules also tries a k by batch size.")


def _refuse_beside_max_rate(
    question: Question, space: SpaceOptions, prices: PriceOptions, growth: GrowthOptions, loads: Numbers | None
) -> None:
    """Raises InvalidInput for options that --max-rate would not heed."""
    short = question.options()
    given = {
        "--rate": short.rate_per_s, "--concurrency": short.concurrency, "--loads": loads, "--growth": growth.growth,
    }  # fmt: skip
    faults = Faults()
    with faults.kept():
        beside = [option for option, value in given.items() if value is not None]
        if beside:
            raise InvalidInput(f"--max-rate looks for the load itself; drop {' and '.join(beside)}")
    with faults.kept():
        beside = [*space.of_many(), *prices.words()[::2]]
        if beside:
            raise InvalidInput(
                f"--max-rate is of the deployment as it stands; drop {' and '.join(dict.fromkeys(beside))}, or state "
                "it with --set deployment.FIELD=VALUE"
            )
    faults.tell()


def _asked(question: Question, named: Named, loads: Numbers | None, *, largest: bool) -> tuple[Asked, Named]:
    """The question that a plan starts from, or whose ``largest`` load is looked for; and what may be chosen beside.

    A single drafter is the question's own, so that settings may say more of it.
    """
    given: dict[str, Any] = {}
    if largest:
        choices = {
            "gpu": named.gpus, "tensor_parallel": named.tensor_parallel, "drafter": named.drafters,
            "draft_tokens": named.draft_tokens,
        }  # fmt: skip
        several = [f"--{name.replace('_', '-')}" for name, values in choices.items() if len(values) > 1]
        if several:
            raise InvalidInput(
                f"--max-rate is asked of one deployment and {' and '.join(several)} names several; give one"
            )
        given = {name: one[0] for name, one in choices.items() if one}
    elif named.gpus and question.reference is None:
        given = {"gpu": named.gpus[0], "tensor_parallel": 1}
    if not largest and len(named.drafters) == 1:
        shortest = {"draft_tokens": min(named.draft_tokens)} if named.draft_tokens else {}
        given |= {"drafter": named.drafters[0], **shortest}
        named = replace(named, drafters=())
    elif not largest and named.drafters and any(one.startswith("speculation.") for one in question.settings):
        raise InvalidInput(f"--set speculation is of one drafter and --drafter names {len(named.drafters)}; name one")
    if loads is not None:
        given["rate_per_s"] = loads[0]
    return replace(question, short=question.short | given).ask(), named


def _answer(
    asked: Asked, named: Named, loads: Sequence[float], growth: Growth | None, *, what_if: bool, workers: int
) -> PlanAnswer:
    from specsim.planning.plan.answer import plan_answer

    tell_compilation()
    with progress_bar() as progress, worker_processes(workers) as pool:

        def told(what: str) -> Progress:
            task = progress.add_task(what, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        return plan_answer(asked, named, loads[1:], growth=growth, what_if=what_if, pool=pool, progress=told)


def _print_largest(asked: Asked, *, as_json: bool) -> None:
    """With the drafter and without one."""
    from specsim.planning.plan.answer import largest_json
    from specsim.planning.plan.capacity import capacity
    from specsim.units import format_gpus

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
        rate = f"up to {one.largest.rate_per_s:.3g} requests/s"
        console().print(f"{format_gpus(one.gpus)}, {name}: {rate}{ends}.", soft_wrap=True)


def _print(answer: PlanAnswer) -> None:
    from specsim.report.assumed import engine_line, ranking_line, unstated_line
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
    if plan.excluded:
        tables.append(excluded_table(plan.excluded))
    for table in tables:
        out.print()
        out.print(table)
    out.print()
    for line in start_lines(plan.best):
        out.print(line, markup=False, soft_wrap=True)
    ranking = ranking_line(answer.drafters)
    rests_on = [*plan_lines(plan), *([ranking] if ranking else []), engine_line(plan.best.candidate.scenario)]
    for line in (*rests_on, *unstated_line(answer.assumed)):
        out.print(line, markup=False)

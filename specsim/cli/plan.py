"""``specsim plan``: fewest GPUs and lowest cost that meet an SLO at a load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.options import JsonOption, console, messages, print_json
from specsim.cli.predict import whole_numbers
from specsim.cli.question import Question, takes_question
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.planning.plan.choose import Plan
    from specsim.planning.plan.sensitivity import Interval, WhatIf
    from specsim.planning.plan.size import LargestRate
    from specsim.planning.plan.space import Drafter, Space
    from specsim.scenario import Asked


@takes_question
def plan(
    question: Question,
    gpu: Annotated[str | None, typer.Option(help="GPU types, comma-separated: h100,h200.")] = None,
    tensor_parallel: Annotated[
        str | None, typer.Option("--tp", "--tensor-parallel-size", help="GPUs a replica; default 1,2,4,8.")
    ] = None,
    data_parallel: Annotated[
        str | None, typer.Option("--dp", "--data-parallel-size", help="Replicas that share a model's experts; default 1.")
    ] = None,
    drafter: Annotated[
        str | None, typer.Option(help="Drafters, comma-separated: eagle-3,ngram; off is always tried too.")
    ] = None,
    draft_tokens: Annotated[
        str | None, typer.Option("--draft-tokens", "--num-speculative-tokens", help="Draft lengths to try: 1,3,5.")
    ] = None,
    weight_bits: Annotated[str | None, typer.Option(help="Bits of weights to try: 16,8; default the model's.")] = None,
    kv_bits: Annotated[str | None, typer.Option(help="Bits of the KV cache to try: 16,8.")] = None,
    disaggregated: Annotated[
        bool, typer.Option("--disaggregated", help="Also try prefill and decode replicas in pools of their own.")
    ] = False,
    price: Annotated[list[str] | None, typer.Option(help="GPU=USD an hour (repeatable): h100=2.50.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Prices: YAML of GPU: USD, or SkyPilot's vms.csv.")] = None,
    region: Annotated[str | None, typer.Option(help="Of the catalogue's offers.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Spot prices of the catalogue.")] = False,
    loads: Annotated[
        str | None, typer.Option(help="Requests/s as the load grows, in order: 40,60,90; the first is answered in full.")
    ] = None,
    what_if: Annotated[
        bool, typer.Option("--what-if/--no-what-if", help="Also GPUs where load, lengths, acceptance or prices differ.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Fewest GPUs and lowest cost that meet an SLO at a load, confirmed by simulation; exit status 3 if none does."""
    from dataclasses import replace

    from specsim.planning.plan.choose import choose
    from specsim.planning.plan.load import own_load

    rates = _numbers(loads, "--loads")
    if rates and question.short.get("rate_per_s") is None:
        question.short["rate_per_s"] = rates[0]
    asked, space = _asked(
        question, gpus=_names(gpu), ranks=whole_numbers(tensor_parallel, "--tp"),
        shared=whole_numbers(data_parallel, "--dp"), drafters=_names(drafter),
        lengths=whole_numbers(draft_tokens, "--draft-tokens"), weight_bits=_numbers(weight_bits, "--weight-bits"),
        kv_bits=whole_numbers(kv_bits, "--kv-bits"), disaggregated=disaggregated,
        prices=_prices(price or [], prices, region, spot),
    )  # fmt: skip
    load = own_load(asked.scenario)
    with _progress() as told:
        found = choose(asked.scenario, space, load, told("deployments"))
        grown = [choose(asked.scenario, space, replace(load, rate_per_s=rate)) for rate in (rates or [])[1:]]
        asides = _asides(found, told) if what_if else _Asides()
    if as_json:
        print_json(_document(asked, found, grown, asides))
    else:
        _print(asked, found, grown, asides)

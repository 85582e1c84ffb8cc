"""``specsim.plan``: fewest GPUs and lowest cost that meet an SLO at a load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from specsim.api.arguments import checked
from specsim.api.words import QuestionOptions, ScenarioLike, ask
from specsim.interop.gpu_prices import price_of
from specsim.planning.plan.answer import PlanAnswer, plan_answer
from specsim.planning.plan.growth import Growth
from specsim.planning.plan.named import Named
from specsim.scenario import Asked, Scenario


@checked
def plan(
    scenario: ScenarioLike = None,
    *,
    gpus: Sequence[str] = (),
    tps: Sequence[int] = (),
    drafters: Sequence[str] = (),
    draft_lengths: Sequence[int] = (),
    weight_bits: Sequence[float] = (),
    kv_bits: Sequence[float] = (),
    schedules: bool = False,
    disaggregated: bool = False,
    price: Mapping[str, float] | None = None,
    growth: float | None = None,
    months: int = 12,
    loads: Sequence[float] = (),
    what_if: bool = True,
    **words: Unpack[QuestionOptions],
) -> PlanAnswer:
    """The cheapest deployment that meets the SLO, the best of each kind, and what was left out and why.

    ``gpus``, ``tps`` (GPUs a replica), ``drafters``, ``draft_lengths``, ``weight_bits``, ``kv_bits``: what may be
    chosen; empty: what the words say, else the question's own, of ``tps`` powers of two and of ``draft_lengths`` 1 to
    5; off is always tried. ``schedules``: also draft lengths by batch size, as ``tune`` finds them. ``price``: USD an
    hour by GPU; without any, GPUs are counted. ``growth``: percent a month by which the load grows, over so many
    ``months``. ``loads``: also plans made anew at these requests/s. ``what_if``: also GPUs where load, lengths,
    acceptance or prices differ. ``words``: as of ``specsim.ask``; they need a rate and an SLO. Raises InvalidInput,
    and NoAnswer where nothing meets the SLO.

    >>> specsim.plan(model="llama-3.1-8b", gpu="l40s", tp=1, rate=2, prompt=256, output=64,
    ...              ttft_p95=2, tpot_p95="50ms", what_if=False)
    <PlanAnswer at 2 requests/s: 1 GPU, L40S TP 1 off>
    """
    named = Named(
        gpus=gpus,
        tensor_parallel=tps or _one(words.get("tp")),
        drafters=_others(scenario, words, drafters),
        draft_tokens=draft_lengths or _one(words.get("draft_tokens")),
        weight_bits=weight_bits,
        kv_bits=kv_bits,
        disaggregated=disaggregated,
        schedules=schedules,
        usd=dict(price_of(f"{name}={usd}") for name, usd in (price or {}).items()),
    )
    grows = None if growth is None else Growth(growth, months)
    return plan_answer(_asked(scenario, words, gpus), named, loads, growth=grows, what_if=what_if)


def _others(scenario: ScenarioLike, words: QuestionOptions, drafters: Sequence[str]) -> Sequence[str]:
    """The drafters but a single one that becomes the question's own, so that words may say more of it."""
    if len(drafters) != 1 or "drafter" in words or isinstance(scenario, Scenario):
        return drafters
    words["drafter"] = drafters[0]
    return ()


def _asked(scenario: ScenarioLike, words: QuestionOptions, gpus: Sequence[str]) -> Asked:
    """The question; where words ask it, of the first GPU that may be chosen unless they name one."""
    if gpus and scenario is None:
        words.setdefault("gpu", gpus[0])
        words.setdefault("tp", 1)
    return ask(scenario, **words)


def _one(number: int | None) -> tuple[int, ...]:
    return () if number is None else (number,)

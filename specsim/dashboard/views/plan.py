"""Fewest GPUs and lowest cost that meet the SLO at the load, and what a GPU serves against what a user sees."""

from __future__ import annotations

import streamlit as st

from specsim.assembly import assemble
from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw as draw_blocks
from specsim.dashboard.blocks import draw_sheet
from specsim.dashboard.drawing import basis, fail, plain, show
from specsim.dashboard.inputs.words import Words
from specsim.dashboard.running import run_on_demand
from specsim.errors import NoAnswer, SpecsimError
from specsim.interop.gpu_prices import price_of
from specsim.planning.pareto import replica_offers
from specsim.planning.plan.answer import PlanAnswer, plan_answer
from specsim.planning.plan.choose import slo_of
from specsim.planning.plan.load import own_load
from specsim.planning.plan.named import Named
from specsim.planning.sweep.frontier import Offer, throughput
from specsim.progress import TimedProgress
from specsim.report.document.answers import PartAnswer
from specsim.report.document.blocks import as_sentence
from specsim.report.document.fleet import fleet
from specsim.report.frontier import frontier_figure, frontier_tables, gain_line
from specsim.report.plan import what_if_table
from specsim.report.sheet import Sheet
from specsim.scenario import Asked


def draw(answered: Answered) -> None:
    """The fleet by simulation, then the frontier of single replicas by formula."""
    st.subheader("Fewest GPUs that meet the SLO")
    _fleet(answered)
    st.subheader("What a GPU serves against what a user sees")
    _frontier(answered)


def _frontier(answered: Answered) -> None:
    side = answered.side
    made = run_on_demand(
        f"offers {answered.key} {answered.words.gpus}",
        "Draw the frontier",
        "Prices one replica at every batch size, draft length and tensor parallelism, by formula.",
        lambda told: _offers(answered.words, told),
        side,
    )
    if made is None:
        return
    offers, prices = made
    gain = gain_line(offers)
    if gain is not None:
        st.markdown(plain(as_sentence(gain)))
    figure = frontier_figure(offers, throughput, "output tokens/s/GPU")
    show(figure, f"pareto {side}", "output tokens/s/GPU against output tokens/s a user")
    _, *acceptance = basis(answered)
    st.caption(plain(" ".join([FRONTIER, f"Prices: {', '.join(prices)}.", *acceptance])))
    with st.expander("Data"):
        for table in frontier_tables(offers):
            draw_sheet(Sheet.of(table))


def _fleet(answered: Answered) -> None:
    words, asked = answered.words, answered.asked
    try:
        slo_of(asked.scenario)
        own_load(asked.scenario)
    except SpecsimError as error:
        fail(error)
        return
    found = run_on_demand(
        f"plan {answered.key} {words.gpus} {words.price}",
        "Plan it",
        "Tries tensor parallelism, draft lengths and numbers of replicas of each GPU type, confirmed by simulation; "
        "then what if load, lengths and acceptance are a fifth off. Takes a minute or more.",
        lambda told: _planned(asked, words, told),
        answered.side,
    )
    if found is None:
        return
    draw_blocks(fleet(PartAnswer(found)).blocks, f"plan {answered.side}")
    if found.asides.what_ifs:
        draw_sheet(Sheet.of(what_if_table(found.plan.best, found.asides.what_ifs)))


def _planned(asked: Asked, words: Words, told: TimedProgress) -> PlanAnswer:
    usd = dict(map(price_of, words.price))
    named = Named(gpus=words.gpus, usd=usd)
    return plan_answer(asked, named, progress=lambda what: lambda done, count: told(done, count, what))


FRONTIER = (
    "To the right users see faster answers, upwards a GPU serves more; lines join what nothing beats in both, and are "
    "named where k or tensor parallelism (TP) changes. Single replicas by formula, without an interval."
)


def _offers(words: Words, told: TimedProgress) -> tuple[list[Offer], list[str]]:
    """What replicas of each GPU type offer, and by which prices."""
    found, prices = list[Offer](), list[str]()
    gpus = words.gpus or (words.options.gpu,)
    for number, gpu in enumerate(gpus):
        told(number, len(gpus), f"replicas of {gpu or 'the GPU'}")
        scenario = words.but(gpu=gpu, tensor_parallel=None).ask().scenario
        try:
            found += replica_offers(scenario)
            prices.append(assemble(scenario).price_name)
        except NoAnswer:
            if len(gpus) == 1:
                raise
    return found, prices

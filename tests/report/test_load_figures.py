"""Up to which load an SLO holds, and figures that are told apart without colour."""

from __future__ import annotations

from specsim.planning.load_curve import LoadPoint
from specsim.planning.plan.load import Load
from specsim.planning.sweep.frontier import Offer, throughput
from specsim.report.frontier import frontier_figure
from specsim.report.load_figures import holding, holding_line, latency_figure, own_line
from specsim.results import Slo

SLO = Slo.model_validate({"tpot_s": {"p95": 0.040}})
RATES = (1.0, 2.0, 4.0, 8.0)


def curve(**tpots_ms: tuple[float, ...]) -> list[LoadPoint]:
    """A point for each rate; each alternative's TPOT there."""
    steady = {"saturated": False, "truncated": False, "goodput_share": 1.0}
    others = {f"p{p}_{latency}_ms": 1.0 for p in (50, 95, 99) for latency in ("ttft", "tpot", "e2el")}
    return [
        LoadPoint(Load(rate), {name: steady | others | {"p95_tpot_ms": each[at]} for name, each in tpots_ms.items()})
        for at, rate in enumerate(RATES)
    ]


def test_a_limit_holds_up_to_the_last_load_before_the_first_miss() -> None:
    points = curve(off=(10, 41, 39, 50), on=(10, 20, 30, 40))
    assert holding(points, SLO) == {"off": 1, "on": 4}  # what is met again beyond a miss does not count
    assert holding_line(points, SLO) == "SLO met: off up to 1 requests/s; on up to 8 requests/s, the most simulated"
    assert "off at none of the loads" in holding_line(curve(off=(50, 1, 1, 1)), SLO)


def test_a_growing_queue_holds_no_limit() -> None:
    points = curve(off=(1, 1, 1, 1))
    grown = [LoadPoint(one.load, {"off": {**one.runs["off"], "saturated": one.level > 2}}) for one in points]
    assert holding(grown, SLO) == {"off": 2}
    assert "TPOT off queue grows" in own_line(grown[3])


def test_sides_differ_in_more_than_colour() -> None:
    points = curve(off=(1, 2, 3, 4), on=(1, 2, 3, 4))
    marks = {trace.name: trace.marker.symbol for trace in latency_figure(points, points[2], SLO, "tpot").data}
    assert marks["off p95"] != marks["on p95"]
    offers = [
        Offer(
            key=f"{k} {batch}",
            drafter="eagle3" if k else "off",
            draft_tokens=k,
            gpu="H200",
            gpus=1,
            tensor_parallel=1,
            replicas=1,
            batch=batch,
            per_gpu=batch * 10.0,
            per_user=100.0 / batch,
            usd=None,
        )
        for k in (0, 3)
        for batch in (1, 2)
    ]
    lines = {one.name: one for one in frontier_figure(offers, throughput, "output tokens/s/GPU").data}
    off, on = lines["off, frontier"], lines["speculation on, frontier"]
    assert off.line.dash != on.line.dash
    assert off.marker.symbol != on.marker.symbol
    assert [text for text in on.text if text] == ["k=3 TP1"]
    # No label leaves the figure at its ends, where frontiers begin at the edge.
    for line, side in ((off, "bottom"), (on, "top")):
        assert line.x[0] == min(line.x)
        assert (line.textposition[0], line.textposition[-1]) == ("top right", f"{side} left")
        assert line.cliponaxis is False

"""Every view: what it draws, what it says of where that is from, and what it says where it has nothing to draw."""

from __future__ import annotations

import pytest

from tests.dashboard.pages import answered, cards, frames, opened, pressed, text

LOADED = {"model": "qwen3-8b", "gpu": "h100-sxm", "drafter": "eagle3", "rate": "4", "tpot_p95": "20ms", "usd": "2.5"}


@pytest.mark.parametrize(
    ("view", "figures"), [("Map", 1), ("Anatomy", 2), ("Acceptance", 2), ("Memory", 1), ("Evidence", 1)]
)
def test_a_view_draws_and_says_what_it_rests_on(view: str, figures: int) -> None:
    app = opened(view=view, **LOADED)
    answered(app)
    assert len(app.get("plotly_chart")) == figures
    assert frames(app)
    told = text(app)
    origins = {"Memory": "no interval", "Evidence": "never on test rows", "Acceptance": "one standard deviation"}
    assert origins.get(view, "90 % interval") in told
    if view in ("Map", "Anatomy"):
        assert "Prices: profile nvidia-h100" in told
        assert "Acceptance: " in told


def test_the_map_tells_other_measures() -> None:
    app = opened(view="Map", **LOADED)
    shown = {}
    for measure in ("Speed-up", "TPOT", "Output tokens/s/GPU", "Cost"):
        app.get("button_group")[1].set_value(measure).run()
        answered(app)
        shown[measure] = app.get("plotly_chart")[0].proto.spec
    assert len(set(shown.values())) == 4


def test_no_drafter_still_answers() -> None:
    for view in ("Verdict", "Map", "Anatomy", "Acceptance", "Memory"):
        app = opened(view=view, **LOADED | {"drafter": "off"})
        answered(app)
    assert "NO DRAFTER" in cards(opened(**LOADED | {"drafter": "off"}))[0]
    told = opened(view="Acceptance", **LOADED | {"drafter": "off"}).info[0].value
    assert "Nothing is drafted" in told


def test_whole_steps_tell_no_kernels() -> None:
    app = opened(view="Anatomy", **LOADED | {"set": "cost.source=steps"})
    assert not app.exception
    assert "steps" in app.error[0].value


@pytest.mark.slow
def test_the_slo_is_answered_by_simulation() -> None:
    app = opened(**LOADED)
    assert len(cards(app)) == 1
    pressed(app, "Simulate this load")
    answered(app)
    _, off, on = cards(app)
    assert "speculation off: SLO" in off
    assert "speculation on: SLO met" in on
    assert "TPOT p95" in on
    app.text_input(key="tpot-p95").set_value("1ms").run()
    assert len(cards(app)) == 1  # another question: its answer is not that one's
    pressed(app, "Simulate this load")
    assert "SLO missed" in cards(app)[2]


def test_a_study_is_predicted_row_by_row() -> None:
    app = opened(view="Evidence", **LOADED)
    app.selectbox(key="evidence study").set_value("a100-kv-tokens").run()
    pressed(app, "Predict its rows")
    answered(app)
    assert len(app.get("plotly_chart")) == 2
    assert any("a100-kv-tokens" in str(frame.values) for frame in frames(app))


def test_a_roofline_is_called_one() -> None:
    assert "datasheet roofline, nothing measured" in text(opened(view="Map", **LOADED | {"prices": "roofline"}))

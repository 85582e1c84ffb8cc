"""The what-if page, driven as a browser would: what it asks, what it answers, and how it fails."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the page needs the app extra")

from streamlit.testing.v1 import AppTest

from specsim.analytic.load import answered_map
from specsim.assembly import assemble
from specsim.cli.main import main
from specsim.report.verdict import verdict
from specsim.scenario import load_scenario

APP = Path(__file__).parents[2] / "streamlit_app.py"


def opened(**parameters: str) -> AppTest:
    """The page as a link with these URL parameters opens it."""
    app = AppTest.from_file(APP, default_timeout=120)  # of wall time: the machine may be busy
    for key, value in parameters.items():
        app.query_params[key] = value
    return app.run()


def shown(app: AppTest) -> str:
    """The verdict card's text."""
    card = next(block.proto.body for block in app.get("html") if 'class="verdict"' in block.proto.body)
    return unescape(card.replace("&nbsp;", " "))


def refusal(app: AppTest) -> str:
    """The one line of a page that answers nothing: no traceback, no figure."""
    assert not app.exception
    assert not app.get("plotly_chart")
    (error,) = app.error
    assert "\n" not in error.value
    return error.value


def scenario_file(app: AppTest, folder: Path) -> Path:
    """The scenario that the page offers, written down."""
    path = folder / "scenario.yaml"
    path.write_text(next(code.value for code in app.code if code.value.startswith("schema:")), encoding="utf-8")
    return path


def test_first_view_answers() -> None:
    app = opened()
    assert not app.exception
    assert not app.error
    assert "ON at batch 8" in shown(app)
    assert "90 % interval" in shown(app)
    assert "Break-even batch" in shown(app)
    assert len(app.get("plotly_chart")) == 2


def test_without_acceptance_drafting_is_off() -> None:
    app = opened(acceptance="constant")
    app.slider(key="rate").set_value(0.0).run()
    assert "OFF at batch 8" in shown(app)
    assert "Break-even batch: none" in shown(app)


def test_higher_acceptance_asks_for_longer_drafts() -> None:
    lengths = []
    for rate in ("0.5", "0.7", "0.9"):
        text = shown(opened(acceptance="constant", rate=rate, drafter="ngram"))
        lengths.append(int(text.split("draft ")[1].split(" token")[0]))
    assert lengths == sorted(lengths)


def test_a_model_too_large_is_one_line() -> None:
    message = refusal(opened(model="deepseek-v3", gpu="l40s", drafter="ngram"))
    assert "does not fit L40S" in message


def test_bad_lists_are_one_line() -> None:
    words = opened(acceptance="conditional", rates="high, low")
    assert "'high, low' are not a list of numbers" in refusal(words)
    short = opened(acceptance="conditional", rates="0.8 0.7", k="4")
    assert "2 conditional rates and 4 tokens are drafted" in refusal(short)
    above = opened(acceptance="conditional", rates="0.8 1.7", k="2")
    assert "1.7" in refusal(above)


def test_more_sequences_than_the_engine_runs_is_one_line() -> None:
    assert "max_num_seqs 64" in refusal(opened(batch="65", max_num_seqs="64"))


def test_a_target_without_a_smaller_relative_is_one_line() -> None:
    assert "choose another drafter" in refusal(opened(model="kimi-k2"))


@pytest.mark.parametrize("drafter", ["eagle3", "medusa-1", "kangaroo", "lookahead", "eagle3-tree"])
def test_a_technique_answers_with_the_acceptance_it_states(drafter: str, tmp_path: Path) -> None:
    app = opened(drafter=drafter)
    assert not app.exception
    assert not app.error
    assert any(caption.value.startswith(("Cited", "Assumed", "Measured")) for caption in app.caption)
    speculation = load_scenario(str(scenario_file(app, tmp_path))).speculation
    assert speculation is not None
    assert speculation.program.acceptance is not None
    assert speculation.acceptance == speculation.program.acceptance.law


def test_a_chain_is_no_longer_than_its_rates() -> None:
    app = opened(drafter="mtp")
    assert app.slider(key="k").max == 2  # rates of two positions are published
    app.selectbox(key="acceptance").set_value("constant").run()
    assert app.slider(key="k").max == 16


def test_ngram_asks_for_no_draft_model() -> None:
    app = opened()
    assert "draft" in {box.key for box in app.selectbox}
    app.selectbox(key="drafter").set_value("ngram").run()
    assert not app.exception
    assert "draft" not in {box.key for box in app.selectbox}


def test_the_draft_model_follows_the_target() -> None:
    app = opened()
    app.selectbox(key="model").set_value("qwen3-8b").run()
    assert not app.error
    assert app.selectbox(key="draft").value == "qwen3-0.6b"


def test_a_link_carries_the_question(tmp_path: Path) -> None:
    app = opened(model="qwen3-8b", gpu="h100-sxm", k="5", acceptance="power_law", c="0.8", batch="24", kv_bits="8")
    assert "at batch 24" in shown(app)
    scenario = load_scenario(str(scenario_file(app, tmp_path)))
    assert scenario.model.name == "Qwen3-8B"
    assert scenario.speculation is not None
    assert scenario.speculation.max_draft_tokens == 5
    assert scenario.speculation.acceptance.model_dump()["c"] == 0.8
    assert scenario.deployment.kv_bits == 8


def test_a_cache_too_small_for_the_batch_is_said() -> None:
    assert "256 closed-loop clients, and the KV cache holds" in shown(opened(batch="256", prompt="100000"))
    assert "Batch 4: the closed loop's clients" in shown(opened(batch="4", prompt="100000"))


@pytest.mark.parametrize("batch", ["8", "24"])
def test_the_command_repeats_the_answer(batch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = opened(batch=batch)
    path = scenario_file(app, tmp_path)
    line = next(code.value for code in app.code if code.value.startswith("specsim predict")).split()
    assert main([*line[1:2], str(path), *line[3:], "--json"]) == 0
    grid = json.loads(capsys.readouterr().out)["grid"]
    frame = app.dataframe[0].value
    assert frame["speedup"].tolist() == pytest.approx([cell["speedup"] for cell in grid], rel=1e-12)
    answer = verdict(*answered_map(assemble(load_scenario(str(path))), batches=[int(batch)]))
    assert answer.batch == int(batch)
    assert answer.sentence in shown(app)

"""What the page asks, what it answers, and how it fails."""

from __future__ import annotations

import pytest

from tests.dashboard.pages import answered, cards, command, link, opened, refusal, text


def test_a_bare_address_answers_an_example() -> None:
    app = opened()
    answered(app)
    (card,) = cards(app)
    assert "ON at batch 8" in card
    assert "90 % interval" in card
    assert "Break-even batch" in card
    assert link(app)["model"] == "llama-3.1-8b"


def test_without_acceptance_drafting_is_off() -> None:
    app = opened(acceptance="0")
    assert "OFF at batch 8" in cards(app)[0]
    assert "Break-even batch: none" in cards(app)[0]


def test_higher_acceptance_asks_for_longer_drafts() -> None:
    app = opened(drafter="ngram", draft_tokens="8", acceptance="0.5")
    lengths = []
    for rate in ("0.5", "0.7", "0.9"):
        app.text_input(key="acceptance").set_value(rate).run()
        lengths.append(int(cards(app)[0].split("draft ")[1].split(" token")[0]))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"model": "deepseek-v3", "gpu": "l40s", "drafter": "ngram", "tp": "1"}, "not fit L40S"),
        ({"acceptance": "high, low"}, "no rate from 0 to 1"),
        ({"acceptance": "0.8 1.7"}, "no rate from 0 to 1"),
        ({"acceptance": "0.8 0.7", "draft_tokens": "4"}, "2 unconditional rates"),
        ({"batch": "65", "max_num_seqs": "64"}, "max_num_seqs, 64"),
        ({"model": "kimi-k2", "gpu": "b200", "drafter": "draft-model"}, "needs a draft_model"),
        ({"rate": "4", "concurrency": "8"}, "--rate and --concurrency both"),
        ({"tpot_p95": "soon"}, "is no time"),
        ({"tpot_p95": "40"}, "write 40ms for milliseconds"),
        ({"version": "0.24"}, "choose the engine too"),
        ({"engine": "vllm", "version": "old"}, "old"),
        ({"set": "nothing"}, "is not path.to.field=value"),
        ({"set": "engine.speed=9"}, "engine.speed"),
        ({"draft_tokens": "4", "drafter": "off"}, "no drafter drafts"),
        ({"base": "[1]"}, "write name: value"),
    ],
)
def test_what_cannot_be_asked_is_one_line(asked: dict[str, str], told: str) -> None:
    assert told in refusal(opened(**asked))


def test_the_page_goes_on_after_an_error() -> None:
    app = opened(acceptance="high")
    refusal(app)
    app.text_input(key="acceptance").set_value("0.7").run()
    answered(app)


def test_a_technique_answers_with_the_acceptance_it_states() -> None:
    app = opened(model="qwen3-8b")
    for drafter in ("medusa-1", "kangaroo", "lookahead", "eagle3-tree", "qwen3-0.6b"):
        app.selectbox(key="drafter").set_value(drafter).run()
        answered(app)
        lines = text(app)
        assert "Acceptance:" in lines
        assert any(origin in lines for origin in ("cited", "assumed", "measured"))


def test_an_example_replaces_the_question() -> None:
    app = opened(rate="2", acceptance="0.6", kv_bits="8")
    app.selectbox(key="example").set_value("Llama-3.3-70B on 4 H100, EAGLE-3, chat").run()
    answered(app)
    words = command(app)
    assert words[: words.index("--rate")] == [
        "predict",
        "--model",
        "llama-3.3-70b",
        "--gpu",
        "h100-sxm",
        "--tp",
        "4",
        "--drafter",
        "eagle3",
    ]
    assert not any("kv_bits" in word or "acceptance" in word for word in words)


def test_traffic_keeps_the_rest_of_the_question() -> None:
    app = opened(model="qwen3-8b", rate="2")
    app.selectbox(key="traffic").set_value("Summaries (4096 in, 512 out)").run()
    answered(app)
    words = command(app)
    assert words[words.index("--prompt") : words.index("--prompt") + 4] == ["--prompt", "4096", "--output", "512"]
    assert "qwen3-8b" in words


def test_a_cache_too_small_for_the_batch_is_said() -> None:
    card = cards(opened(concurrency="256", prompt="100000", max_num_seqs="512"))[0]
    assert "256 closed-loop clients, and the KV cache holds" in card


def test_two_scenarios_stand_side_by_side() -> None:
    app = opened(model="qwen3-8b", gpu="h100-sxm", two="True", b_drafter="ngram", b_rate="3")
    answered(app)
    first, second = cards(app)
    assert "clients" in first
    assert "the mean at 3 requests/s" in second
    heads = [caption.value for caption in app.caption if caption.value.startswith("Scenario ")]
    assert [head.rpartition(" ")[2] for head in heads] == ["eagle3", "ngram"]
    assert link(app)["b-drafter"] == "ngram"


def test_an_error_of_one_scenario_leaves_the_other() -> None:
    app = opened(two="True", b_model="deepseek-v3", b_tp="1", b_drafter="ngram")
    assert len(cards(app)) == 1
    (error,) = app.error
    assert "fit" in error.value

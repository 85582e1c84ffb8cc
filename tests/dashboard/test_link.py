"""Links carry the whole question both ways, and what of one cannot be taken is said."""

from __future__ import annotations

import pytest

from tests.dashboard.pages import answered, cards, command, opened, refusal
from tests.dashboard.pages import link as address


def test_every_input_goes_into_the_link_and_comes_back() -> None:
    said = {
        "model": "qwen3-8b", "gpu": "l40s", "tp": "2", "replicas": "2", "drafter": "eagle3", "draft_tokens": "3",
        "acceptance": "0.7, 0.5, 0.4", "rate": "1.5", "prompt": "2048", "output": "128", "ttft_p95": "1",
        "tpot_p95": "60ms", "e2e_p95": "20", "engine": "vllm", "version": "0.24", "weights": "fp8", "kv_bits": "8",
        "max_num_seqs": "64", "prices": "roofline", "usd": "1.25", "batch": "4", "seed": "7", "view": "Map",
        "set": "workload.requests=200\nengine.max_num_batched_tokens=4096",
    }  # fmt: skip
    first = opened(**said)
    answered(first)
    link = address(first)
    assert link == {key.replace("_", "-"): value for key, value in said.items()}
    second = opened(**link)
    answered(second)
    assert command(second) == command(first)
    assert "deployment.replicas=2" in command(first)


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ({"gpu": "h1000"}, "did you mean"),
        ({"model": "gpt-9"}, "unknown Model"),
        ({"drafter": "../../etc/passwd"}, "unknown Drafter"),
        ({"draft_tokens": "many"}, "no whole number"),
        ({"draft_tokens": "-1"}, "no whole number from 1"),
        ({"rate": "nan"}, "no number"),
        ({"rate": "1e99"}, "no number"),
        ({"view": "Secrets"}, "unknown View"),
        ({"colour": "red"}, "unknown part of a link"),
        ({"b_gpu": "abacus"}, "unknown GPU"),
        ({"two": "maybe"}, "True or left out"),
    ],
)
def test_an_unknown_value_is_said_and_not_replaced(link: dict[str, str], told: str) -> None:
    (key,) = link
    app = opened(**link)
    assert told in refusal(app)
    assert address(app)[key.replace("_", "-")] == link[key]  # it stays until the user has answered


def test_the_user_answers_what_the_link_said_wrongly() -> None:
    app = opened(gpu="h1000")
    refusal(app)
    app.selectbox(key="gpu").set_value("h200").run()
    answered(app)
    assert address(app)["gpu"] == "h200"


def test_the_user_goes_on_without_it() -> None:
    app = opened(colour="red")
    refusal(app)
    next(button for button in app.button if button.label == "Go on without it").click().run()
    answered(app)
    assert "ON at batch" in cards(app)[0]

"""A scenario's program and policy decode for real, nothing imposed: the text is that of plain greedy decoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from specsim.assembly import assemble  # noqa: E402
from specsim.reference.decoding.choice import drafter_of  # noqa: E402
from specsim.reference.decoding.engine import Engine  # noqa: E402
from specsim.reference.decoding.generate import generate  # noqa: E402
from specsim.reference.drafters import Drafter, DynamicExit, SkippedLayers  # noqa: E402
from specsim.reference.drafters.own_weights import RandomWeights  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.reference.timing.grid import measure_grid  # noqa: E402
from specsim.results import AcceptanceCounts  # noqa: E402
from specsim.scenario import Scenario  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.program import load_program  # noqa: E402

pytestmark = pytest.mark.torch

TARGET: dict[str, Any] = {
    "name": "target", "source": "test", "num_layers": 10, "hidden_size": 32, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 8, "intermediate_size": 48, "vocab_size": 11, "weight_bits": 32,
}  # fmt: skip
CPU = {
    "name": "a-cpu",
    "source": "test",
    "kind": "cpu",
    "memory_bytes": 8e9,
    "bandwidth_bytes_per_s": 2e10,
    "flops_per_s": {"float32": 1e11},
    "last_level_cache_bytes": 32_000_000,
}
STOP = {"kind": "confidence", "threshold": 0.15}
CASES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "dynamic exit": ("del", None),
    "skipped sublayers, stop": ("swift", STOP),
    "fixed tree": ("specinfer", None),
    "feature head": ("eagle", None),
    "dynamic tree": ("eagle2", None),
    "lookahead window": ("lookahead", None),
    "token graph": ("gsd", None),
}
OUTPUT_TOKENS = (9, 24, 40)


def question(program: str, policy: dict[str, Any] | None) -> Scenario:
    asked: dict[str, Any] = {"program": program}
    if policy is not None:
        asked["policy"] = policy
    if load_program(program).needs_draft_model:
        asked["draft_model"] = TARGET | {"name": "draft", "num_layers": 1}
    return Scenario.model_validate(
        {
            "schema": 1,
            "name": "real",
            "model": TARGET,
            "gpu": CPU,
            "deployment": {"kv_bits": 32},
            "engine": {"max_num_seqs": 3, "max_num_batched_tokens": 256, "num_kv_blocks": 60, "block_size": 16},
            "speculation": asked,
            "seed": 3,
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "closed_loop", "concurrency": 2},
                "requests": 4,
                "lengths": {"kind": "fixed", "prompt_tokens": 12, "output_tokens": 16},
            },
        }
    )


def build(noise: float = 0.0) -> Transformer:
    return Transformer(
        ModelSpec.model_validate(TARGET),
        device="cpu",
        dtype=torch.float64,
        max_sequences=3,
        max_length=200,
        seed=5,
        noise=noise,
    )


def decode(scenario: Scenario | None) -> tuple[list[list[int]], AcceptanceCounts, Drafter | None]:
    target, drafter, decider, most = build(), None, None, 0
    if scenario is not None and scenario.speculation is not None:
        make, most = drafter_of(scenario.speculation), scenario.speculation.max_draft_tokens
        assert make is not None
        drafter, decider = make(target, build(0.3), RandomWeights(1)), assemble(scenario).decider()
    generator = np.random.default_rng(2)
    prompts = [generator.integers(0, TARGET["vocab_size"], length) for length in (3, 8, 20)]
    outputs, counts = generate(Engine(target, drafter), prompts, OUTPUT_TOKENS, draft_tokens=most, decider=decider)
    return [output.tolist() for output in outputs], counts, drafter


@pytest.fixture(scope="module")
def plain() -> list[list[int]]:
    return decode(None)[0]


@pytest.mark.parametrize("case", CASES)
def test_a_program_leaves_the_text_alone(case: str, plain: list[list[int]]) -> None:
    outputs, counts, _ = decode(question(*CASES[case]))
    assert outputs == plain
    assert 0 < counts.accepted() < counts.drafted()


def test_a_dynamic_exit_of_a_program_chooses_by_what_it_sees() -> None:
    drafter = decode(question("del", None))[2]
    assert isinstance(drafter, DynamicExit)
    assert drafter.exits == tuple(range(1, 9))
    assert drafter.rates.std() > 0


def test_a_stop_of_a_program_shortens_drafts() -> None:
    """And a threshold of almost nothing does not."""
    stopped = decode(question("swift", STOP))[1]
    never = decode(question("swift", STOP | {"threshold": 1e-6}))[1]
    assert set(never.rounds) <= {0, 25}
    assert 0 < stopped.drafted() < never.drafted()


@pytest.mark.parametrize(("threshold", "extended"), [(0.1, True), (0.99, False)])
def test_a_map_is_measured_under_its_stop(threshold: float, extended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imposed confidences are 0.98 and 0.4: above both no second draft pass runs, below both one always does."""
    widths = []
    extend = SkippedLayers.extend
    monkeypatch.setattr(SkippedLayers, "extend", lambda self, *rest: widths.append(1) or extend(self, *rest))
    scenario = question("swift", STOP | {"threshold": threshold})
    rows = list(measure_grid(assemble(scenario), batches=[2], draft_lengths=[4], repeats=1, seconds_per_cell=0.0))
    assert len(rows) == 1
    assert bool(widths) == extended

"""The real engines on the trained small pair: SPECSIM_VLLM names the virtual environment that has vLLM (it brings
transformers). Minutes, most of them vLLM's start; without the variable nothing runs.

    SPECSIM_VLLM=.venv-vllm pytest -n 0 -m full tests/engines/test_real_engines.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from specsim.cases import own_drafter
from specsim.cli.engine_map import measure_engine_map
from specsim.cli.measure_engine import RealEngine
from specsim.cli.validate_engine import validate_on_engine
from specsim.engines import VLLM, Arms, Checkpoints, engine_python
from specsim.fidelity import read_grid
from specsim.fidelity.acceptance_file import read_acceptances
from specsim.results import pooled
from specsim.scenario import Scenario, load_scenario

MODELS = Path(__file__).parents[2] / "validation" / "models"
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif("SPECSIM_VLLM" not in os.environ, reason="set SPECSIM_VLLM to a virtual environment with vLLM"),
]
SOURCE = "def {0}(self, value: int) -> int:\n    if value < self.{0}_limit:\n        return self.{0}(value + 1)\n"


@pytest.fixture
def vllm() -> Path:
    return Path(os.environ["SPECSIM_VLLM"])


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Scenario]:
    pytest.importorskip("tokenizers", reason="prompts are read by the tokenizers package")
    texts = [SOURCE.format(name) * 6 for name in ("count", "parse", "read", "close", "merge", "find", "send", "split")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    (tmp_path / "question.yaml").write_text(
        f"""
schema: 1
name: small
model: {MODELS}/target
gpu: cpu-generic
engine: {{kind: vllm, max_num_seqs: 2, max_num_batched_tokens: 2048, num_kv_blocks: 128, block_size: 32}}
speculation: {{program: draft-model, draft_model: {MODELS}/draft, max_draft_tokens: 2,
  acceptance: {{kind: constant, rate: 0.6}}}}
weights: {{target: {MODELS}/target, drafter: {MODELS}/draft, prompts: {tmp_path}/prompts.jsonl}}
workload: {{kind: synthetic, requests: 8, arrivals: {{kind: closed_loop, concurrency: 2}},
  lengths: {{kind: fixed, prompt_tokens: 48, output_tokens: 24}}}}
"""
    )
    return lambda *settings: load_scenario(str(tmp_path / "question.yaml"), settings)


def test_the_loop_closes_on_vllm(
    vllm: Path, ask: Callable[..., Scenario], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Profiled, predicted, measured and compared: what a cell committed is what its rounds accepted and one each."""
    real, out = RealEngine("vllm", vllm, None, None, None), tmp_path / "out"
    validate_on_engine(ask(), real, out, minutes=2, draft_lengths=(), as_json=True)
    case = json.loads(capsys.readouterr().out)["cases"]["out"]
    speedups = case["drafters"]["draft-model"]["speedups"]
    assert [(one["batch"], one["draft_tokens"]) for one in speedups] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    rows, records = read_grid(out / "measured.csv")["draft-model"], read_acceptances(out / "acceptance.csv")
    assert len(rows) == len(records) == 2 * 2 * 3
    for row in rows:
        counts = records["draft-model", row.repeat, row.batch, row.draft_tokens]
        assert row.output_tokens == counts.accepted() + row.rounds * row.batch
        assert set(counts.rounds) <= set(range(row.draft_tokens + 1))
        assert row.round_s > 0
    drafted = [counts for (*_, k), counts in records.items() if k == 2]
    assert pooled(drafted).accepted() > 0  # a trained draft model is right now and then
    stamp = (out / "measured.csv").read_text()
    validate_on_engine(ask(), real, out, minutes=2, draft_lengths=(), as_json=True)
    assert (out / "measured.csv").read_text() == stamp


def test_two_engines_accept_alike(vllm: Path, ask: Callable[..., Scenario], tmp_path: Path) -> None:
    """The same models, prompts and greedy rounds at batch 1: bfloat16 rounds a few logits elsewhere."""
    rates = {}
    for kind in ("vllm", "transformers"):
        scenario = ask("engine.max_num_seqs=1")
        out = tmp_path / kind / "map.csv"
        measure_engine_map(own_drafter(scenario), RealEngine(kind, vllm, None, None, None), out, 2)
        records = read_acceptances(out.with_name("acceptance.csv"))
        rates[kind] = pooled([counts for (*_, k), counts in records.items() if k == 2]).acceptance_rate()
    assert rates["vllm"] == pytest.approx(rates["transformers"], abs=0.1)


def test_a_server_counts_what_it_served(vllm: Path, ask: Callable[..., Scenario], tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="the load needs aiohttp")
    scenario = ask()
    folders = Checkpoints.of(scenario, None, None)
    with Arms(VLLM(), engine_python(vllm), tmp_path, ready_s=300) as arms:
        found = arms.serve(scenario, folders)
    assert found.num_kv_blocks == 128
    assert [request.output_tokens for request in found.requests] == [24] * 8
    assert found.acceptance.drafting_rounds() * 2 >= found.acceptance.accepted() > 0

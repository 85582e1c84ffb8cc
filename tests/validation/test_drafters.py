"""Stored drafters in the reference engine accept what the networks that trained them say, round by round."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from torch import nn  # noqa: E402

from specsim.reference.decoding.engine import Engine  # noqa: E402
from specsim.reference.decoding.generate import generate, run_step  # noqa: E402
from specsim.reference.decoding.models import load_transformer  # noqa: E402
from specsim.reference.drafters import Drafter, DraftModel, Eagle, EarlyExit, Medusa  # noqa: E402
from specsim.reference.drafters.drafter_weights import stored_adapter, stored_feature_head, stored_heads  # noqa: E402
from specsim.reference.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.scheduling.scheduler import Scheduler, SequenceState  # noqa: E402
from specsim.specs.engine import EngineLimits  # noqa: E402
from specsim.speculation.policy.deciders import ByBatch  # noqa: E402

pytestmark = pytest.mark.torch

FOLDER = Path(__file__).parents[2] / "validation" / "models"
PROMPT, OUTPUT, CAP = 6, 24, 3


def script(name: str) -> Any:
    """A module of the folder, whose files import each other by plain names."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Random networks of five tokens, whose guesses are often right by chance, and the folders they are stored in."""
    checkpoint, network = script("checkpoint"), script("network")
    shape = network.Shape(
        5, hidden_size=16, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=24, head_dim=4
    )
    draft = network.Shape(5, hidden_size=8, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=8, head_dim=4)
    torch.manual_seed(0)
    trained = checkpoint.build(shape, draft, heads=CAP, exit_layer=2)
    folder = tmp_path_factory.mktemp("models")
    for name, net in trained.networks().items():
        for weight in net.parameters():
            nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.4)
        net.double().requires_grad_(requires_grad=False)
        write_checkpoint(Checkpoint(checkpoint.configs(trained)[name], net.state_dict()), folder / name)
    return trained, folder


def load(folder: Path) -> Transformer:
    return load_transformer(read_checkpoint(folder), device="cpu", dtype=torch.float64, max_sequences=3, max_length=48)


MAKE: dict[str, Callable[[Transformer, Path], Drafter]] = {
    "draft": lambda target, folder: DraftModel(load(folder / "draft")),
    "medusa": lambda target, folder: Medusa(target, stored_heads(read_checkpoint(folder / "medusa"), target)),
    "exit": lambda target, folder: EarlyExit(target, 2, stored_adapter(read_checkpoint(folder / "exit"), target)),
    "eagle": lambda target, folder: Eagle(target, stored_feature_head(read_checkpoint(folder / "eagle"), target)),
}


@pytest.mark.parametrize("name", MAKE)
def test_rounds_accept_what_the_networks_say(name: str, stored: tuple[Any, Path]) -> None:
    """Runs that no engine computed, from one pass over the finished text; every round must equal its position's."""
    trained, folder = stored
    prompts = list(np.random.default_rng(1).integers(0, 5, (3, PROMPT)))
    plain, _ = generate(Engine(load(folder / "target")), prompts, [OUTPUT + CAP] * 3)
    texts = torch.from_numpy(np.stack([np.concatenate(pair) for pair in zip(prompts, plain, strict=True)]))
    runs = script("acceptance").all_runs(trained, texts, PROMPT, CAP)[name].numpy()
    target = load(folder / "target")
    engine = Engine(target, MAKE[name](target, folder))
    scheduler = Scheduler(EngineLimits(max_num_seqs=3, max_num_batched_tokens=64), 60, max_draft_tokens=CAP)
    for number, prompt in enumerate(prompts):
        scheduler.add(SequenceState(number, PROMPT, OUTPUT))
        engine.add(number, prompt)
    found, expected = [], []
    while scheduler.has_work:
        before = {s.request_id: s.emitted_tokens for s in scheduler.running}
        outcome = run_step(engine, scheduler, ByBatch([CAP]))
        for share, accepted in zip(outcome.step.scheduled, outcome.accepted, strict=True):
            number = share.sequence.request_id
            if share.drafts and number in before:
                found.append(accepted)
                expected.append(int(runs[number, before[number]]))
    assert found == expected
    assert len(set(found)) > 1

"""The founding study on its own set-up: what its abstract claims, and that the page is what its command writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from specsim.assembly import assemble
from specsim.specs.catalog import load_hardware, load_model

FOLDER = Path(__file__).parents[2] / "validation" / "studies" / "founding-study"
sys.path.insert(0, str(FOLDER))

import founding_page as page_module  # noqa: E402
import founding_study as study  # noqa: E402
from founding_model import best_lengths, price_rounds, speedups, tokens_per_round  # noqa: E402

sys.path.remove(str(FOLDER))

NO_HOST, ENGINE = study.HOSTS[0], study.HOSTS[1]
GRID = [(c, gamma) for c in study.CS for gamma in study.GAMMAS]


@pytest.mark.parametrize(("target", "draft"), study.TARGETS)
@pytest.mark.parametrize("gpu", ["rtx-3090", "rtx-4090"])
def test_the_best_length_falls_with_the_batch_without_host_time(target: str, draft: str, gpu: str) -> None:
    """For every c and γ: not from batch to batch (kernels have floors), but from 1 to 8 to 32."""
    round_s = study.prices(target, draft, gpu, NO_HOST)
    for c, gamma in GRID:
        one, _, _, eight, _, many = best_lengths(round_s, tokens_per_round(study.LONGEST, c, gamma))
        assert one >= eight >= many


@pytest.mark.parametrize("gpu", study.GPUS)
def test_no_drafts_cost_exactly_a_round_without_a_drafter(gpu: str) -> None:
    asked = study.scenario("opt-6.7b", "opt-125m", gpu, NO_HOST)
    prices = study.corner_prices(gpu.removesuffix(study.CORNER)) if gpu.endswith(study.CORNER) else None
    plain = price_rounds(assemble(asked, prices).plain.cost, study.BATCHES, 0, study.CONTEXT_TOKENS)
    assert study.prices("opt-6.7b", "opt-125m", gpu, NO_HOST)[:, :1].tolist() == plain.tolist()


def test_long_drafts_lose_at_large_batches() -> None:
    """OPT-6.7B, RTX 3090, batch 32: a verification of 9 tokens each is bound by FLOPs, so from the datasheet alone a
    round takes over 3.2 plain steps, and whoever commits fewer tokens loses; the same drafts pay at batch 1.
    """
    model, hardware = load_model("opt-6.7b"), load_hardware("rtx-3090")
    flops = 2 * model.parameter_count() * 32 * (study.LONG + 1)
    round_s = study.prices("opt-6.7b", "opt-125m", "rtx-3090", NO_HOST)
    assert round_s[-1, study.LONG] > 0.9 * flops / (0.7 * hardware.peak_flops_per_s("bfloat16"))
    for c, gamma in GRID:
        tokens = tokens_per_round(study.LONGEST, c, gamma)
        gain = speedups(round_s, tokens)[:, study.LONG]
        assert gain[0] > 1
        assert gain[-1] < gain[0]
        if tokens[study.LONG] < 3.2:
            assert gain[-1] < 1


@pytest.mark.parametrize(("target", "draft"), study.TARGETS)
@pytest.mark.parametrize("gpu", study.GPUS)
def test_the_adaptive_table_is_at_least_as_good_as_every_fixed_length(target: str, draft: str, gpu: str) -> None:
    """Through the policy itself, at every batch size up to the largest."""
    batches = range(1, max(study.BATCHES) + 1)
    for c, gamma in [(0.5, 0.9), (0.8, 0.6), (0.95, 0.4)]:
        asked = study.scenario(
            target,
            draft,
            gpu,
            ENGINE,
            speculation={
                "program": "draft-model",
                "draft_model": draft,
                "max_draft_tokens": 8,
                "acceptance": {"kind": "power_law", "c": c, "gamma": gamma},
                "policy": {"kind": "profiled"},
            },
        )
        machine = assemble(asked)
        cost, context = machine.cost, machine.context_tokens
        gain = speedups(price_rounds(cost, list(batches), 8, context), tokens_per_round(8, c, gamma))
        decider = machine.decider()
        assert decider is not None
        chosen = [decider.draft_tokens(batch, context) for batch in batches]
        assert np.all(gain[np.arange(len(chosen)), chosen] >= gain.max(axis=1) * (1 - 1e-9))
        assert chosen[0] > 0


@pytest.mark.slow
def test_the_adaptive_table_is_at_least_as_good_under_time_varying_traffic() -> None:
    """Gamma arrivals of CV 2, intense and sparse by turns, the same luck for all: mean latency and throughput.

    1 % is what the end of a run of 150 requests may cost one policy by chance.
    """
    target, draft, gpu, rates = study.TRAFFIC[0]
    for seed in (11, 12):
        runs = {
            policy: study.served(target, draft, gpu, rates[1], policy, seed, requests=150).summary()
            for policy in ("adaptive", "0", "1", "2", "3", "4", "6", "8")
        }
        adaptive = runs.pop("adaptive")
        assert adaptive["mean_e2el_ms"] <= 1.01 * min(run["mean_e2el_ms"] for run in runs.values())
        assert adaptive["output_throughput"] >= 0.99 * max(run["output_throughput"] for run in runs.values())


def test_the_tables_are_what_the_code_computes() -> None:
    """One machine of each price source, with and without a host."""
    points = study.read(FOLDER / "best.csv", study.Point)
    shares = study.read(FOLDER / "shares.csv", study.Share)
    machines = (
        ("opt-1.3b", "opt-125m", "rtx-4090"),
        ("llama-7b", "vicuna-68m", "a100-80gb"),
        ("opt-6.7b", "opt-125m", "rtx-3090+corner"),
    )
    for target, draft, gpu in machines:
        for host in study.HOSTS[:2]:
            round_s = study.prices(target, draft, gpu, host)
            written = [p for p in points if (p.target, p.gpu, p.host) == (target, gpu, host.name)]
            assert written == list(study.points(target, gpu, host.name, round_s))
            assert study.share(target, gpu, host.name, round_s) in shares


def test_the_page_is_what_its_tables_say() -> None:
    tables = (study.read(FOLDER / name, kind) for name, kind in study.TABLES.items())
    assert (FOLDER / "README.md").read_text() == page_module.page(*tables)

"""Prompts in the map: its limits, what must never happen, and the simulator's tokens/s on random closed loops."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from specsim.analytic.prompts import TokenBudget, prompt_steps, waiting_steps
from specsim.analytic.rounds import speedup_map
from specsim.analytic.speedups import Cell
from specsim.assembly import assemble
from specsim.cost.forward import Group
from specsim.results import RunResult
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate

RATE = 0.7


def scenario(prompt: int, output: int, *, clients: int = 8, k: int = 3, **changes: Any) -> Scenario:
    fields: dict[str, Any] = {
        "name": "served",
        "model": "llama-3.1-8b",
        "gpu": "h200",
        "speculation": {
            "program": "eagle3",
            "max_draft_tokens": k,
            "acceptance": {"kind": "constant", "rate": RATE},
        },
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "closed_loop", "concurrency": clients},
            "requests": 8,
            "lengths": {"kind": "fixed", "prompt_tokens": prompt, "output_tokens": output},
        },
    }
    return Scenario.model_validate(fields | changes)


def cells(question: Scenario, batch: int, **how: Any) -> dict[int, Cell]:
    return {cell.draft_tokens: cell for cell in speedup_map(assemble(question), batches=[batch], **how).cells}


@pytest.mark.parametrize("batch", [1, 16])
def test_long_outputs_after_short_prompts_are_decoding_alone(batch: int) -> None:
    """What is left is one step a request, AL tokens of O, and a pass's few more tokens: both vanish with O."""
    output = 20_000
    whole, alone = (cells(scenario(1, output), batch, decode_only=only) for only in (False, True))
    for k, cell in whole.items():
        loss = 1.0 - cell.output_tokens_per_s / alone[k].output_tokens_per_s
        assert abs(loss) < 2 * cell.tokens_per_round / output + 1e-3
        assert cell.parts["prompts"] / cell.step_s < 1e-3
        assert cell.speedup == pytest.approx(alone[k].speedup, rel=2e-3)


@pytest.mark.parametrize(("prompt", "output"), [(100, 33), (3000, 200)])
def test_one_sequence_prefills_and_then_decodes(prompt: int, output: int) -> None:
    """Batch 1: the way to the engine and back, a prompt's pass, and n = (O - 1 + (E[X²]/E[X] - 1)/2)/E[X] rounds."""
    machine = assemble(scenario(prompt, output))
    for k, cell in cells(scenario(prompt, output), 1).items():
        survival = RATE ** np.arange(1, k + 1)
        tokens = 1 + survival.sum()
        square = 1 + (((np.arange(1, k + 1) + 1) ** 2 - np.arange(1, k + 1) ** 2) * survival).sum()
        rounds = (output - 1 + (square / tokens - 1) / 2) / tokens
        cost = (machine if k else machine.plain).cost
        prefill = cost.step([Group(1, prompt, prompt, 1)], drafting=1, draft_tokens=k, drafting_kv_tokens=prompt)
        away_s = machine.limits.frontend_request_s + machine.limits.frontend_response_s
        expected = output / (away_s + float(prefill.seconds) + rounds * cell.round_s)
        assert cell.output_tokens_per_s == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("rules", ["vllm", "sglang"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_longer_prompts_never_raise_throughput(batch: int, rules: str) -> None:
    engine = {"rules": rules, "max_num_batched_tokens": 2048}
    lengths = (16, 64, 200, 500, 1000, 1900, 2100, 4000, 9000)  # one token would be priced as a decode
    found = [cells(scenario(prompt, 128, clients=batch, engine=engine), batch) for prompt in lengths]
    for k in found[0]:
        speeds = [by_length[k].output_tokens_per_s for by_length in found]
        assert all(longer <= shorter * (1 + 1e-9) for shorter, longer in pairwise(speeds)), k


def test_prompts_shrink_a_speed_up_towards_what_they_leave() -> None:
    """Time outside decoding is not sped up (Amdahl): the longer the prompts, the nearer to 1."""
    gains = [cells(scenario(prompt, 128), 8)[3].speedup for prompt in (64, 512, 2048, 8192)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > 0.9
    assert gains[0] < cells(scenario(64, 128), 8, decode_only=True)[3].speedup


def test_steps_conserve_prompt_tokens_and_rounds() -> None:
    """A request's P tokens and n rounds fall into its steps, and no step takes more than the budget."""
    batch = np.arange(1.0, 200.0)
    generator = np.random.default_rng(5)
    for waves in (False, True):
        for mixed in (False, True):
            for _ in range(20):
                prompts = np.full(8, float(generator.integers(1, 4000))) if waves else generator.uniform(1, 4000, 64)
                rounds = float(generator.uniform(2, 300))
                budget = TokenBudget(
                    int(generator.integers(1100, 9000)), 4.0, int(generator.integers(0, 2)), mixed=mixed
                )
                late = float(generator.choice([0.0, 2.5]))
                found = prompt_steps(batch, prompts, rounds, budget, waves=np.array(waves), late=late)
                computed = found.share * found.prompts * found.steps / batch
                np.testing.assert_allclose(computed, 1.0, rtol=1e-9)
                decoded = (1 - found.share) * found.running + found.share * found.decoding
                np.testing.assert_allclose(decoded * found.steps / batch, rounds, rtol=1e-6)
                highest = (found.prompts + found.spread) * prompts.mean()
                assert np.all(highest <= budget.left(batch) * (1 + 1e-9))
                assert np.all((found.share > 0) & (found.share <= 1))
                assert np.all(found.decoding >= -1e-9)


def test_waiting_is_none_alone_and_all_the_time_in_a_crowd() -> None:
    assert waiting_steps(np.array([1.0]), np.array([0.5]), np.array([50.0]), 0.0)[0] == pytest.approx(0.0)
    crowd = waiting_steps(np.array([1000.0]), np.array([2.0]), np.array([50.0]), 0.0)[0]
    assert crowd == pytest.approx(999 * 2.0 - 50.0, rel=2e-3)
    few = waiting_steps(np.array([2.0]), np.array([1.0]), np.array([1e4]), 0.0)[0]
    assert few == pytest.approx(0.5 * 1e-4, rel=1e-3)  # half a service, at the rare time that the other one is there


def random_scenario(generator: np.random.Generator) -> Scenario:
    model, draft = (("llama-3.1-8b", "llama-3.2-1b"), ("qwen3-8b", "qwen3-0.6b"))[generator.integers(2)]
    program = str(generator.choice(["eagle3", "draft-model", "ngram"]))
    k, clients = int(generator.integers(1, 6)), int(generator.choice([1, 2, 4, 8, 16, 32, 64]))
    rate = round(float(generator.uniform(0.3, 0.9)), 2)
    prompt, output = (round(np.exp(generator.uniform(np.log(low), np.log(high)))) for low, high in LENGTHS)
    lengths: dict[str, Any] = {"kind": "fixed", "prompt_tokens": prompt, "output_tokens": output}
    if generator.integers(2):
        lengths = {
            "kind": "lognormal",
            "prompt_mean": prompt,
            "prompt_cv": 0.5,
            "output_mean": output,
            "output_cv": 0.5,
        }
    speculation = {"program": program, "max_draft_tokens": k, "acceptance": {"kind": "constant", "rate": rate}}
    if program == "draft-model":
        speculation["draft_model"] = draft
    engine = {
        "max_num_batched_tokens": int(generator.choice([1024, 2048, 8192])),
        "async_scheduling": bool(generator.integers(2)),
    }
    workload = {
        "kind": "synthetic",
        "arrivals": {"kind": "closed_loop", "concurrency": clients},
        "lengths": lengths,
        "requests": (WARM_UP + WAVES + 1) * clients,
    }
    gpu = str(generator.choice(["h100-sxm", "a100-80gb", "h200"]))
    return scenario(1, 1, model=model, gpu=gpu, speculation=speculation, engine=engine, workload=workload)


LENGTHS = ((128, 4000), (32, 600))
WARM_UP, WAVES = 15, 40  # requests a client until its phase is forgotten, and those that count


def steady_tokens_per_s(result: RunResult, clients: int) -> float:
    """Over whole cycles of all clients, from when they no longer remember that they started together."""
    ends = sorted((request.finish_s, request.output_tokens) for request in result.requests)
    first, last = WARM_UP * clients, (WARM_UP + WAVES) * clients - 1
    return sum(tokens for _, tokens in ends[first + 1 : last + 1]) / (ends[last][0] - ends[first][0])


@pytest.mark.parametrize("seed", range(6))
def test_random_closed_loops_serve_as_fast_as_in_the_simulator(seed: int) -> None:
    """Four scenarios a seed, with and without drafts: no cell off by more than 4 %, their mean |error| at most 1.5 %.

    What is left: prompts that wait for each other are a queue's mean value, steps with several prompts are priced at
    two loads of their distribution, tables miss prices by up to 2 %, and 40 requests a client of random lengths end
    where they end (1 %).
    """
    generator, errors = np.random.default_rng(seed), []
    for _ in range(4):
        question = random_scenario(generator)
        assert question.workload.clients is not None
        clients = question.workload.clients.concurrency
        machine = assemble(question)
        predicted = cells(question, clients)
        for k, run in ((machine.longest, machine), (0, machine.plain)):
            served = steady_tokens_per_s(simulate(run, keep=True), clients)
            errors.append(predicted[k].output_tokens_per_s / served - 1)
    assert np.abs(errors).max() < 0.04
    assert np.abs(errors).mean() < 0.015

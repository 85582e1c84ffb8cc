"""K-free acceptance traces of drafters that really run: from every position of the target's own output, draft as
far as the cap, and count how many drafts in a row are the target's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from specsim.arrays import Integers
from specsim.errors import InvalidInput
from specsim.profiling.acceptance.record_file import RecordedRequest, RecordedTraces
from specsim.reference.decoding.engine import Engine
from specsim.reference.decoding.generate import run_step
from specsim.reference.decoding.models import load_transformer
from specsim.reference.decoding.sampling import Sampler
from specsim.reference.drafters import Drafter, DraftModel, Eagle, EarlyExit, Medusa, NGram, Prefills
from specsim.reference.drafters.drafter_weights import stored_adapter, stored_feature_head, stored_heads
from specsim.reference.network.checkpoint import Checkpoint, read_checkpoint
from specsim.reference.network.transformer import Transformer
from specsim.scenario.prompts import Prompt, encoded
from specsim.scheduling.scheduler import Scheduler, SequenceState
from specsim.specs.engine import EngineLimits
from specsim.speculation.policy.deciders import ByBatch

TARGET, COPY = "target", "ngram"
BATCH = 32  # prompts at once
NOTHING = Prefills(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class CappedDrafter:
    """A drafter, and the longest draft to ask of it."""

    drafter: Drafter
    cap: int


@dataclass(frozen=True, slots=True)
class Recording:
    """``outputs`` [prompts, positions + longest cap]; ``runs`` [prompts, positions] of each drafter: entry i of a
    row is the round that starts when i + 1 output tokens stand.
    """

    outputs: Integers
    runs: Mapping[str, Integers]


def record(
    target: Transformer,
    candidates: Mapping[str, CappedDrafter],
    prompts: Sequence[Integers],
    positions: int,
    sampler: Sampler | None = None,
) -> Recording:
    """Decode every prompt a token a step; between steps each drafter drafts, and nothing of it is verified.

    Drafts are a drafter's most likely tokens. With a ``sampler`` the target draws its tokens, and a run is how far the
    drafts are what was drawn: rejection sampling keeps a deterministic draft x with the target's p(x), the probability
    that a draw is x, so that the law of runs is the engine's. The slots of the models must suffice for the prompts.
    """
    longest = max(one.cap for one in candidates.values())
    engine = Engine(target, sampler=sampler)
    room = sum(map(len, prompts)) + len(prompts) * (positions + longest + 16)
    scheduler = Scheduler(EngineLimits(max_num_seqs=len(prompts), max_num_batched_tokens=room), room)
    for number, prompt in enumerate(prompts):
        scheduler.add(SequenceState(number, len(prompt), positions + longest))
        engine.add(number, prompt)
        for one in candidates.values():
            one.drafter.forget(number)
    guesses: dict[str, list[Integers]] = {name: [] for name in candidates}
    outputs: dict[int, Integers] = {}
    step = 0
    while scheduler.has_work:
        outputs |= run_step(engine, scheduler, ByBatch([0])).finished
        step += 1
        if step <= positions:
            for name, one in candidates.items():
                guesses[name].append(_guesses(engine, one, len(prompts)))
    text = np.stack([outputs[number] for number in range(len(prompts))])
    runs = {name: longest_runs(np.stack(found, axis=1), text[:, 1:]) for name, found in guesses.items()}
    return Recording(text, runs)


def _guesses(engine: Engine, one: CappedDrafter, prompts: int) -> Integers:
    """Drafts of every prompt, [prompts, cap], -1 where none was proposed."""
    proposal = one.drafter.propose(engine.history, np.arange(prompts), one.cap, engine.watch, NOTHING)
    meant = np.arange(one.cap) < proposal.counts[:, None]
    order = [engine.slot(number) for number in range(prompts)]
    drafts: Integers = np.where(meant, proposal.drafts, -1)[order]
    return drafts


def longest_runs(guesses: Integers, text: Integers) -> Integers:
    """Leading guesses that are the text's, [prompts, positions].

    ``guesses`` [prompts, positions, cap]: at i what is taken for ``text[:, i:i + cap]``; ``text`` is long enough.
    """
    positions, cap = guesses.shape[1:]
    right = guesses == text[:, np.arange(positions)[:, None] + np.arange(cap)]
    runs: Integers = np.cumprod(right, axis=2).sum(axis=2)
    return runs


# -- a folder of models -------------------------------------------------------------------------------------------


def stored_candidates(folder: Path, target: Transformer, cap: int) -> dict[str, CappedDrafter]:
    """Prompt look-up, and each drafter stored beside the target, by the name of its folder.

    What a folder holds is read off its weights: LM heads of its own, a fusion of embedding and state, ``exit_layer``
    in its config.json, or else a model that drafts by itself. Raises InvalidInput for one that does not fit.
    """
    found = {COPY: CappedDrafter(NGram(), cap)}
    for path in sorted(folder.iterdir()):
        if path.name != TARGET and (path / "config.json").is_file():
            found[path.name] = _stored(read_checkpoint(path), target, cap)
    return found


def _stored(checkpoint: Checkpoint, target: Transformer, cap: int) -> CappedDrafter:
    if "exit_layer" in checkpoint.config:
        adapter = stored_adapter(checkpoint, target)
        return CappedDrafter(EarlyExit(target, int(checkpoint.config["exit_layer"]), adapter, reuse=False), cap)
    if any(name.startswith("lm_heads.") for name in checkpoint.tensors):
        heads = stored_heads(checkpoint, target)
        return CappedDrafter(Medusa(target, heads), min(cap, len(heads.blocks)))
    if "fc.weight" in checkpoint.tensors:
        return CappedDrafter(Eagle(target, stored_feature_head(checkpoint, target)), cap)
    model = load_transformer(
        checkpoint,
        device=target.device.type,
        dtype=target.dtype,
        max_sequences=target.max_sequences,
        max_length=target.max_length,
    )
    if model.spec.vocab_size != target.spec.vocab_size:
        raise InvalidInput(
            f"{checkpoint.name} has {model.spec.vocab_size} tokens and the target {target.spec.vocab_size}; "
            "a draft model must share the target's vocabulary"
        )
    return CappedDrafter(DraftModel(model), cap)


def record_folder(
    folder: Path,
    prompts: Sequence[Prompt],
    *,
    cap: int = 16,
    temperature: float = 0.0,
    positions: int = 128,
    prompt_tokens: int = 128,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, RecordedTraces]:
    """Traces of every drafter stored in ``folder`` and of prompt look-up, in float32.

    Of each prompt the first ``prompt_tokens`` tokens are used; no output ends early. Raises InvalidInput for a folder
    without a target, for a prompt shorter than two tokens, and where the models have fewer positions than are needed.
    """
    checkpoint = read_checkpoint(folder / TARGET)
    tokens = _beginnings(folder, prompts, prompt_tokens)
    target = load_transformer(
        checkpoint,
        device=device,
        dtype=torch.float32,
        max_sequences=min(BATCH, len(prompts)),
        max_length=prompt_tokens + positions + 2 * cap + 2,
    )
    candidates = stored_candidates(folder, target, cap)
    sampler = Sampler(temperature, seed, device) if temperature > 0 else None
    runs = _runs(target, candidates, tokens, positions, sampler, progress)
    return {
        name: RecordedTraces(
            drafter=name,
            target=checkpoint.name,
            temperature=temperature,
            seed=seed,
            prompt_tokens=prompt_tokens,
            cap=candidates[name].cap,
            requests=tuple(_requests(prompts, rows)),
        )
        for name, rows in runs.items()
    }


def _runs(
    target: Transformer,
    candidates: Mapping[str, CappedDrafter],
    prompts: Sequence[Integers],
    positions: int,
    sampler: Sampler | None,
    progress: Callable[[int, int], None],
) -> dict[str, list[Integers]]:
    """``record`` of BATCH prompts at a time: the runs of each drafter, a row a prompt."""
    runs: dict[str, list[Integers]] = {name: [] for name in candidates}
    for first in range(0, len(prompts), BATCH):
        found = record(target, candidates, prompts[first : first + BATCH], positions, sampler)
        for name, rows in found.runs.items():
            runs[name].extend(rows)
        progress(min(first + BATCH, len(prompts)), len(prompts))
    return runs


def _beginnings(folder: Path, prompts: Sequence[Prompt], most: int) -> list[Integers]:
    """The first tokens of each prompt."""
    tokens = [ids[:most] for ids in encoded(folder / TARGET, prompts)]
    for prompt, ids in zip(prompts, tokens, strict=True):
        if len(ids) < 2:
            raise InvalidInput(f"prompt {prompt.name} is {len(ids)} tokens long; give at least two")
    return tokens


def _requests(prompts: Sequence[Prompt], rows: Sequence[Integers]) -> Iterator[RecordedRequest]:
    for prompt, runs in zip(prompts, rows, strict=True):
        yield RecordedRequest(name=prompt.name, domain=prompt.domain, runs=tuple(runs.tolist()))

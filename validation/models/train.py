"""Trains the target, the draft model and the target's heads, and stores them beside this file.

``python validation/models/train.py --minutes 45`` goes on where the last call stopped. Three stages, each with its own
number of steps: ``target`` on the text; ``draft`` on the text; ``drafters``, where draft model, Medusa heads,
early-exit adapter and EAGLE-style head learn the frozen target's next-token distributions. Batches depend on seed and
step alone, so that a run in pieces trains on what a run in one piece would; sums on another machine round otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from checkpoint import PAIRS, Trained, save_all, untrained
from corpus import split
from network import Llama
from text import batch, encode, load_tokenizer, train_tokenizer
from torch import Tensor, nn

HERE = Path(__file__).parent
BATCH_TOKENS = 4096
LARGE_BATCH_TOKENS = 32_768
SHORT, LONG = 256, 512  # tokens a row; long rows only in the last part of a stage, because they cost more
LONG_FROM = 0.75
DECAY_FROM = 0.5
WARM_UP_STEPS = 20
STEPS = (1100, 600, 300)
SAVE_EVERY_S = 120.0
MUON_RATE, ADAM_RATE = 0.02, 0.004


@dataclass
class Stage:
    """One training loop: its networks, how many steps, and the loss of a batch."""

    name: str
    steps: int
    networks: dict[str, nn.Module]
    loss: Callable[[Tensor], Tensor]
    done: int = 0
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)

    def __post_init__(self) -> None:
        hidden, others = [], []
        for network in self.networks.values():
            for name, weight in network.named_parameters():
                matrix = weight.dim() == 2 and not ("embed" in name or "lm_heads" in name)
                (hidden if matrix else others).append(weight)
        # Muon (https://kellerjordan.github.io/posts/muon): for matrices between hidden states only.
        self.optimizers = [
            torch.optim.Muon(hidden, lr=MUON_RATE, momentum=0.95, weight_decay=0.01),
            torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0),
        ]

    def step(self, tokens: Tensor) -> float:
        """One update; the learning rate warms up, holds and falls to zero."""
        progress = self.done / self.steps
        scale = min(1.0, (self.done + 1) / WARM_UP_STEPS, (1 - progress) / (1 - DECAY_FROM))
        with torch.autocast(tokens.device.type, torch.bfloat16):
            loss = self.loss(tokens)
        loss.backward()
        for optimizer, rate in zip(self.optimizers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return loss.item()

    def state(self) -> dict[str, object]:
        return {
            "done": self.done,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def restore(self, state: dict[str, object]) -> None:
        self.done = state["done"]
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)


def next_token_loss(network: Llama) -> Callable[[Tensor], Tensor]:
    return lambda tokens: F.cross_entropy(network(tokens[:, :-1]).flatten(0, 1).float(), tokens[:, 1:].flatten())


def divergence(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean KL(truth || guess) of logits [..., vocabulary]."""
    log_guess, log_truth = (x.flatten(0, 1).float().log_softmax(-1) for x in (guess, truth))
    return F.kl_div(log_guess, log_truth, log_target=True, reduction="batchmean")


def drafters_loss(trained: Trained) -> Callable[[Tensor], Tensor]:
    """Sum of the four drafters' divergences from the frozen target; they share its pass and nothing else."""
    target = trained.target

    def loss(tokens: Tensor) -> Tensor:
        with torch.no_grad():
            early, states = target.states(tokens, trained.exit_layer)
            truth = target.head(states)
            embedded = target.model.embed_tokens(tokens)
        total = divergence(trained.draft(tokens), truth)
        total = total + divergence(target.head(trained.exit(early)), truth)
        for ahead, guess in enumerate(trained.medusa(states), start=1):
            total = total + divergence(guess[:, :-ahead], truth[:, ahead:])
        # The second pass reads the first one's states: when it drafts, that is all it has beyond the first token.
        known = states
        for depth in (1, 2):
            known = trained.eagle(embedded[:, depth:], known[:, :-1])
            total = total + divergence(target.head(known), truth[:, depth:])
            total = total + F.smooth_l1_loss(known, states[:, depth:])
        return total

    return loss


def stages(trained: Trained, steps: Sequence[int]) -> list[Stage]:
    """The three stages at their start."""
    drafters = {name: network for name, network in trained.networks().items() if name != "target"}
    return [
        Stage("target", steps[0], {"target": trained.target}, next_token_loss(trained.target)),
        Stage("draft", steps[1], {"draft": trained.draft}, next_token_loss(trained.draft)),
        Stage("drafters", steps[2], drafters, drafters_loss(trained)),
    ]


def train(
    trained: Trained,
    plan: list[Stage],
    stream: Tensor,
    checkpoint: Path,
    *,
    seed: int,
    minutes: float,
    batch_tokens: int | None = None,
    device: str = "cpu",
) -> bool:
    """Run stages until all are done (True) or the time is up (False); a batch is BATCH_TOKENS, or as many as said."""
    end = saved = time.monotonic()
    end += 60 * minutes
    for index, stage in enumerate(plan):
        if stage.name == "drafters" and stage.done == 0:
            for head in trained.medusa.lm_heads:
                head.weight.data.copy_(trained.target.model.embed_tokens.weight)
        while stage.done < stage.steps:
            if time.monotonic() > end:
                save(plan, checkpoint)
                return False
            length = SHORT if stage.done < LONG_FROM * stage.steps else LONG
            number = stage.done + 1_000_000 * index
            tokens = batch(
                stream, seed=seed, step=number, rows=(batch_tokens or BATCH_TOKENS) // length, length=length + 1
            )
            loss = stage.step(tokens.to(device))
            if stage.done % 20 == 0:
                clock = time.strftime("%H:%M:%S")
                print(f"{stage.name} {stage.done}/{stage.steps} loss {loss:.3f} {clock}", flush=True)
            if time.monotonic() - saved > SAVE_EVERY_S:
                save(plan, checkpoint)
                saved = time.monotonic()
        save(plan, checkpoint)
    return True


def save(plan: list[Stage], checkpoint: Path) -> None:
    part = checkpoint.with_suffix(".part")
    torch.save({stage.name: stage.state() for stage in plan}, part)
    part.replace(checkpoint)


def resume(plan: list[Stage], checkpoint: Path, device: str = "cpu") -> None:
    """Take the stages to where ``save`` left them, if it ever did."""
    if checkpoint.exists():
        stored = torch.load(checkpoint, map_location=device)
        for stage in plan:
            stage.restore(stored[stage.name])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this long; call again to go on")
    parser.add_argument("--steps", type=int, nargs=3, default=STEPS, metavar=("TARGET", "DRAFT", "DRAFTERS"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pair", choices=PAIRS, default="small", help="which shapes; large is meant for a GPU")
    parser.add_argument("--device", default="cpu", help="where to train: cpu or cuda")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "specsim-models")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    chosen.scratch.mkdir(parents=True, exist_ok=True)
    checkpoint = chosen.scratch / "checkpoint.pt"
    documents, _ = split()
    if not checkpoint.exists():
        train_tokenizer(documents).save(str(chosen.scratch / "tokenizer.json"))
    tokenizer = load_tokenizer(chosen.scratch)
    stream = torch.cat(encode(tokenizer, documents))
    torch.manual_seed(chosen.seed)
    trained = untrained(chosen.pair)
    for network in trained.networks().values():
        network.to(chosen.device)
    plan = stages(trained, chosen.steps)
    resume(plan, checkpoint, chosen.device)
    batch_tokens = None if chosen.pair == "small" else LARGE_BATCH_TOKENS
    print(f"{len(stream)} tokens to train on", flush=True)
    if train(
        trained,
        plan,
        stream,
        checkpoint,
        seed=chosen.seed,
        minutes=chosen.minutes,
        batch_tokens=batch_tokens,
        device=chosen.device,
    ):
        for network in trained.networks().values():
            network.cpu()
        save_all(chosen.out, trained, tokenizer)
        print(f"stored under {chosen.out}")
    else:
        print("time is up; call again to go on")


if __name__ == "__main__":
    main()

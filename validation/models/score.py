"""Prints what the trained models are worth on text held out of their training.

``python validation/models/score.py``: loss by domain, then each drafter's acceptance on the target's greedy output.
``python validation/models/score.py --inflated DIR``: how often the inflated models choose the small ones' tokens.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from acceptance import acceptance_length, all_runs
from checkpoint import Trained, load_all
from corpus import Document, digest, split
from network import Llama
from text import encode, load_tokenizer
from tokenizers import Tokenizer
from torch import Tensor

from specsim.reference.decoding.generate import Engine, generate
from specsim.reference.decoding.models import load_transformer
from specsim.reference.network.checkpoint import read_checkpoint
from specsim.reference.network.transformer import TokenGroup

HERE = Path(__file__).parent
WINDOW = 512  # tokens of context at most when loss is counted
PROMPT, OUTPUT, CAP = 128, 128, 8
DRAFTED = (1, 2, 4, 6)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE)
    parser.add_argument("--inflated", type=Path, help="folder that inflate.py wrote")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    train, held_out = split()
    print(f"{len(train)} documents to train on, sha256 {digest(train)[:16]}; {len(held_out)} held out")
    tokenizer = load_tokenizer(chosen.models / "target")
    prompts = cuts(tokenizer, held_out, chosen.prompts, PROMPT)
    trained = load_all(chosen.models)
    if chosen.inflated is None:
        print_losses(trained, tokenizer, held_out)
        print_acceptance(trained, chosen.models / "target", prompts)
    else:
        print_agreement(chosen.models, chosen.inflated, prompts)


def cuts(tokenizer: Tokenizer, documents: Sequence[Document], count: int, length: int) -> Tensor:
    """``count`` pieces [count, length] of the documents, spread evenly over their text."""
    stream = torch.cat(encode(tokenizer, documents))
    starts = np.linspace(0, len(stream) - length, count).astype(int)
    return torch.stack([stream[start : start + length] for start in starts])


@torch.inference_mode()
def loss_sum(network: Llama, tokens: Tensor) -> float:
    """Nats that the network needs for a document, the first token apart; its context is ``WINDOW`` tokens at most."""
    total = 0.0
    for start in range(0, len(tokens) - 1, WINDOW):
        piece = tokens[start : start + WINDOW + 1]
        total += F.cross_entropy(network(piece[None, :-1])[0], piece[1:], reduction="sum").item()
    return total


def print_losses(trained: Trained, tokenizer: Tokenizer, held_out: Sequence[Document]) -> None:
    """Loss of target and draft by domain."""
    for domain in ("code", "prose"):
        texts = [document for document in held_out if document.domain == domain]
        encoded = encode(tokenizer, texts)
        tokens = sum(len(entry) - 1 for entry in encoded)
        size = sum(len(document.text.encode()) for document in texts)
        for name, network in (("target", trained.target), ("draft", trained.draft)):
            nats = sum(loss_sum(network, entry) for entry in encoded)
            bits = nats / size / math.log(2)
            print(
                f"loss {domain:5} {name:6} {nats / tokens:.3f} nats a token, {bits:.3f} bits a byte, {tokens} tokens"
            )


def greedy(folder: Path, prompts: Tensor, output_tokens: int) -> Tensor:
    """Prompts with the target's greedy output behind them, from the reference engine in float32."""
    length = prompts.shape[1] + output_tokens + 1
    model = load_transformer(
        read_checkpoint(folder), device="cpu", dtype=torch.float32, max_sequences=len(prompts), max_length=length
    )
    outputs, _ = generate(Engine(model), list(prompts.numpy()), [output_tokens] * len(prompts))
    return torch.cat((prompts, torch.from_numpy(np.stack(outputs))), dim=1)


def print_acceptance(trained: Trained, target: Path, prompts: Tensor) -> None:
    """Unconditional rates and acceptance length of each drafter."""
    tokens = greedy(target, prompts, OUTPUT + CAP - 1)
    print(f"greedy, {len(prompts)} prompts of {PROMPT} tokens, {OUTPUT} output positions each")
    print("drafter  r_1 .. r_8" + " " * 36 + "".join(f"AL k={k} " for k in DRAFTED) + " spread of AL k=4 over prompts")
    for name, runs in all_runs(trained, tokens, PROMPT, CAP).items():
        rates = " ".join(f"{(runs >= depth).double().mean():.3f}" for depth in range(1, CAP + 1))
        lengths = "   ".join(f"{acceptance_length(runs, k):.2f}" for k in DRAFTED)
        each = np.quantile([acceptance_length(row[None], 4) for row in runs], (0.1, 0.9))
        print(f"{name:8} {rates}  {lengths}   {each[0]:.2f} .. {each[1]:.2f}")


def choices(folder: Path, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Most likely next token after every prefix, from the reference engine; [rows, length]."""
    rows, length = tokens.shape
    model = load_transformer(read_checkpoint(folder), device="cpu", dtype=dtype, max_sequences=1, max_length=length)
    slot, start = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    return torch.stack(
        [model.forward([TokenGroup(slot, tokens[row : row + 1], start, length)]).argmax(-1) for row in range(rows)]
    )


def print_agreement(small: Path, large: Path, text: Tensor) -> None:
    """Share of prefixes of held-out text after which two models choose the same token."""
    for name in ("target", "draft"):
        chosen = {
            (size, str(dtype).removeprefix("torch.")): choices(folder / name, text, dtype)
            for size, folder in (("small", small), ("inflated", large))
            for dtype in (torch.float32, torch.bfloat16)
        }
        for left, right in (
            (("inflated", "float32"), ("small", "float32")),
            (("inflated", "bfloat16"), ("small", "bfloat16")),
            (("inflated", "bfloat16"), ("small", "float32")),
            (("small", "bfloat16"), ("small", "float32")),
        ):
            share = (chosen[left] == chosen[right]).double().mean()
            print(f"{name:6} {' '.join(left):17} = {' '.join(right):14} {share:.4%} of {text.numel()}")
    tokens = greedy(small / "target", text, CAP + 24)
    runs = [all_runs(load_all(folder), tokens, PROMPT, CAP) for folder in (small, large)]
    for name in runs[0]:
        share = (runs[0][name] == runs[1][name]).double().mean()
        print(f"{name:6} runs of the inflated drafter on the inflated target equal the small ones': {share:.4%}")


if __name__ == "__main__":
    main()

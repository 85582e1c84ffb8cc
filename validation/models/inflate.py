"""Writes the trained models inflated to the cost of larger shapes.

``python validation/models/inflate.py --target llama-3.1-8b --draft llama-3.2-1b --out DIR`` (presets, or YAML files of
a model's shape) writes DIR/target, DIR/draft, and the target's heads and adapters with it. The vocabulary stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from checkpoint import save_tokenizer
from text import load_tokenizer

from specsim.reference.network.checkpoint import read_checkpoint, write_checkpoint
from specsim.reference.network.inflate import NOISE, embedding_of, inflate
from specsim.specs.catalog import load_model

HERE = Path(__file__).parent
SHAPES = HERE / "shapes"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=str(SHAPES / "llama-130m.yaml"), help="shape of the inflated target")
    parser.add_argument("--draft", default=str(SHAPES / "llama-2m.yaml"), help="shape of the inflated draft model")
    parser.add_argument("--models", type=Path, default=HERE)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--noise", type=float, default=NOISE, help="of added entries, relative to their matrix")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    small = {name: read_checkpoint(chosen.models / name) for name in ("target", "draft", "medusa", "exit", "eagle")}
    early = small["exit"].config["exit_layer"]
    as_target = embedding_of(small["target"].spec, load_model(chosen.target), early_layers=early)
    as_draft = embedding_of(small["draft"].spec, load_model(chosen.draft))
    for name, checkpoint in small.items():
        into = as_draft if name == "draft" else as_target
        large = inflate(
            checkpoint, into, noise=chosen.noise, seed=chosen.seed, device=chosen.device, dtype=DTYPES[chosen.dtype]
        )
        write_checkpoint(large, chosen.out / name)
        parameters = sum(tensor.numel() for tensor in large.tensors.values())
        print(f"{name:7} {parameters / 1e6:.1f} M parameters in {chosen.out / name}", flush=True)
    for name in ("target", "draft"):
        save_tokenizer(chosen.out / name, load_tokenizer(chosen.models / name))


if __name__ == "__main__":
    main()

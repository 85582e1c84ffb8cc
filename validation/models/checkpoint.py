"""What the trained models look like, and how they are stored: one folder each, in Hugging Face layout.

``target`` and ``draft`` are ordinary checkpoints of Llama's architecture. ``medusa`` and ``eagle`` have the names that
vLLM reads; the EAGLE-style head takes embedding and LM head from the target, as does ``exit``, the early-exit adapter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from network import ROTARY_BASE, Adapter, Eagle, Llama, Medusa, Shape
from text import END, VOCABULARY
from tokenizers import Tokenizer
from torch import nn

from specsim.reference.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

TARGET = Shape(VOCABULARY, hidden_size=256, num_layers=5, num_heads=6, num_kv_heads=2, intermediate_size=640)
DRAFT = Shape(VOCABULARY, hidden_size=128, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=256)
# For a GPU: head sizes and query heads a KV head are those of Llama-3.1-8B and Llama-3.2-1B, to be inflated to them.
LARGE_TARGET = Shape(VOCABULARY, 768, num_layers=10, num_heads=8, num_kv_heads=2, intermediate_size=2048, head_dim=128)
LARGE_DRAFT = Shape(VOCABULARY, 256, num_layers=3, num_heads=4, num_kv_heads=1, intermediate_size=704)
PAIRS = {"small": (TARGET, DRAFT), "large": (LARGE_TARGET, LARGE_DRAFT)}
EXIT_LAYER = 2
MEDUSA_HEADS = 4
MAX_POSITION = 2048
NAMES = ("target", "draft", "medusa", "exit", "eagle")


@dataclass(slots=True)
class Trained:
    """The target and what drafts for it."""

    target: Llama
    draft: Llama
    medusa: Medusa
    exit: Adapter
    eagle: Eagle
    exit_layer: int

    def networks(self) -> dict[str, nn.Module]:
        """Each network by the name of its folder."""
        return {name: getattr(self, name) for name in NAMES}


def untrained(pair: str = "small") -> Trained:
    """All networks of a pair at their random start."""
    return build(*PAIRS[pair], heads=MEDUSA_HEADS, exit_layer=EXIT_LAYER)


def build(target: Shape, draft: Shape, *, heads: int, exit_layer: int) -> Trained:
    """Networks of these shapes at their random start."""
    return Trained(Llama(target), Llama(draft), Medusa(target, heads), Adapter(target), Eagle(target), exit_layer)


def llama_config(shape: Shape) -> dict[str, Any]:
    """config.json of a decoder.

    It says Mistral, which computes what Llama does: transformers refuses a Llama whose hidden size is not a multiple
    of its heads, as the target's 256 is not of 6.
    """
    return {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu", "sliding_window": None,
        "vocab_size": shape.vocab_size, "hidden_size": shape.hidden_size, "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads, "num_key_value_heads": shape.num_kv_heads, "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate_size, "max_position_embeddings": MAX_POSITION,
        "rms_norm_eps": shape.norm_epsilon, "rope_theta": ROTARY_BASE, "tie_word_embeddings": True,
        "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16",
    }  # fmt: skip


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The inverse of ``llama_config``."""
    return Shape(
        config["vocab_size"],
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["intermediate_size"],
        config["head_dim"],
        config["rms_norm_eps"],
    )


def configs(trained: Trained) -> dict[str, dict[str, Any]]:
    """config.json of each folder."""
    shape, heads = trained.target.shape, len(trained.medusa.blocks)
    target = llama_config(shape)
    return {
        "target": target,
        "draft": llama_config(trained.draft.shape),
        "medusa": {
            "architectures": ["MedusaModel"],
            "model_type": "medusa",
            "hidden_size": shape.hidden_size,
            "vocab_size": shape.vocab_size,
            "num_heads": heads,
            "num_hidden_layers": 1,
            "torch_dtype": "bfloat16",
        },
        "exit": {
            **target,
            "architectures": ["EarlyExitAdapter"],
            "num_hidden_layers": 1,
            "exit_layer": trained.exit_layer,
        },
        # vLLM's feature head for Mistral has other norms than the paper's; that for Llama has none.
        "eagle": {**target, "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1},
    }


def save_all(out: Path, trained: Trained, tokenizer: Tokenizer) -> None:
    """One folder a network, weights in bfloat16; the tokenizer stands with the two that read text."""
    for name, config in configs(trained).items():
        weights = trained.networks()[name].state_dict()
        write_checkpoint(Checkpoint(config, {k: v.to(torch.bfloat16) for k, v in weights.items()}), out / name)
    for name in ("target", "draft"):
        save_tokenizer(out / name, tokenizer)


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """tokenizer.json, and the tokenizer_config.json that transformers wants beside it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "model_max_length": MAX_POSITION,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_all(folder: Path) -> Trained:
    """The networks stored under ``folder``, trained or inflated, in float32."""
    stored = {name: read_checkpoint(folder / name) for name in NAMES}
    target, draft = (shape_of(stored[name].config) for name in ("target", "draft"))
    heads, exit_layer = stored["medusa"].config["num_heads"], stored["exit"].config["exit_layer"]
    trained = build(target, draft, heads=heads, exit_layer=exit_layer)
    for name, network in trained.networks().items():
        network.load_state_dict(stored[name].tensors)
        network.eval().requires_grad_(requires_grad=False)
    return trained

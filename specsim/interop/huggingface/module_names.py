"""What checkpoints call the matrices of a layer, and how configurations name modules by patterns.

Names are matched as engines do, without what stands before ``layers.`` (vLLM's ``is_layer_skipped``;
compressed-tensors' ``re:`` targets).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

# What a matrix of a layer is called in checkpoints, inside its layer; several names where families differ.
_ATTENTION = ("self_attn", "attn", "attention", "mixer")
_MLP = ("mlp", "feed_forward", "ffn", "mixer", "block_sparse_moe")


def _inside(blocks: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{block}.{name}" for block in blocks for name in names)


def _experts(blocks: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{block}.{form}" for block in blocks for name in names for form in (f"experts.0.{name}", "experts"))


MATRICES = {
    "qkv": _inside(_ATTENTION, "q_proj", "qkv_proj", "k_proj", "W_pack", "query_key_value"),
    "attention_output": _inside(_ATTENTION, "o_proj", "out_proj", "dense", "wo_b"),
    "query": _inside(_ATTENTION, "q_proj"),
    "query_down": _inside(_ATTENTION, "q_a_proj", "wq_a"),
    "query_up": _inside(_ATTENTION, "q_b_proj", "wq_b"),
    "kv_down": _inside(_ATTENTION, "kv_a_proj_with_mqa"),
    "kv_up": _inside(_ATTENTION, "kv_b_proj"),
    "output_gate": _inside(_ATTENTION, "g_proj"),
    "output_down": _inside(_ATTENTION, "wo_a"),
    "index_query": _inside(_ATTENTION, "indexer.wq_b"),
    "state_input": ("linear_attn.in_proj_qkvz", "linear_attn.in_proj_qkv", "mixer.in_proj", "mamba.in_proj",
                    "self_attn.q_proj"),
    "state_output": ("linear_attn.out_proj", "mixer.out_proj", "mamba.out_proj", "self_attn.o_proj"),
    "gate_up": _inside(_MLP, "gate_proj", "up_proj", "gate_up_proj", "w1"),
    "down": _inside(_MLP, "down_proj", "w2"),
    "expert_gate_up": _experts(_MLP, "gate_proj", "up_proj", "gate_up_proj", "w1"),
    "expert_down": _experts(_MLP, "down_proj", "w2"),
    "expert_input": ("mixer.fc1_latent_proj",),
    "expert_output": ("mixer.fc2_latent_proj",),
    "shared_gate_up": _inside(_MLP, "shared_experts.gate_proj", "shared_experts.up_proj", "shared_expert.gate_proj",
                              "shared_expert.up_proj", "shared_experts.w1", "shared_mlp.gate_proj"),
    "shared_down": _inside(_MLP, "shared_experts.down_proj", "shared_expert.down_proj", "shared_experts.w2",
                           "shared_mlp.down_proj"),
}  # fmt: skip


def bare_name(name: str) -> str:
    """A module's name from ``layers.`` on, experts all alike."""
    start = name.find("layers.")
    bare = name[start:] if start >= 0 else name
    return re.sub(r"\.experts\.\d+\.", ".experts.0.", bare)


class NamePatterns:
    """Modules that patterns name: whole names or beginnings, with ``*``, or regular expressions after ``re:``."""

    def __init__(self, patterns: list[str]) -> None:
        self._exact: set[str] = set()
        self._globs: list[str] = []
        self._regexes = []
        for pattern in patterns:
            if pattern.startswith("mtp"):
                continue  # drafting layers, numbered anew
            if pattern.startswith("re:"):
                try:
                    self._regexes.append(re.compile(pattern[3:]))
                except re.error:
                    continue
            elif "*" in pattern or "layers." not in pattern:
                bare = bare_name(pattern)
                self._globs += [bare, f"{bare}.*"] + ([] if "layers." in pattern else [f"*.{bare}", f"*.{bare}.*"])
            else:
                self._exact.add(bare_name(pattern))

    def have(self, names: Sequence[str]) -> bool:
        """Whether one of the names that a module may have is among them."""
        return any(name in self for name in names)

    def __contains__(self, name: str) -> bool:
        parts = name.split(".")
        if any(".".join(parts[:end]) in self._exact for end in range(1, len(parts) + 1)):
            return True
        if any(fnmatchcase(name, pattern) for pattern in self._globs):
            return True
        return any(regex.match(f"model.{name}") or regex.match(name) for regex in self._regexes)

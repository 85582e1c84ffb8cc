"""Checkpoints that several test files need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from specsim.reference.network.checkpoint import Checkpoint

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 67, "hidden_size": 24,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 40,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-3, "rope_theta": 500.0, "tie_word_embeddings": False,
}  # fmt: skip


def _random_checkpoint(seed: int = 0, **changes: Any) -> Checkpoint:
    """A tiny Llama whose layers all matter: normal matrices, norms around one."""
    torch = pytest.importorskip("torch")
    from specsim.reference.network.checkpoint import Checkpoint

    config = CONFIG | changes
    generator = torch.Generator().manual_seed(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]

    def normal(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return 1 + 0.2 * values if len(shape) == 1 else values * shape[1] ** -0.5

    tensors = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden), "model.norm.weight": normal(hidden)}
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        shapes = {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        tensors |= {f"model.layers.{layer}.{name}.weight": normal(*shape) for name, shape in shapes.items()}
    return Checkpoint(config, tensors, "tiny")


@pytest.fixture(scope="session")
def random_checkpoint() -> Callable[..., Checkpoint]:
    """Makes a tiny float64 Llama from a seed and changes to its config.json."""
    return _random_checkpoint

"""Folders in Hugging Face layout: what is written is read back, and runs as the plain equations say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor  # noqa: E402

from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.decoding.generate import Engine, generate  # noqa: E402
from specsim.reference.decoding.models import load_transformer  # noqa: E402
from specsim.reference.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from specsim.reference.network.transformer import TokenGroup, Transformer  # noqa: E402

pytestmark = pytest.mark.torch

Make = Callable[..., Checkpoint]


def plain_states(checkpoint: Checkpoint, tokens: Tensor) -> list[Tensor]:
    """The residual stream before and after each layer, then the final normed states; from the Llama equations."""
    config, t = checkpoint.config, checkpoint.tensors
    e, eps = config["head_dim"], config["rms_norm_eps"]
    angles = torch.outer(
        torch.arange(len(tokens)).double(), config["rope_theta"] ** (-torch.arange(0, e, 2).double() / e)
    )
    turns = torch.polar(torch.ones_like(angles), angles)

    def norm(x: Tensor, name: str) -> Tensor:
        return t[f"{name}.weight"].double() * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()

    def heads(x: Tensor, *, turned: bool) -> Tensor:
        split = x.view(len(tokens), -1, e).transpose(0, 1)
        if not turned:
            return split
        y = torch.complex(split[..., : e // 2].contiguous(), split[..., e // 2 :].contiguous()) * turns
        return torch.cat((y.real, y.imag), -1)

    x = F.embedding(tokens, t["model.embed_tokens.weight"].double())
    stream = [x]
    seen = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
    for layer in range(config["num_hidden_layers"]):
        place = f"model.layers.{layer}"
        w = {k.removeprefix(f"{place}."): v.double() for k, v in t.items() if k.startswith(f"{place}.")}
        y = norm(x, f"{place}.input_layernorm")
        q, k, v = (heads(y @ w[f"self_attn.{n}_proj.weight"].T, turned=n != "v") for n in "qkv")
        k, v = (z.repeat_interleave(len(q) // len(k), 0) for z in (k, v))
        scores = (q @ k.transpose(1, 2) / e**0.5).masked_fill(~seen, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(tokens), -1)
        x = x + mixed @ w["self_attn.o_proj.weight"].T
        y = norm(x, f"{place}.post_attention_layernorm")
        gated = F.silu(y @ w["mlp.gate_proj.weight"].T) * (y @ w["mlp.up_proj.weight"].T)
        x = x + gated @ w["mlp.down_proj.weight"].T
        stream.append(x)
    return [*stream, norm(x, "model.norm")]


def plain_logits(checkpoint: Checkpoint, tokens: Tensor) -> Tensor:
    head = checkpoint.tensors.get("lm_head.weight", checkpoint.tensors["model.embed_tokens.weight"])
    return plain_states(checkpoint, tokens)[-1] @ head.double().T


def load(checkpoint: Checkpoint, dtype: torch.dtype = torch.float64) -> Transformer:
    return load_transformer(checkpoint, device="cpu", dtype=dtype, max_sequences=3, max_length=96)


def logits(model: Transformer, tokens: Tensor) -> Tensor:
    return model.forward([TokenGroup(np.array([0]), tokens[None], np.array([0]), len(tokens))])


def text(length: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 67, length))


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_read_back_computes_the_plain_forward(tmp_path: Path, tied: bool, random_checkpoint: Make) -> None:
    checkpoint = random_checkpoint(tie_word_embeddings=tied)
    write_checkpoint(checkpoint, tmp_path / "model")
    model = load(read_checkpoint(tmp_path / "model"))
    tokens = text(40)
    assert torch.allclose(logits(model, tokens), plain_logits(checkpoint, tokens), rtol=0, atol=1e-9)


def test_greedy_output_of_the_engine_is_that_of_the_plain_forward(random_checkpoint: Make) -> None:
    checkpoint = random_checkpoint(seed=1)
    prompts = [text(n, seed=n).numpy() for n in (5, 9, 17)]
    outputs = generate(Engine(load(checkpoint)), prompts, [20] * 3)[0]
    for prompt, output in zip(prompts, outputs, strict=True):
        known = torch.from_numpy(prompt)
        for _ in range(20):
            known = torch.cat((known, plain_logits(checkpoint, known)[-1:].argmax(-1)))
        assert output.tolist() == known[len(prompt) :].tolist()


def test_both_spellings_of_the_rotary_base_are_read(random_checkpoint: Make) -> None:
    old = random_checkpoint()
    config = {key: value for key, value in old.config.items() if key != "rope_theta"}
    new = Checkpoint({**config, "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}, old.tensors)
    assert new.rotary_base == old.rotary_base == 500.0
    assert torch.equal(logits(load(new), text(30)), logits(load(old), text(30)))


def test_scaled_rotary_positions_are_refused(random_checkpoint: Make) -> None:
    scaled = random_checkpoint(rope_scaling={"rope_type": "llama3", "factor": 8.0})
    with pytest.raises(InvalidInput, match="llama3"):
        load(scaled)


def test_incomplete_or_foreign_weights_are_refused(tmp_path: Path, random_checkpoint: Make) -> None:
    whole = random_checkpoint()
    with pytest.raises(InvalidInput, match=r"no weight 'model\.norm\.weight'"):
        load(Checkpoint(whole.config, {k: v for k, v in whole.tensors.items() if k != "model.norm.weight"}))
    with pytest.raises(InvalidInput, match=r"is \(40, 24\) and the model's shape says \(44, 24\)"):
        load(Checkpoint({**whole.config, "intermediate_size": 44}, whole.tensors))
    with pytest.raises(InvalidInput, match="give a model's folder"):
        read_checkpoint(tmp_path)


def test_damaged_files_are_one_line(tmp_path: Path, random_checkpoint: Make) -> None:
    write_checkpoint(random_checkpoint(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(InvalidInput, match="damaged"):
        read_checkpoint(tmp_path)


def test_config_survives_the_round_trip(tmp_path: Path, random_checkpoint: Make) -> None:
    checkpoint = random_checkpoint()
    write_checkpoint(checkpoint, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == checkpoint.config

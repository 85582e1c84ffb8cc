"""Heads that only draft, by what they are: which technique, how large, on which of the target's states.

They come as config.json of their own: with a class of vLLM's or SGLang's (``LlamaForCausalLMEagle3``,
``DFlashDraftModel``, ``...NextN``), as Medusa's few keys, or in the ``speculators`` format. None is a whole model: it
has a few layers, sometimes a vocabulary of its own, and reads hidden states of a target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.huggingface.config_file import read_config
from specsim.interop.huggingface.keys import Keys

# What a class, model_type or speculators_model_type says, and the technique; the first that fits.
_WORDS = (
    ("dflash", "dflash"),
    ("dspark", "dspark"),
    (r"p_?eagle|parallel_?eagle", "p-eagle"),
    ("eagle_?3", "eagle3"),
    ("eagle", "eagle"),
    ("medusa", "medusa"),
    ("hydra", "hydra"),
    (r"mlp_?speculator", "mlp-speculator"),
    (r"next_?n|mtp", "mtp"),
)
_MARKS = (
    ("dflash_config", "dflash"),
    ("markov_rank", "dspark"),
    ("medusa_num_heads", "medusa"),
    ("eagle_config", "eagle3"),
    ("draft_vocab_size", "eagle3"),
)


_USUAL_STATES = {"eagle3": 3, "p-eagle": 3, "dflash": 5, "dspark": 5}


@dataclass(frozen=True, slots=True)
class HeadLayers:
    """Widths of a head's own decoder layers."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int


@dataclass(frozen=True, slots=True)
class DraftHead:
    """A head. ``layers`` decoder layers of ``shape`` (None: the target's own shape), or ``heads`` heads of Medusa.

    ``states``: of how many target layers it reads the hidden states, ``target_hidden_size`` wide (None: as its own).
    ``vocabulary``: rows of its own output matrix, None where it uses the target's. ``block``: positions that one
    parallel pass fills. ``max_position``: positions it was trained for. ``rank``: of a table that conditions each
    draft on the one before (DSpark's Markov head). ``target_vocabulary``: tokens of the target that it was made for.
    ``simplified``: what of its layers is taken as something simpler.
    """

    technique: str
    where: str
    layers: int = 1
    shape: HeadLayers | None = None
    states: int = 1
    target_hidden_size: int | None = None
    vocabulary: int | None = None
    block: int | None = None
    heads: int = 0
    rank: int = 0
    max_position: int | None = None
    target_vocabulary: int | None = None
    simplified: tuple[str, ...] = ()


def technique_of(content: Mapping[str, Any]) -> tuple[str, str] | None:
    """(technique, what tells it) of a head's config.json; None for a whole model."""
    classes = content.get("architectures")
    told = (
        content.get("speculators_model_type"),
        *(classes if isinstance(classes, list) else ()),
        content.get("model_type"),
    )
    words = ((name, str(text)) for text in told if text for word, name in _WORDS if re.search(word, str(text), re.I))
    found = next(words, None)
    if found is None:
        found = next(((name, mark) for mark, name in _MARKS if content.get(mark) is not None), None)
    if (
        found is not None
        and found[0] == "eagle3"
        and (content.get("parallel_drafting") or content.get("ptd_token_id"))
    ):
        return "p-eagle", found[1]
    return found


def refuse_draft_head(content: Mapping[str, Any], where: str) -> None:
    """Raises InvalidInput where a whole model is wanted and the file tells a head."""
    found = technique_of(content)
    if found is not None:
        raise InvalidInput(
            f"{where} describes a draft head ({found[1]}), not a whole model; give it as speculation.program, which "
            f"takes its own size, or choose program {found[0]}"
        )


def read_draft_head(config: Mapping[str, Any] | Path | str) -> DraftHead:
    """A head's config.json: a path to it, to its folder, or its parsed content.

    Raises InvalidInput for a file that is missing or malformed, or that tells a whole model.
    """
    content, where, _ = read_config(config)
    found = technique_of(content)
    if found is None:
        raise InvalidInput(f"{where} describes no draft head; give it as model or draft_model")
    technique, keys = found[0], Keys(content, where)
    if technique == "medusa":
        return DraftHead(
            technique, where, layers=keys.size("medusa_num_layers", default=1), heads=keys.size("medusa_num_heads")
        )
    inner = keys.section("transformer_layer_config") if keys.has("transformer_layer_config") else keys
    eagle = keys.section("eagle_config", "dflash_config")
    aux = ("eagle_aux_hidden_state_layer_ids", "aux_hidden_state_layer_ids", "target_layer_ids")
    states = len(keys.items(*aux) or eagle.items(*aux)) or _USUAL_STATES.get(technique, 1)
    rows, target_rows = keys.optional("draft_vocab_size"), inner.optional("vocab_size")
    own = rows if technique in ("eagle3", "p-eagle", "dspark") or rows != target_rows else None
    return DraftHead(
        technique,
        where,
        layers=inner.size("num_hidden_layers", "num_nextn_predict_layers", default=1),
        shape=None if technique == "mtp" else _shape(inner),
        states=states,
        target_hidden_size=keys.optional("target_hidden_size"),
        vocabulary=own or (target_rows if technique in ("eagle3", "p-eagle") else None),
        block=keys.optional("block_size"),
        rank=_rank(keys),
        max_position=inner.optional("max_position_embeddings"),
        target_vocabulary=target_rows,
        simplified=() if technique == "mtp" else tuple(_simplified(inner, eagle)),
    )


def _rank(keys: Keys) -> int:
    """Of the Markov head, wherever a framework writes it."""
    found = (
        part.count("markov_rank") for part in (keys, keys.section("dspark_config"), keys.section("dflash_config"))
    )
    return next((rank for rank in found if rank), 0)


def _simplified(layers: Keys, block: Keys) -> Iterator[str]:
    """What the layers have beyond full attention and a dense MLP, and what stands in for it."""
    experts = layers.optional("n_routed_experts", "num_local_experts", "num_experts")
    if experts is not None:
        yield f"{experts} experts are priced as one dense MLP of intermediate_size"
    if layers.has("kv_lora_rank"):
        yield "latent attention is priced as attention with a head of KV for each of its query heads"
    modes = {str(mode) for mode in block.items("attention_modes")} - {"gqa"}
    if modes:
        yield f"{' and '.join(sorted(modes))} layers are priced as full attention"
    if layers.has("sliding_window") and layers.flag("use_sliding_window", default=True):
        yield "windows of attention are priced as full attention"


def _shape(keys: Keys) -> HeadLayers:
    hidden, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    return HeadLayers(
        hidden,
        heads,
        keys.size("num_key_value_heads", default=heads),
        keys.size("head_dim", default=max(1, hidden // heads)),
        keys.size("intermediate_size"),
    )

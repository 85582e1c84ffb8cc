"""A Hugging Face ``config.json`` read into a ModelSpec, without transformers; it opens no weights, downloads nothing.

    keys.py                facts under their many names, each checked where it is taken
    families.yaml          what each model_type fixes in its code, and which readers tell its layers
    attention_layers.py, expert_layers.py, state_layers.py, family_facts.py    those readers
    quantization.py        bits of every matrix, scales included
    draft_head.py          heads that only draft, by what they are
    model_config.py        all of it put together

Field names follow transformers' configuration classes; their aliases, vLLM's ``model_arch_config_convertor``.
"""

from specsim.interop.huggingface.model_config import covered_families, model_from_config

__all__ = ["covered_families", "model_from_config"]

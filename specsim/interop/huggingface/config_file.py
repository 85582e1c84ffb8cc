"""A model's config.json as it lies in its folder: its content, its text part, and what is beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from specsim.errors import InvalidInput
from specsim.json_file import read_json_object

_SHARED = ("quantization_config", "compression_config", "dtype", "torch_dtype", "tie_word_embeddings")
_NESTS = ("text_config", "llm_config", "language_config")
_OTHER_FILES = {  # by a key that config.json has not
    "peft_type": "a LoRA adapter's configuration; give the config.json of the model that it adapts",
    "tokenizer_class": "a tokenizer's configuration",
    "weight_map": "a checkpoint's index",
    "_class_name": "a diffusion model's configuration, which is no language model's",
    "image_processor_type": "an image processor's configuration",
    "producer": "a quantiser's side file",
    "n_kv_heads": "the params.json of Mistral's or Meta's own format; give the config.json of the same checkpoint",
    "temperature": "a generation configuration",
}


class ConfigFile(NamedTuple):
    """``where``: the file, in messages; ``name``: what it or its folder is called, None where nothing says."""

    content: dict[str, Any]
    where: str
    name: str | None


def read_config(config: Mapping[str, Any] | Path | str) -> ConfigFile:
    """A path to the file, to its folder, or its parsed content.

    Raises InvalidInput for a file that is missing or malformed.
    """
    if isinstance(config, Mapping):
        named = config.get("_name_or_path")
        return ConfigFile(dict(config), "config.json", str(named) if named else None)
    path = Path(config)
    file = path / "config.json" if path.is_dir() else path
    content = _json(file)
    side_file = file.parent / "hf_quant_config.json"
    if "quantization_config" not in content and side_file.is_file():
        content["quantization_config"] = _json(side_file).get("quantization")
    return ConfigFile(content, str(file), file.resolve().parent.name)


def text_part(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The language model of a multimodal file, with what the file states once for all its parts."""
    outer = raw.get("thinker_config")
    outer = outer if isinstance(outer, dict) else raw
    inner = next((outer[nest] for nest in _NESTS if isinstance(outer.get(nest), dict)), None)
    if inner is None:
        return dict(raw)
    kept = {key: raw[key] for key in _SHARED if key in raw}
    if "model_type" not in inner:
        kept["model_type"] = raw.get("model_type")
    return {**inner, **{key: value for key, value in kept.items() if inner.get(key) is None}}


def refuse_other_files(content: Mapping[str, Any], where: str) -> None:
    """Raises InvalidInput for a file without ``model_type``: which one it is, or that the field is missing."""
    if content.get("model_type") is not None:
        return
    told = next((what for key, what in _OTHER_FILES.items() if key in content), None)
    if told is None:
        raise InvalidInput(f"{where}: field model_type is missing; give the config.json of a model")
    raise InvalidInput(f"{where} is {told}{'' if ';' in told else '; give the config.json beside it'}")


def _json(file: Path) -> dict[str, Any]:
    return read_json_object(file, "a model's config.json")

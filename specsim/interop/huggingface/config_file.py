"""A model's config.json as it lies in its folder: its content, its text part, and what is beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from specsim.json_file import read_json_object

_SHARED = ("quantization_config", "compression_config", "dtype", "torch_dtype", "tie_word_embeddings")
_NESTS = ("text_config", "llm_config", "language_config")


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


def _json(file: Path) -> dict[str, Any]:
    return read_json_object(file, "a model's config.json")

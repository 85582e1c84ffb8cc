"""A model's folder in Hugging Face layout (config.json, *.safetensors), read and written without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.huggingface import model_from_config
from specsim.specs.model import ModelSpec

DEFAULT_NORM_EPSILON = 1e-6  # transformers' default for Llama, where config.json is silent
DEFAULT_ROTARY_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder says of a model (``config``) and its weights by name, as stored."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    name: str = "checkpoint"

    @property
    def spec(self) -> ModelSpec:
        """The model's shape; raises InvalidInput where config.json has none that the package knows."""
        return model_from_config({**self.config}, name=self.name)

    @property
    def norm_epsilon(self) -> float:
        return float(self.config.get("rms_norm_eps", DEFAULT_NORM_EPSILON))

    @property
    def rotary_base(self) -> float:
        """Base of the rotary angles; raises InvalidInput where they are scaled (Llama 3.1 and others)."""
        parameters = self.config.get("rope_parameters") or {}
        scaling = {**(self.config.get("rope_scaling") or {}), **parameters}
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind != "default":
            raise InvalidInput(f"{self.name} scales its rotary positions ({kind}); choose a model that does not")
        return float(parameters.get("rope_theta", self.config.get("rope_theta", DEFAULT_ROTARY_BASE)))

    def tensor(self, name: str) -> Tensor:
        """One weight; raises InvalidInput if the folder has none of that name."""
        if name not in self.tensors:
            raise InvalidInput(f"{self.name} has no weight {name!r}; its files are incomplete or not a Llama's")
        return self.tensors[name]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read config.json and every *.safetensors file of ``folder``.

    Raises InvalidInput for a folder without them, NoAnswer without the safetensors package.
    """
    config, files = folder / "config.json", sorted(folder.glob("*.safetensors"))
    if not config.is_file() or not files:
        bundled = "bundled" in folder.parts  # an installed package leaves the weights in the repository
        next_step = "clone the repository, whose validation/models holds them" if bundled else "give a model's folder"
        raise InvalidInput(f"{folder} has no config.json with *.safetensors beside it; {next_step}")
    load_file = _safetensors().load_file
    tensors: dict[str, Tensor] = {}
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        for file in files:
            tensors |= load_file(file)
    except (ValueError, OSError, _safetensors_error()) as error:
        raise InvalidInput(f"cannot read {folder}: {error}; its files are damaged, fetch them again") from None
    return Checkpoint(content, tensors, folder.resolve().name)


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config.json and one model.safetensors; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**checkpoint.config}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    _safetensors().save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise NoAnswer('weights need the safetensors package: pip install "llm-specsim[models]"') from None
    return safetensors.torch


def _safetensors_error() -> type[Exception]:
    import safetensors

    error: type[Exception] = safetensors.SafetensorError
    return error

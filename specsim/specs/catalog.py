"""The models and hardware that specsim knows by name, or reads from a YAML file of the user's.

Answers which ModelSpec or Hardware a name in a scenario means. It does not read other tools' formats.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from specsim.errors import InvalidInput, unknown_name
from specsim.named_files import file_named
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.specs.yaml_file import Spec, read_yaml

_PRESETS = Path(__file__).parent / "presets"
_MODELS = _PRESETS / "models"
_HARDWARE = _PRESETS / "hardware"


def load_model(ref: str | Path) -> ModelSpec:
    """The model of a preset's name, of a name on the hub, or of a YAML file; names are read as by ``find_model``.

    Raises InvalidInput for an unknown name (with the nearest, or with the way to its file), a missing file or a wrong
    field.
    """
    name = str(ref)
    found = find_model(name)
    if found is None and _is_hub_name(name):
        raise InvalidInput(
            f"model {name!r} is not bundled; download its config.json (hf download {name} config.json --local-dir "
            "DIR) and give the folder DIR as the model"
        )
    return _load("model", found or ref, _MODELS, ModelSpec)


def find_model(name: str) -> str | None:
    """The preset that a name means: its own in any spelling, or one of the hub; None if it is none.

    A hub name (``meta-llama/Llama-3.1-8B-Instruct``), with its owner or without, means the preset that cites it, or
    one of the same name but for how it was tuned.
    """
    if name.lower().endswith((".yaml", ".yml")) or ("/" in name and not _is_hub_name(name)):
        return None
    if name.lower() in model_names():
        return name.lower()
    hub = _hub_names().get(_untuned(name))
    return hub or next((known for known in model_names() if _plain(known) == _plain(name)), None)


def load_hardware(ref: str | Path) -> Hardware:
    """The hardware of a preset's name (any case), of another name of it, or of a YAML file; ``load_hardware("h200")``.

    Raises InvalidInput for an unknown name (with the nearest), a missing file or a wrong field.
    """
    name = "-".join(str(ref).lower().split())
    found = name if name in _names(_HARDWARE) else _other_names().get(name, ref)
    return _load("hardware", found, _HARDWARE, Hardware)


def model_names() -> tuple[str, ...]:
    """Names of the model presets, in alphabetical order."""
    return _names(_MODELS)


def hardware_names() -> tuple[str, ...]:
    """Names of the hardware presets, in alphabetical order."""
    return _names(_HARDWARE)


def smallest_of_vocabulary(target: ModelSpec) -> str | None:
    """The smallest model preset that is smaller than the target and has as many tokens in its vocabulary."""
    specs = {name: load_model(name) for name in model_names()}
    sizes = {name: spec.parameter_count() for name, spec in specs.items() if spec.vocab_size == target.vocab_size}
    smaller = {name: size for name, size in sizes.items() if size < target.parameter_count()}
    return min(smaller, key=smaller.__getitem__, default=None)


@cache
def _hub_names() -> dict[str, str]:
    """Presets by the hub names that their sources cite."""
    found: dict[str, str] = {}
    for name in model_names():
        text = (_MODELS / f"{name}.yaml").read_text(encoding="utf-8")
        for cited in re.findall(r"huggingface\.co/([\w.-]+/[\w.-]*\w)", text):
            found.setdefault(_untuned(cited), name)
    return found


def _untuned(hub_name: str) -> str:
    """A name without its owner and what tells how a model of the same shape was tuned, when, or stored in 16 bits."""
    name = hub_name.split("/")[-1].lower().removeprefix("meta-")
    return re.sub(r"(-(instruct|it|chat|base|thinking|hf|bf16|sft|\d{4}))+$", "", name)


def _is_hub_name(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _plain(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())


@cache
def _other_names() -> dict[str, str]:
    """Hardware presets by what else they are called, by engines and drivers among others."""
    return {other: name for name in hardware_names() for other in load_hardware(name).also}


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def _load(kind: str, ref: str | Path, folder: Path, model: type[Spec]) -> Spec:
    name = str(ref).lower()
    if name in _names(folder):
        bundled: Spec = _preset(folder / f"{name}.yaml", model)
        return bundled
    if Path(ref).suffix.lower() in {".yaml", ".yml"}:
        return read_yaml(file_named(ref), model)
    raise unknown_name(kind, str(ref), _names(folder))


@cache
def _preset(file: Path, model: type[BaseModel]) -> Any:
    """A bundled file, read once; models of it never change."""
    return read_yaml(file, model)

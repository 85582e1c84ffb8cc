"""The models and hardware that specsim knows by name, or reads from a YAML file of the user's.

Answers which ModelSpec or Hardware a name in a scenario means. It does not read other tools' formats.
"""

from __future__ import annotations

from pathlib import Path

from specsim.errors import unknown_name
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.specs.yaml_file import Model, read_yaml

_PRESETS = Path(__file__).parent / "presets"
_MODELS = _PRESETS / "models"
_HARDWARE = _PRESETS / "hardware"


def load_model(ref: str | Path) -> ModelSpec:
    """The model of a preset's name (any case) or of a YAML file; ``load_model("Llama-3.1-8B")``.

    Raises InvalidInput for an unknown name (with the nearest), a missing file or a wrong field.
    """
    return _load("model", ref, _MODELS, ModelSpec)


def load_hardware(ref: str | Path) -> Hardware:
    """The hardware of a preset's name (any case) or of a YAML file; ``load_hardware("h200")``.

    Raises InvalidInput for an unknown name (with the nearest), a missing file or a wrong field.
    """
    return _load("hardware", ref, _HARDWARE, Hardware)


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


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def _load(kind: str, ref: str | Path, folder: Path, model: type[Model]) -> Model:
    name = str(ref).lower()
    if name in _names(folder):
        return read_yaml(folder / f"{name}.yaml", model)
    if Path(ref).suffix.lower() in {".yaml", ".yml"}:
        return read_yaml(ref, model)
    raise unknown_name(kind, str(ref), _names(folder))

"""A drafter by whatever it is called, and what a scenario takes over from the drafter it had before: nothing."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from specsim.errors import InvalidInput, unknown_name
from specsim.named_files import is_file, is_folder
from specsim.scenario.model_reference import read_model
from specsim.specs.catalog import find_model, model_names, smallest_of_vocabulary
from specsim.specs.model import ModelSpec
from specsim.speculation.program import find_program, load_program, program_names

OFF = {"none", "off", "no", "false", ""}


def drafter_fields(reference: str) -> dict[str, Any] | None:
    """The ``speculation`` of a technique's name, a head's file or folder, or a draft model's name; None: off.

    ``eagle-3`` and ``EAGLE3`` are the program eagle3, ``qwen3-0.6b`` is the program draft-model with that model.
    Raises InvalidInput for a name of neither.
    """
    if reference.lower() in OFF:
        return None
    program = find_program(reference)
    if program is not None:
        return {"program": program}
    if is_file(reference) or is_folder(reference) or reference.endswith((".yaml", ".yml", ".json")):
        return {"program": reference}
    model = find_model(reference)
    if model is not None:
        return {"program": "draft-model", "draft_model": model}
    raise unknown_name("drafter", reference, [*program_names(), *model_names()])


def is_another(speculation: object, program: object) -> bool:
    """Whether ``program`` is not the one that a scenario's ``speculation`` has."""
    before = speculation.get("program") if isinstance(speculation, dict) else None
    names = [find_program(one) or one if isinstance(one, str) else one for one in (before, program)]
    return bool(names[0] != names[1])


def forget_drafter(data: dict[str, Any]) -> None:
    """Take out of a scenario's fields what holds for its drafter alone, acceptance of classes and weights too."""
    data.pop("speculation", None)
    workload = data.get("workload")
    for one in (workload.get("classes") or ()) if isinstance(workload, dict) else ():
        if isinstance(one, dict):
            one.pop("acceptance", None)
    if isinstance(weights := data.get("weights"), dict):
        weights.pop("drafter", None)


def name_draft_model(data: dict[str, Any]) -> tuple[str, ...]:
    """Fill in the draft model that the program needs and nobody named; what was assumed for it.

    Raises InvalidInput where no bundled model is smaller and shares the vocabulary.
    """
    speculation, target = data.get("speculation"), target_of(data)
    if target is None or not isinstance(speculation, dict) or speculation.get("draft_model") is not None:
        return ()
    program = speculation.get("program")
    name = find_program(program) if isinstance(program, str) else None
    if name is None or not load_program(name).needs_draft_model:
        return ()
    draft = smallest_of_vocabulary(target)
    if draft is None:
        raise InvalidInput(
            f"program {name!r} needs a draft_model and no bundled model is smaller than {target.name} and shares its "
            "vocabulary; name one"
        )
    speculation["draft_model"] = draft
    return (f"draft model {draft}, the smallest bundled one of {target.name}'s vocabulary",)


def target_of(data: dict[str, Any]) -> ModelSpec | None:
    """The model of a scenario's fields; None where they do not say a valid one, which building it tells."""
    try:
        return ModelSpec.model_validate(read_model(data.get("model")))
    except (InvalidInput, ValidationError):
        return None

"""A scenario read from a YAML file or a bundled name, with settings applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specsim.errors import Faults, InvalidInput, shown, unknown_name
from specsim.scenario.drafter import forget_drafter, is_another, name_draft_model
from specsim.scenario.natural_names import field_path, with_field_names
from specsim.scenario.question import Scenario
from specsim.specs.yaml_file import build, read_mapping
from specsim.specs.yaml_text import parse_yaml

PRESETS = Path(__file__).parents[1] / "presets"


def scenario_names() -> list[str]:
    """Names of the bundled scenarios."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_scenario(reference: str, settings: Sequence[str] = (), *, settings_folder: Path | None = None) -> Scenario:
    """A scenario by bundled name or YAML path, with ``path.to.field=value`` settings applied.

    Relative paths in settings count from the working directory, or from ``settings_folder``. Settings that change
    the drafter bring what that one offers by default, acceptance included.

    Raises InvalidInput: unknown name, missing file, malformed field, a setting that names no field.

    >>> specsim.load_scenario("cpu-144m", ["speculation.max_draft_tokens=3"])
    <Scenario cpu-144m: llama-144m on cpu-amd-epyc-family-25-model-17-2-threads, llama-6m k=3>
    """
    data, where = read_fields(reference)
    faults = Faults()
    with faults.kept():
        apply_settings(data, settings)
    if settings_folder is not None:
        _resolve_paths(data, settings_folder)
    with faults.kept():
        scenario = build(Scenario, data, where=where)
    faults.tell()
    return scenario


def read_fields(reference: str) -> tuple[dict[str, Any], str]:
    """The fields of a scenario's file, unchecked, under their own names, and which file it is."""
    path = _find(reference)
    data = with_field_names(read_mapping(path))
    _resolve_paths(data, path.parent)
    return data, str(path)


def scenario_of(fields: dict[str, Any], *, folder: Path, where: str) -> Scenario:
    """A scenario of fields that another file holds; relative paths count from ``folder``.

    Raises InvalidInput, which names ``where``, for a malformed field.
    """
    _resolve_paths(fields, folder)
    return build(Scenario, fields, where=where)


def _find(reference: str) -> Path:
    if reference.endswith((".yaml", ".yml", ".gz")) or "/" in reference:
        return Path(reference)
    names = scenario_names()
    if reference not in names:
        if Path(reference).is_file():
            return Path(reference)
        raise unknown_name("scenario", reference, names)
    return PRESETS / f"{reference}.yaml"


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make file references in the scenario relative to its own folder."""
    workload = data.get("workload")
    classes = workload.get("classes") if isinstance(workload, dict) else None
    sections = [one for one in (workload, data.get("speculation"), *(classes or ())) if isinstance(one, dict)]
    laws = [one.get(kind) for one in sections for kind in ("lengths", "acceptance")]
    spots: tuple[tuple[Any, str], ...] = (
        *((one, "acceptance") for one in sections),
        (data, "model"),
        (data, "gpu"),
        (data.get("speculation"), "program"),
        (data.get("speculation"), "draft_model"),
        (workload, "path"),
        *((law, "path") for law in laws),
        (data.get("cost"), "profile"),
    )
    for owner, key in spots:
        value = owner.get(key) if isinstance(owner, dict) else None
        if isinstance(value, str) and not Path(value).is_absolute() and (folder / value).exists():
            owner[key] = str((folder / value).resolve())
    if isinstance(weights := data.get("weights"), dict):
        for key, value in weights.items():
            if isinstance(value, str):  # a path and nothing else, so that one of a missing file names its place too
                weights[key] = str((folder / value).resolve())


def apply_settings(data: dict[str, Any], settings: Sequence[str]) -> tuple[str, ...]:
    """Settings of one occasion, in any order; what was assumed for them.

    One that changes the drafter first takes out what held for the old one. Raises InvalidInput for all that cannot be
    applied, once the others are.
    """
    faults, changes = Faults(), []
    for setting in settings:
        with faults.kept():
            changes.append(_read_setting(setting))
    programs = [value for keys, value, _ in changes if keys == ["speculation", "program"]]
    another = bool(programs) and is_another(data.get("speculation"), programs[-1])
    if another:
        forget_drafter(data)
    for keys, value, setting in changes:
        with faults.kept():
            _apply(data, keys, value, setting)
    assumed: tuple[str, ...] = ()
    with faults.kept():
        assumed = name_draft_model(data) if another else ()
    faults.tell()
    return assumed


def _read_setting(setting: str) -> tuple[list[str], Any, str]:
    path, separator, text = setting.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise InvalidInput(f"--set {shown(setting)} is not path.to.field=value; write for instance --set seed=1")
    try:
        return field_path(keys), parse_yaml(text), setting
    except ValueError as error:
        raise InvalidInput(f"--set {shown(setting)}{error}; quote the value or correct it") from None


def _apply(data: dict[str, Any], keys: list[str], value: Any, setting: str) -> None:
    owner = data
    for key in keys[:-1]:
        if owner.get(key) is None:
            owner[key] = {}
        owner = owner[key]
        if not isinstance(owner, dict):
            raise InvalidInput(f"--set {shown(setting)}: {key!r} holds a single value; set it as a whole")
    owner[keys[-1]] = value


def section(data: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of a scenario's fields, made if it is missing."""
    if data.get(name) is None:
        data[name] = {}
    found = data[name]
    if not isinstance(found, dict):
        raise InvalidInput(f"{name} is {shown(found)} and short options change its fields; write {{name: value}}")
    return found

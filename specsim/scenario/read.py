"""A scenario read from a YAML file or a bundled name, with settings applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, shown, unknown_name
from specsim.scenario.question import Scenario
from specsim.specs.yaml_file import build, read_mapping
from specsim.specs.yaml_text import parse_yaml

PRESETS = Path(__file__).parents[1] / "presets"


def scenario_names() -> list[str]:
    """Names of the bundled scenarios."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_scenario(reference: str, settings: Sequence[str] = (), *, settings_folder: Path | None = None) -> Scenario:
    """A scenario by bundled name or YAML path, with ``path.to.field=value`` settings applied.

    Relative paths in settings count from the working directory, or from ``settings_folder``.

    Raises InvalidInput: unknown name, missing file, malformed field, a setting that names no field.
    """
    path = _find(reference)
    data = read_mapping(path)
    _resolve_paths(data, path.parent)
    for setting in settings:
        _apply(data, setting)
    if settings_folder is not None:
        _resolve_paths(data, settings_folder)
    return build(Scenario, data, where=str(path))


def scenario_of(fields: dict[str, Any], *, folder: Path, where: str) -> Scenario:
    """A scenario of fields that another file holds; relative paths count from ``folder``.

    Raises InvalidInput, which names ``where``, for a malformed field.
    """
    _resolve_paths(fields, folder)
    return build(Scenario, fields, where=where)


def _find(reference: str) -> Path:
    if reference.endswith((".yaml", ".yml")) or "/" in reference:
        return Path(reference)
    names = scenario_names()
    if reference not in names:
        raise unknown_name("scenario", reference, names)
    return PRESETS / f"{reference}.yaml"


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make file references in the scenario relative to its own folder."""
    workload = data.get("workload")
    classes = workload.get("classes") if isinstance(workload, dict) else None
    sections = [one for one in (workload, data.get("speculation"), *(classes or ())) if isinstance(one, dict)]
    laws = [one.get(kind) for one in sections for kind in ("lengths", "acceptance")]
    spots: tuple[tuple[Any, str], ...] = (
        (data, "model"), (data, "gpu"), (data.get("speculation"), "program"), (data.get("speculation"), "draft_model"),
        (workload, "path"), *((law, "path") for law in laws), (data.get("cost"), "profile"),
    )  # fmt: skip
    for owner, key in spots:
        value = owner.get(key) if isinstance(owner, dict) else None
        if isinstance(value, str) and not Path(value).is_absolute() and (folder / value).exists():
            owner[key] = str((folder / value).resolve())
    if isinstance(weights := data.get("weights"), dict):
        for key, value in weights.items():
            if isinstance(value, str):  # a path and nothing else, so that one of a missing file names its place too
                weights[key] = str((folder / value).resolve())


def _apply(data: dict[str, Any], setting: str) -> None:
    path, separator, text = setting.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise InvalidInput(f"--set {shown(setting)} is not path.to.field=value; write for instance --set seed=1")
    owner = data
    for key in keys[:-1]:
        if owner.get(key) is None:
            owner[key] = {}
        owner = owner[key]
        if not isinstance(owner, dict):
            raise InvalidInput(f"--set {shown(setting)}: {key!r} holds a single value; set it as a whole")
    try:
        owner[keys[-1]] = parse_yaml(text)
    except ValueError as error:
        raise InvalidInput(f"--set {shown(setting)}{error}; quote the value or correct it") from None

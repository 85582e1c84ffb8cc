"""``specsim profile compose``: do a profile's kernels add up to whole passes of a model it knows nothing of?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.options import JsonOption, console, messages, print_json, require_torch
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.profiling.sweep.composition import Composition


def compose(
    folder: Annotated[Path, typer.Argument(help="Folder with model.yaml; predicted.csv and measured.csv go there.")],
    profile: Annotated[str | None, typer.Option(help="Predict from this profile; nothing is measured.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the predicted passes on this machine.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    repeats: Annotated[int, typer.Option(help="Visits of every pass.", min=1)] = 3,
    now: Annotated[str | None, typer.Option(help="A profile: also price each pass in its conditions.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict whole passes from single kernels, measure them, compare. Without options: compare what is there."""
    require_torch()
    from specsim.profiles.store import load_profile
    from specsim.profiling.sweep import composition
    from specsim.specs.model import ModelSpec
    from specsim.specs.yaml_file import read_yaml

    spec = read_yaml(folder / "model.yaml", ModelSpec)
    if profile is not None:
        if (folder / composition.MEASURED).exists():
            raise InvalidInput(
                f"{folder} already holds measured passes; a prediction comes first: predict in another folder"
            )
        messages().print(f"wrote {composition.predict(profile, spec, folder)}; commit it, then --measure")
    if measure:
        composition.measure(spec, folder, device=device, repeats=repeats)
    if not (folder / composition.MEASURED).exists():
        return
    found = {"as predicted": composition.compare(folder)}
    if now is not None:
        found["today's code, in the conditions around each pass"] = composition.compare_in_conditions(
            folder, spec, load_profile(now)
        )
    _show(spec.name, found, as_json=as_json)


def _show(model: str, found: Mapping[str, Composition], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                name: {"cells": one.cells, "median": one.median, "p90": one.p90, "bias": one.bias}
                for name, one in found.items()
            }
        )
        return
    for name, one in found.items():
        console().print(
            f"{model}, {name}: {one.cells} passes, |error| median {one.median:.1%}, p90 {one.p90:.1%}, "
            f"mean {one.bias:+.1%}"
        )

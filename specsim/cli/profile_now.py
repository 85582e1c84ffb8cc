"""``specsim profile now``: what this shared machine is like at present, against when it was profiled."""

from __future__ import annotations

from typing import Annotated

import typer

from specsim.cli.options import JsonOption, console, messages, print_json, require_torch
from specsim.errors import InvalidInput

LONGEST_S = 3600.0


def now(
    name: Annotated[str, typer.Argument(help="The name or folder of a profile measured on this machine.")],
    seconds: Annotated[float, typer.Option(help="Time the anchors again and again for so long.")] = 20.0,
    as_json: JsonOption = False,
) -> None:
    """How much longer each kind of kernel takes now than in the profile.

    Five short fixed kernels (anchors) are timed again. Neighbours on a shared machine slow what reads memory, what
    computes and what runs in Python differently, and not the same way from one minute to the next. The last line goes
    into a scenario, which is then priced for the machine as it is now.
    """
    from rich.table import Table

    from specsim.profiles.store import load_profile
    from specsim.units import format_seconds

    if not 0 < seconds <= LONGEST_S:
        raise InvalidInput(f"--seconds {seconds:g} is not between 0 and {LONGEST_S:g}; 20 is enough for most uses")
    profile = load_profile(name)
    require_torch()
    from specsim.profiling.device.anchors import anchors_of, ratios

    profiled, anchors = anchors_of(profile.header)
    messages().print(f"timing the anchors for {seconds:g} s")
    found = anchors.typical(seconds)
    longer = {anchor: round(ratio, 3) for anchor, ratio in ratios(found, profiled).items()}
    if as_json:
        print_json({"profile": profile.name, "profiled": profiled, "now": found, "conditions": longer})
        return
    table = Table()
    for column in ("anchor", "in the profile", "now", "times longer"):
        table.add_column(column, justify="left" if column == "anchor" else "right")
    for anchor, ratio in longer.items():
        table.add_row(anchor, format_seconds(profiled[anchor]), format_seconds(found[anchor]), f"{ratio:.2f}")
    console().print(table)
    fields = ", ".join(f"{anchor}: {ratio:g}" for anchor, ratio in longer.items())
    console().print(f"conditions: {{{fields}}}", soft_wrap=True, markup=False)

"""Which profile a prediction was made with, and whether today's code can be held against the run that tested it.

A profile is measured anew under the same name, so a prediction names it by content. Today's code prices a run fairly
only by the very profile that the run's own prediction knew, in the state of the machine that was seen beside the run.
Without either the case is retired from today's code: its committed prediction and its score stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.profiles.store import HEADER
from specsim.scenario import Scenario
from specsim.specs.conditions import Conditions
from specsim.specs.yaml_file import read_mapping

# What a header measured; the rest says so in words, or is computed from the tables.
MEASURED = ("device_name", "date", "ceilings", "launch_s", "last_level_cache_bytes", "memory_bytes", "probe")


def profile_sha256(folder: Path) -> str:
    """Hash of what a profile measured: its tables, and its machine as the header has it."""
    header = read_mapping(folder / HEADER)
    machine = _filled({key: header.get(key) for key in MEASURED})
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode())
    for table in sorted(folder.glob("*.csv")):
        digest.update(f"\n{table.name}\n".encode() + table.read_bytes())
    return digest.hexdigest()


def _filled(value: Any) -> Any:
    """Without what is empty: a header may gain fields that were not measured when it was written."""
    if not isinstance(value, dict):
        return value
    return {key: _filled(one) for key, one in value.items() if one not in (None, [], {})}


def pin(scenario: Scenario) -> dict[str, str] | None:
    """What a prediction's header says of the profile that prices it; None for a roofline."""
    profile = assemble(scenario).profile
    return None if profile is None else {"name": profile.folder.name, "sha256": profile_sha256(profile.folder)}


def read_prediction(path: Path) -> dict[str, Any]:
    """A committed prediction as it stands. Raises InvalidInput for what is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path} is no prediction ({error}); write it again with --predict") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} is no prediction; write it again with --predict")
    return found


def retired(prediction: Mapping[str, Any], scenario: Scenario, conditions: Conditions | None) -> str | None:
    """Why today's code is not held against a run that a prediction was made for; None where it is.

    ``conditions``: those of the run against the profile that prices it now, None where nobody looked.
    """
    then, now = prediction.get("profile"), pin(scenario)
    if then is None and now is None:
        return None  # a roofline knows no state of a machine
    if then is None or now is None or then["sha256"] != now["sha256"]:
        before = "by a roofline" if then is None else f"with {then['name']} {then['sha256'][:12]}"
        return f"predicted {before}, and priced {'by a roofline' if now is None else 'with another profile'} now"
    return None if conditions is not None else "nobody timed anchors beside the run: the machine's state is unknown"

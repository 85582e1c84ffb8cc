"""What an engine does where nobody says otherwise: bundled rules by version, card and drafter, each with its source.

A file of ``presets/engines`` lists rules in order; a later one that applies takes precedence. What a scenario states
of its engine wins over all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from specsim.errors import InvalidInput
from specsim.specs.engine import EngineKind, EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.host_time import HostTimes
from specsim.specs.yaml_file import build, read_yaml
from specsim.validated import Validated

_ENGINES = Path(__file__).parent / "presets" / "engines"
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an engine's defaults depend on. ``drafter``: the program's name, None without speculation; ``model``: the
    target's.
    """

    hardware: Hardware
    ranks: int = 1
    kv_bits: float = 16
    routed: bool = False  # the model has routed experts
    drafter: str | None = None
    drafts_on: Literal["gpu", "cpu"] | None = None
    schedules_by_batch: bool = False  # k follows the batch size
    model: str = ""


class When(Validated):
    """Conditions, all of which must hold. ``gpus``: any of these is part of the card's name, ``not_gpus``: none is.

    ``memory_gib``, ``ranks``: at least, and less than (None: no limit). ``kv_bits``: of a cached value. ``routed``:
    the model has routed experts; ``models``: any of these is part of its name. ``drafters``: programs by name,
    ``drafting``: with or without any; ``drafts_on``: where they draft; ``schedules_by_batch``: k follows the batch
    size.
    """

    gpus: tuple[str, ...] = ()
    not_gpus: tuple[str, ...] = ()
    memory_gib: tuple[NonNegativeFloat, NonNegativeFloat | None] = (0.0, None)
    ranks: tuple[PositiveInt, PositiveInt | None] = (1, None)
    kv_bits: PositiveFloat | None = None
    routed: bool | None = None
    models: tuple[str, ...] = ()
    drafting: bool | None = None
    drafters: tuple[str, ...] = ()
    drafts_on: Literal["gpu", "cpu"] | None = None
    schedules_by_batch: bool | None = None
    device: Literal["gpu", "cpu"] | None = None

    def holds(self, here: Circumstances) -> bool:
        """Whether all conditions hold."""
        name = here.hardware.name.upper()
        return (
            (not self.gpus or any(gpu.upper() in name for gpu in self.gpus))
            and not any(gpu.upper() in name for gpu in self.not_gpus)
            and _within(here.hardware.memory_bytes / GIB, self.memory_gib)
            and _within(here.ranks, self.ranks)
            and self.kv_bits in (None, here.kv_bits)
            and self.routed in (None, here.routed)
            and (not self.models or any(model.upper() in here.model.upper() for model in self.models))
            and self.drafting in (None, here.drafter is not None)
            and (not self.drafters or here.drafter in self.drafters)
            and self.drafts_on in (None, here.drafts_on)
            and self.schedules_by_batch in (None, here.schedules_by_batch)
            and self.device in (None, here.hardware.kind)
        )


class Rule(Validated):
    """Fields of EngineLimits that hold from version ``since`` on and before version ``before``."""

    set: dict[str, Any]
    since: str | None = None
    before: str | None = None
    when: When = When()
    source: str

    @field_validator("set")
    @classmethod
    def _of_an_engine(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: getattr(build(EngineLimits, fields, where="set"), name) for name in fields}

    def applies(self, version: tuple[int, ...], here: Circumstances) -> bool:
        """Whether it does at a version, in these circumstances."""
        since, before = numbers(self.since or "0"), numbers(self.before or "9999")
        return since <= version < before and self.when.holds(here)


class EngineDefaults(Validated):
    """One engine's file. ``oldest`` and ``newest``: versions whose defaults are known."""

    name: EngineKind
    oldest: str
    newest: str
    rules: tuple[Rule, ...]

    def fields(self, version: str, here: Circumstances) -> Mapping[str, Any]:
        """The defaults at a version, in these circumstances. Raises InvalidInput for a version before ``oldest``."""
        found: dict[str, Any] = {}
        for rule in self.applying(version, here):
            found |= rule.set | _with_host(found.get("host"), rule.set.get("host"))
        return found

    def applying(self, version: str, here: Circumstances) -> list[Rule]:
        """The rules of a version, in these circumstances. Raises InvalidInput for a version before ``oldest``."""
        at = numbers(version)
        if at < numbers(self.oldest):
            raise InvalidInput(
                f"engine.version is {version} and defaults of {self.name} are known from {self.oldest} on; "
                "state its limits under kind: reference, or give a later version"
            )
        return [rule for rule in self.rules if rule.applies(at, here)]


@cache
def load_engine(kind: EngineKind) -> EngineDefaults:
    """The bundled file of an engine."""
    return read_yaml(_ENGINES / f"{kind}.yaml", EngineDefaults)


def with_defaults(stated: EngineLimits, here: Circumstances) -> EngineLimits:
    """The engine that a scenario states, with what it left out filled in.

    Raises InvalidInput for a version that is no version, or too old.
    """
    kind = _kind(stated, here)
    if kind == "reference":
        return stated.model_copy(update={"kind": kind})
    engine = load_engine(kind)
    version = stated.version or engine.newest
    fields = engine.fields(version, here)
    filled = {name: value for name, value in fields.items() if name not in stated.model_fields_set}
    if "host" in stated.model_fields_set:
        filled |= _with_host(fields.get("host"), stated.host)
    return stated.model_copy(update=filled | {"kind": kind, "version": version})


def default_sources(stated: EngineLimits, here: Circumstances) -> dict[str, list[str]]:
    """By the source of a rule, the fields that it is the last to fill in, as ``name value``; of host times, the name.

    None for the reference engine, which has no rules.
    """
    kind = _kind(stated, here)
    if kind == "reference":
        return {}
    engine = load_engine(kind)
    filled = with_defaults(stated, here)
    source_of: dict[str, str] = {}
    for rule in engine.applying(stated.version or engine.newest, here):
        source_of |= dict.fromkeys((name for name in rule.set if name not in stated.model_fields_set), rule.source)
    found: dict[str, list[str]] = {}
    for name, source in source_of.items():
        value = getattr(filled, name)
        found.setdefault(source, []).append("host times" if isinstance(value, HostTimes) else f"{name} {value}")
    return found


def _kind(stated: EngineLimits, here: Circumstances) -> EngineKind:
    return stated.kind or ("vllm" if here.hardware.kind == "gpu" else "reference")


@cache
def numbers(version: str) -> tuple[int, ...]:
    """``0.23.1rc1`` as (0, 23, 1). Raises InvalidInput for what does not begin with a number."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    if match is None:
        raise InvalidInput(f"engine.version {version!r} is no version; write for instance 0.24")
    return tuple(int(part) for part in match[1].split("."))


def _with_host(before: HostTimes | None, stated: HostTimes | None) -> dict[str, HostTimes]:
    """Host times of which a later rule, or the scenario, states some."""
    if before is None or stated is None:
        return {}
    return {"host": before.model_copy(update={name: getattr(stated, name) for name in stated.model_fields_set})}


def _within(value: float, bounds: tuple[float, float | None]) -> bool:
    least, below = bounds
    return least <= value and (below is None or value < below)

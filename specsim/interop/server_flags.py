"""A server's flags as fields of a scenario's ``engine`` and ``deployment``; which flag says what is data in flags/.

Every flag is accounted for: read, known and not modelled, without bearing on speed, or unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from specsim.errors import InvalidInput, shown
from specsim.interop.command_line import Command
from specsim.specs.yaml_file import read_yaml
from specsim.validated import Validated

FOLDER = Path(__file__).parent / "flags"
Kind = Literal["integer", "number", "text", "integers", "switch", "off", "kv_dtype"]
_SUFFIXED = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])?")
_LEVEL = re.compile(r"-O(\d)")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_KV_BITS = {
    "auto": None,
    "fp8": 8,
    "fp8_e4m3": 8,
    "fp8_e5m2": 8,
    "fp8_ds_mla": 8,
    "int8": 8,
    "nvfp4": 4,
    "fp4_e2m1": 4,
    "bfloat16": 16,
    "bf16": 16,
    "float16": 16,
}
_NUMBERS = re.compile(r"[\d\s,()\[\]]+")


class ReadFlag(Validated):
    """Which field a flag sets, and how its value is written."""

    field: str
    kind: Kind


class FlagTable(Validated):
    """An engine's flags, by what they mean here."""

    program: str
    aliases: dict[str, str]
    model: str
    engine: dict[str, ReadFlag]
    deployment: dict[str, ReadFlag]
    read_elsewhere: tuple[str, ...] = Field(description="where speculation, graphs and precision are read")
    not_modelled: tuple[str, ...]
    irrelevant: tuple[str, ...]
    switches: tuple[str, ...] = Field((), description="of the flags that are not read: those without a value")
    lists: tuple[str, ...] = Field((), description="and those with any number of values; the others have one")
    variables: tuple[str, ...] = Field(description="how the engine's own environment variables begin")
    variables_read: tuple[str, ...] = Field((), description="of these, what is read or has no bearing on speed")

    def read(self, flag: str) -> ReadFlag | None:
        return self.engine.get(flag) or self.deployment.get(flag)

    def known(self) -> set[str]:
        return {*self.engine, *self.deployment, *self.read_elsewhere, *self.not_modelled, *self.irrelevant, self.model}


@dataclass(slots=True)
class ReadFlags:
    """Fields that the flags set, and a line on each that set none."""

    engine: dict[str, Any] = field(default_factory=dict)
    deployment: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    notes: list[str] = field(default_factory=list)


@lru_cache
def flag_table(engine: str) -> FlagTable:
    return read_yaml(FOLDER / f"{engine}.yaml", FlagTable)


def spelled_out(command: Command, table: FlagTable) -> Command:
    """The command with every flag by its full name: aliases, and beginnings that one flag alone has, as argparse.

    Words after a flag's own values are the command's. Raises InvalidInput for a beginning of several flags.
    """
    flags: dict[str, tuple[str, ...]] = {}
    words, repeated = list(command.words), []
    for name, given in command.flags.items():
        full, values = _full_name(name, given, table)
        own = _own_values(full, values, table)
        if flags.pop(full, None) is not None or name in command.repeated:
            repeated.append(full)
        flags[full] = values[:own]
        words += values[own:]
    return Command(command.environment, flags, tuple(words), tuple(dict.fromkeys(repeated)))


def _full_name(name: str, values: tuple[str, ...], table: FlagTable) -> tuple[str, tuple[str, ...]]:
    if level := _LEVEL.fullmatch(name):
        return "--optimization-level", (level[1], *values)
    stem, dot, key = name.partition(".")
    if stem == "-O" and (dot or (values[:1] and values[0].startswith("{"))):  # up to vLLM 0.11: -O.level=3, -O '{...}'
        stem = "--compilation-config"
    full = table.aliases.get(stem, stem) + dot + key
    known = table.known() | set(table.aliases)
    stems = {flag.partition(".")[0] for flag in known}
    plain = full.partition(".")[0]
    if not full.startswith("--") or {plain, plain.replace("--no-", "--", 1)} & stems:
        return full, values
    longer = {table.aliases.get(other, other) for other in sorted(known) if other.startswith(full)}
    if len(longer) > 1:
        raise InvalidInput(f"{name} may be {', '.join(sorted(longer))}; write it out")
    return (longer.pop() if longer else full), values


def _own_values(flag: str, values: tuple[str, ...], table: FlagTable) -> int:
    """How many of the words after a flag are its own."""
    read = table.read(flag)
    if read is not None and read.kind == "integers":
        return next((i for i, value in enumerate(values) if not _NUMBERS.fullmatch(value)), len(values))
    if flag in table.lists or (read is None and flag not in table.known() | {table.model}):
        return len(values)
    if flag in table.switches or flag.startswith("--no-") or (read is not None and read.kind in ("switch", "off")):
        return int(bool(values) and values[0].lower() in _TRUTHS)
    return min(1, len(values))


def read_flags(command: Command, table: FlagTable) -> ReadFlags:
    """The fields of a command whose flags are spelled out. Raises InvalidInput for a value of another kind."""
    found = ReadFlags(
        stated_fields(command, table.engine),
        stated_fields(command, table.deployment),
        command.value(table.model),
        command.notes(),
    )
    told = {"known, and not modelled": table.not_modelled, "without bearing on speed": table.irrelevant}
    told |= {"": tuple(table.known())}  # read
    groups: dict[str, list[str]] = {why: [] for why in (*told, "unknown to specsim")}
    for flag in command.flags:
        names = {flag, flag.replace("--no-", "--", 1)}
        names |= {name.partition(".")[0] for name in names}
        why = next((why for why, known in told.items() if names & set(known)), "unknown to specsim")
        groups["" if _is_speculative(flag) else why].append(flag)
    found.notes += [f"{why}: {', '.join(flags)}" for why, flags in groups.items() if why and flags]
    own = [name for name in command.environment if name.startswith(table.variables)]
    if unread := [f"{name}={command.environment[name]}" for name in own if name not in table.variables_read]:
        found.notes.append(
            f"set in the environment, and not modelled: {', '.join(shown(one)[1:-1] for one in unread)}"
        )
    return found


def stated_fields(command: Command, flags: Mapping[str, ReadFlag]) -> dict[str, Any]:
    """The fields that these of a command's flags set. Raises InvalidInput for a value of another kind."""
    return {
        read.field: value for flag, read in flags.items() if (value := _value(command, flag, read.kind)) is not None
    }


def written_flags(fields: Mapping[str, Any], flags: Mapping[str, ReadFlag]) -> list[str]:
    """These fields as a command line's words, in the order of the flags; those that no flag sets are left out."""
    words = list[str]()
    for flag, read in flags.items():
        value = fields.get(read.field)
        if value is None:
            continue
        if read.kind == "switch":
            words.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif read.kind == "off":
            words += [] if value else [flag]
        else:
            words += [flag, *map(str, value if read.kind == "integers" else (value,))]
    return words


def _is_speculative(flag: str) -> bool:
    return flag.startswith(("--spec", "--ngram", "--speculative"))


def _value(command: Command, flag: str, kind: Kind) -> Any:
    if kind == "switch":
        off = f"--no-{flag.removeprefix('--')}"
        if flag not in command.flags and off not in command.flags:
            return None
        return _truth(command.flags[flag], flag) if flag in command.flags else False
    if kind == "off":
        return False if flag in command.flags and _truth(command.flags[flag], flag) else None
    if flag not in command.flags:
        return None
    if kind == "integers":
        return tuple(sorted({_integer(value, flag) for value in _listed(command.flags[flag])}))
    text = command.value(flag)
    assert text is not None
    if kind == "integer":
        return None if text in ("auto", "-1") else _integer(text, flag)
    if kind == "number":
        return command.number(flag, kind=float)
    if kind == "kv_dtype":
        if text not in _KV_BITS:
            raise InvalidInput(f"{flag} is {shown(text)}; known: {', '.join(_KV_BITS)}")
        return _KV_BITS[text]
    return text


def _truth(values: Sequence[str], flag: str) -> bool:
    if not values:
        return True
    if len(values) == 1 and values[0].lower() in _TRUTHS:
        return _TRUTHS[values[0].lower()]
    raise InvalidInput(f"{flag} is {shown(' '.join(values))}; it is a switch: write it alone, or true or false")


def _listed(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in re.split(r"[\s,]+", value.strip("[]() ")) if word]


def _integer(text: str, flag: str) -> int:
    """As vLLM's ``human_readable_int`` reads it: 2k is 2,000 and 2K 2,048; a fraction needs the decimal letter."""
    match = _SUFFIXED.fullmatch(text.strip())
    number, letter = (match[1], match[2] or "") if match is not None and len(text) <= 20 else ("", "")
    if not number or ("." in number and not letter.islower()):
        raise InvalidInput(f"{flag} is {shown(text)}; it should be a whole number, or 2k (2,000), or 2K (2,048)")
    scale = 1 if not letter else (1000 if letter.islower() else 1024) ** _POWERS[letter.lower()]
    return round(float(number) * scale) if "." in number else int(number) * scale

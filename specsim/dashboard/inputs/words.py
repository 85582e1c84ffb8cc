"""The question in the command line's own words, so that the same words make the same scenario there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specsim.errors import InvalidInput, shown
from specsim.scenario import Asked, ShortOptions, ask
from specsim.specs.yaml_text import parse_yaml

FILE = "scenario.yaml"  # what the page's question is called as a file
FOR_A_BATCH = ("predict", "report")  # verbs that speak about one batch size
LONGEST_LINE = 60  # characters of a command before a flag that begins a new line


@dataclass(frozen=True, slots=True)
class Words:
    """``start``: fields that a file or a pasted command said, as JSON; ``batch``: that the verdict speaks about.

    ``gpus``, ``price`` (GPU=USD an hour) and ``drafters``: what a plan and a comparison may choose.
    """

    options: ShortOptions
    settings: tuple[str, ...] = ()
    start: str | None = None
    batch: int | None = None
    gpus: tuple[str, ...] = ()
    price: tuple[str, ...] = ()
    drafters: tuple[str, ...] = ()

    def ask(self) -> Asked:
        """The scenario and what was assumed. Raises InvalidInput."""
        return ask(None, self.options, self.settings, start=None if self.start is None else fields_of(self.start))

    def but(self, **options: Any) -> Words:
        """The same question with other short options."""
        return replace(self, options=replace(self.options, **options))

    def by_file(self, verb: str) -> bool:
        """Whether a verb is given the page's scenario as a file: of what starts from one, and for a plan."""
        return self.start is not None or verb == "plan"

    def command(self, verb: str, *flags: str) -> str:
        """The command line that asks the same."""
        if self.by_file(verb):
            return _in_lines(["specsim", verb, FILE, *self._about(verb), *flags])
        settings = [word for setting in self.settings for word in ("--set", setting)]
        return _in_lines(["specsim", verb, *self.options.words(), *settings, *self._about(verb), *flags])

    def _about(self, verb: str) -> list[str]:
        """What a verb is told besides the question."""
        if verb in FOR_A_BATCH:
            return [] if self.batch is None else ["--batch", str(self.batch)]
        if verb == "compare":
            return ["--drafters", ",".join(self.drafters)] if self.drafters else []
        if verb == "plan":
            gpus = ["--gpu", ",".join(self.gpus)] if self.gpus else []
            return gpus + [word for one in self.price for word in ("--price", one)]
        return []


def _in_lines(words: Sequence[str]) -> str:
    """A command for a shell, broken before a flag where it grows long."""
    lines = [""]
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") and len(lines[-1]) > LONGEST_LINE:
            lines.append(f"    {quoted}")
        else:
            lines[-1] = f"{lines[-1]} {quoted}".lstrip() if len(lines) == 1 else f"{lines[-1]} {quoted}"
    return " \\\n".join(lines)


def fields_of(text: str) -> dict[str, Any]:
    """The fields of a scenario in a text of YAML or JSON. Raises InvalidInput."""
    try:
        found = parse_yaml(text)
    except ValueError as error:
        raise InvalidInput(f"the fields to start from are no YAML{error}; write name: value") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"the fields to start from are {shown(found)}; write name: value")
    return found


def acceptance_setting(text: str) -> str:
    """What was typed of acceptance as a setting: one rate, rates by position as engines log them, or a law's fields.

    Raises InvalidInput for none of these.
    """
    try:
        law = parse_yaml(text) if text.lstrip().startswith("{") else None
    except ValueError as error:
        raise InvalidInput(f"acceptance {shown(text)} is no law{error}; write for instance 0.7") from None
    if law is None:
        rates = _rates(text)
        law = {"kind": "constant", "rate": rates[0]} if len(rates) == 1 else {"kind": "unconditional", "rates": rates}
    return f"speculation.acceptance={flow(law)}"


def _rates(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or not all(0 <= rate <= 1 for rate in found):
        raise InvalidInput(f"acceptance {shown(text)} is no rate from 0 to 1, nor a list of them; write 0.7, 0.5, 0.4")
    return found


def flow(value: object) -> str:
    """A value on one line, as YAML and JSON alike read it."""
    return json.dumps(value, ensure_ascii=False)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``other`` over those of ``one``, section by section."""
    found = dict(one)
    for name, value in other.items():
        before = found.get(name)
        found[name] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
    return found

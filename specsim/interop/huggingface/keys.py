"""The facts of a config.json under their many names, each checked where it is taken; a null counts as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specsim.errors import InvalidInput, kind_of

LARGEST = 10**12  # of any count in a model


class Keys:
    """A JSON object and what to call it in messages. Every getter takes the first of its names that is there.

    Raises InvalidInput, one line, for a value of another kind.
    """

    def __init__(self, facts: Mapping[str, Any], where: str, path: str = "") -> None:
        if not isinstance(facts, Mapping):
            raise InvalidInput(f"{where}: {path.rstrip('.') or 'a part'} holds {kind_of(facts)}, no object")
        self._facts = {key: value for key, value in facts.items() if value is not None}
        self.where = where
        self._path = path

    def has(self, *names: str) -> bool:
        return any(name in self._facts for name in names)

    def names(self) -> tuple[str, ...]:
        """Everything that is there."""
        return tuple(self._facts)

    def find(self, *names: str) -> Any:
        """The value as it stands; None where there is none."""
        return next((self._facts[name] for name in names if name in self._facts), None)

    def count(self, *names: str, default: int = 0) -> int:
        """A whole number from 0 on."""
        name, value = self._named(names)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(_finite(value)):
            raise self.wrong(name, value, "it should be a whole number")
        if not 0 <= value <= LARGEST:
            raise self.wrong(name, value, f"it should be within 0 and {LARGEST}")
        return int(value)

    def size(self, *names: str, default: int | None = None) -> int:
        """A whole number from 1 on; a fault where it is missing and there is no default."""
        name, value = self._named(names)
        if value is None and default is not None:
            return default
        if value is None:
            raise InvalidInput(f"{self.where}: field {self._path}{names[0]} is missing; add it")
        found = self.count(name)
        if not found:
            raise self.wrong(name, value, "it should be greater than 0")
        return found

    def optional(self, *names: str) -> int | None:
        """A whole number from 1 on; None where it is absent or 0."""
        return self.count(*names) or None

    def flag(self, *names: str, default: bool = False) -> bool:
        name, value = self._named(names)
        if value is None:
            return default
        if not isinstance(value, bool) and value not in (0, 1):
            raise self.wrong(name, value, "it should be true or false")
        return bool(value)

    def text(self, *names: str, default: str = "") -> str:
        name, value = self._named(names)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, value, "it should be text")
        return value

    def items(self, *names: str) -> list[Any]:
        """A list; empty where it is absent."""
        name, value = self._named(names)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise self.wrong(name, value, "it should be a list")
        return list(value)

    def per_layer(self, layers: int, *names: str) -> list[Any]:
        """A list with a value for each layer, or a single value for all; empty where it is absent."""
        name, value = self._named(names)
        if value is None:
            return []
        if not isinstance(value, list):
            return [value] * layers
        if len(value) < layers:
            raise self.wrong(name, value, f"it should have a value for each of {layers} layers")
        return value[:layers]

    def section(self, *names: str) -> Keys:
        """An object inside; empty where it is absent."""
        name, value = self._named(names)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, value, "it should be an object")
        return Keys(value or {}, self.where, f"{self._path}{name or names[0]}.")

    def wrong(self, name: str, value: object, rule: str) -> InvalidInput:
        text = repr(value)
        text = text if len(text) <= 60 else f"{text[:57]}..."
        return InvalidInput(f"{self.where}: {self._path}{name} is {text}; {rule}")

    def _named(self, names: tuple[str, ...]) -> tuple[str, Any]:
        return next(((name, self._facts[name]) for name in names if name in self._facts), ("", None))


def _finite(value: float) -> float:
    return value if abs(value) <= LARGEST else 0.5

"""A server's command line, read into environment and flags; what the flags mean is the engine's module's business."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from specsim.errors import InvalidInput, shown

_FLAG = re.compile(r"-{1,2}[A-Za-z]")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """``flags``: values of each flag, by its name with dashes and as given (``--max-num-seqs``); a switch has none.

    ``words``: those before the first flag, the program among them. ``repeated``: flags given more than once, of which
    the last values count, as argparse and click have it.
    """

    environment: dict[str, str]
    flags: dict[str, tuple[str, ...]]
    words: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """A line on each flag that was given more than once."""
        last = {
            flag: f", {shown(' '.join(values))}," if (values := self.flags[flag]) else "" for flag in self.repeated
        }
        return [f"{flag} is given more than once: the last one{value} counts" for flag, value in last.items()]

    def value(self, *names: str) -> str | None:
        """The one value of the first of these flags that is there; raises InvalidInput if it has none or several."""
        for name in names:
            values = self.flags.get(name)
            if values is not None and len(values) != 1:
                raise InvalidInput(f"{name} has {len(values)} values; give it one")
            if values is not None:
                return values[0]
        return None

    def number(self, *names: str, kind: type[int] | type[float] = int) -> int | float | None:
        """As ``value``, a number."""
        text = self.value(*names)
        if text is None:
            return None
        try:
            return kind(text)
        except ValueError:
            found = next(name for name in names if name in self.flags)
            word = "a whole number" if kind is int else "a number"
            raise InvalidInput(f"{found} is {text!r}; it should be {word}") from None

    def numbers(self, *names: str) -> tuple[int, ...] | None:
        """The whole numbers of the first of these flags that is there."""
        for name in names:
            if name in self.flags:
                values = self.flags[name]
                if not all(value.isdigit() for value in values):
                    raise InvalidInput(f"{name} is {' '.join(values)!r}; it should be whole numbers")
                return tuple(map(int, values))
        return None


def read_command(command: str | Sequence[str]) -> Command:
    """Flags of a command line, as typed (line continuations, quotes, ``NAME=value`` before it) or already split.

    Raises InvalidInput for unbalanced quotes.
    """
    environment, flags, name = dict[str, str](), dict[str, tuple[str, ...]](), None
    before, repeated = list[str](), list[str]()
    for word in _split(command) if isinstance(command, str) else command:
        if _FLAG.match(word):
            name, equals, value = word.partition("=")
            name = name.replace("_", "-") if name.startswith("--") else name
            if flags.pop(name, None) is not None:
                repeated.append(name)
            flags[name] = (value,) if equals else ()
        elif name is not None:
            flags[name] = (*flags[name], word)
        elif assignment := _ASSIGNMENT.fullmatch(word):
            environment[assignment[1]] = assignment[2]
        else:
            before.append(word)
    return Command(environment, flags, tuple(before), tuple(dict.fromkeys(repeated)))


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command.replace("\\\n", " "))
    except ValueError as error:
        raise InvalidInput(f"the command line has {str(error).lower()}; balance its quotes") from None

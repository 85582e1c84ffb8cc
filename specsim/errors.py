"""Every error a user can cause or meet, in one tree.

    SpecsimError
    ├── InvalidInput      what was asked is malformed                      exit status 2
    └── NoAnswer          the question is well formed, no answer exists    exit status 3
        └── MissingExtra  an optional part is not installed                exit status 3

A message is one line: the value, the rule it breaks, the next step. The command line prints it without a
traceback; any other exception is a bug in specsim and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

MOST_TOLD = 20  # faults of one message


class SpecsimError(Exception):
    """Base of all errors that are answers to the user rather than bugs; several faults are told as one line."""

    exit_status = 2

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return told_together(self.faults)


class InvalidInput(SpecsimError):
    """A file, flag or value breaks a rule."""


class NoAnswer(SpecsimError):
    """The question is valid and has no answer, for instance a model that does not fit the GPU."""

    exit_status = 3


class MissingExtra(NoAnswer):
    """A part of specsim needs a package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install {package} (or specsim's extra [{extra}])")


class Faults:
    """Collects what independent checks object to, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps the InvalidInput that ends its block."""
        try:
            yield
        except InvalidInput as error:
            self.found += [fault for fault in error.faults if fault not in self.found]

    def tell(self) -> None:
        """Raises InvalidInput with every fault that was kept; nothing where there is none."""
        if self.found:
            raise InvalidInput(*self.found)


def told_together(faults: Sequence[str]) -> str:
    """Faults as one line: a single one as it is, several counted and numbered."""
    if len(faults) == 1:
        return faults[0]
    rest = f" (and {len(faults) - MOST_TOLD} more)" if len(faults) > MOST_TOLD else ""
    return f"{len(faults)} faults: {'; '.join(f'({n}) {one}' for n, one in enumerate(faults[:MOST_TOLD], 1))}{rest}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InvalidInput:
    """The error for a name that is in no list, with the nearest names that are."""
    names = sorted(known)
    near = get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names)}"
    return InvalidInput(f"unknown {kind} {shown(name)}; {hint}")


def kind_of(value: object) -> str:
    """What a value is, in the words of JSON and YAML: ``null``, ``a list``, ``an object``, ``text``, ``a number``."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def shown(value: object) -> str:
    """A value as an error message quotes it: on one line, at most 60 characters of it."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."

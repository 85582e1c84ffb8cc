"""Kinds of input: how each is drawn, and what of a link's text it can take. None: nothing was said.

A field's key is its name in the address, which is the command line's name for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import streamlit as st

from specsim.errors import InvalidInput, shown, unknown_name

KEPT: Literal["session"] = "session"  # also while an input is not drawn
LONGEST_TEXT = 20_000  # characters of an input; a link cannot be longer either


class Field(Protocol):
    """One input. ``key``: its name in the address; ``read``: its value from there, or InvalidInput."""

    @property
    def key(self) -> str: ...

    def draw(self, on_change: Callable[[], None] | None = None) -> Any: ...

    def read(self, text: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some names."""

    key: str
    label: str
    options: tuple[str, ...]
    unsaid: str
    help: str | None = None

    def draw(self, on_change: Callable[[], None] | None = None) -> str | None:
        return st.selectbox(
            self.label,
            self.options,
            None,
            key=self.key,
            help=self.help,
            placeholder=self.unsaid,
            on_change=on_change,
            persist_state=KEPT,
        )

    def read(self, text: str) -> str:
        if text not in self.options:
            raise unknown_name(self.label, text, self.options)
        return text


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a range, whole if its lower end is."""

    key: str
    label: str
    low: int | float
    high: int | float
    unsaid: str
    help: str | None = None

    def draw(self, on_change: Callable[[], None] | None = None) -> Any:
        whole = isinstance(self.low, int)
        return st.number_input(
            self.label,
            self.low,
            type(self.low)(self.high),
            None,
            step=1 if whole else None,
            key=self.key,
            format=None if whole else "%g",
            help=self.help,
            placeholder=self.unsaid,
            on_change=on_change,
            persist_state=KEPT,
        )

    def read(self, text: str) -> int | float:
        try:
            value = type(self.low)(text)
        except ValueError:
            value = None
        if value is None or not math.isfinite(value) or not self.low <= value <= self.high:
            kind = "whole number" if isinstance(self.low, int) else "number"
            raise InvalidInput(f"{self.label} {shown(text)} is no {kind} from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """Words that are read when the question is made."""

    key: str
    label: str
    unsaid: str
    help: str | None = None
    lines: bool = False

    def draw(self, on_change: Callable[[], None] | None = None) -> str | None:
        if self.lines:
            return st.text_area(
                self.label,
                None,
                height=90,
                max_chars=LONGEST_TEXT,
                key=self.key,
                help=self.help,
                placeholder=self.unsaid,
                on_change=on_change,
                persist_state=KEPT,
            )
        return st.text_input(
            self.label,
            None,
            max_chars=LONGEST_TEXT,
            key=self.key,
            help=self.help,
            placeholder=self.unsaid,
            on_change=on_change,
            persist_state=KEPT,
        )

    def read(self, text: str) -> str:
        if len(text) > LONGEST_TEXT:
            raise InvalidInput(f"{self.label} has {len(text):,} characters; at most {LONGEST_TEXT:,} are read")
        return text


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    key: str
    label: str

    def draw(self, on_change: Callable[[], None] | None = None) -> bool:
        return st.toggle(self.label, key=self.key, on_change=on_change, persist_state=KEPT)

    def read(self, text: str) -> bool:
        if text != "True":
            raise InvalidInput("it is True or left out")
        return True

"""A document: sections of text, tables, figures and listings, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from specsim.report.sheet import Sheet

Tone = Literal["on", "off", "neutral"]


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """Text as it is, to copy; ``language`` of its highlighting."""

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure. What it shows is in a table beside it, which Markdown has in its place."""

    figure: Any
    caption: str = ""


def as_sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


DocumentBlock = Paragraph | Bullets | Listing | Chart | Sheet


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: Sequence[DocumentBlock]


@dataclass(frozen=True, slots=True)
class Document:
    """``verdict`` comes first, in the colour of its ``tone``; ``lead``: what belongs to it, a line each."""

    title: str
    subtitle: str
    verdict: str
    tone: Tone
    lead: Sequence[str]
    sections: Sequence[Section]

    def html(self) -> str:
        """One self-contained page (about 5 MB with figures), for a screen and for A4 paper."""
        from specsim.report.document.html_page import html_page

        return html_page(self)

    def markdown(self) -> str:
        """The same words and tables; figures are left out."""
        from specsim.report.document.markdown_page import markdown_page

        return markdown_page(self)

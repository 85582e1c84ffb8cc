"""A document as Markdown whose tables read well as they are."""

from __future__ import annotations

from specsim.report.document.blocks import Bullets, Chart, Document, DocumentBlock, Listing, Paragraph, Section
from specsim.report.markdown import fenced, inline


def markdown_page(document: Document) -> str:
    """The whole document."""
    head = [f"# {inline(document.title)}", inline(document.subtitle), f"> **{inline(document.verdict)}**"]
    lead = "\n".join(f"- {inline(line)}" for line in document.lead)
    parts = [*head, lead, *map(_section, document.sections)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _section(section: Section) -> str:
    return "\n\n".join([f"## {inline(section.title)}", *filter(None, map(_block, section.blocks))])


def _block(block: DocumentBlock) -> str:
    match block:
        case Paragraph(text):
            return inline(text)
        case Bullets(lines):
            return "\n".join(f"- {inline(line)}" for line in lines)
        case Listing(text, language):
            return fenced(text, language)
        case Chart():
            return ""
    title = f"**{inline(block.title)}**" if block.title else ""
    return "\n\n".join(filter(None, [title, block.aligned(), inline(block.note)]))

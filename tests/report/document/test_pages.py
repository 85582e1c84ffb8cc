"""What a document says is the same in HTML and Markdown, and text from outside stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest

from specsim.report.document.blocks import Bullets, Chart, Document, Listing, Paragraph, Section
from specsim.report.sheet import Sheet

HOSTILE = "<script>alert(1)</script>\"'&| `x` **b** [l](http://evil.example) ![i](x) <img src=//evil.example>"


def document(text: str) -> Document:
    blocks = [
        Paragraph(text),
        Bullets([text, f"# {text}", f"1. {text}"]),
        Listing(f"a: {text}\n```\nb: ````", "yaml"),
        Sheet(text, ("what", text), [(text, "1.25"), ("two\nlines", "-2.5")], text),
        Sheet(text, ("what", "n"), [("a|b `c` <i>", "1.25")], text),
        Chart(go.Figure(go.Scatter(x=[1], y=[2], name=text, text=[text])), text),
        Chart(go.Figure()),
    ]
    return Document(text, text, text, "on", [text], [Section(text, blocks)])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page() -> str:
    return document(HOSTILE).html()


def test_what_a_user_names_is_no_markup_and_nothing_is_fetched(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    names = {tag for tag, _ in tags.found}
    assert not names & {"img", "a", "iframe", "link", "object", "embed", "base", "form"}
    assert all("src" not in attributes and "href" not in attributes for _, attributes in tags.found)
    assert "@import" not in page.split("<script", 1)[0]
    assert "alert(1)</script>" not in page


def test_the_script_of_figures_is_in_the_page_once(page: str) -> None:
    scripts = re.findall(r"<script[^>]*>(.{200})", page, re.DOTALL)
    assert sum("plotly.js v" in script for script in scripts) == 1


def test_markdown_reads_nothing_into_names() -> None:
    text = document(HOSTILE).markdown()
    outside = re.sub(r"^(`{3,})\w*\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert outside != text
    assert not re.search(r"<(script|img)", outside)
    assert not re.search(r"(?<!\\)[`\[]", outside)
    assert "\\# " in outside
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}


def test_a_document_without_figures_is_small_and_has_no_script() -> None:
    page = Document("t", "s", "v", "off", [], [Section("one", [Paragraph("words")])]).html()
    assert "<script" not in page
    assert len(page) < 10_000


def test_columns_of_numbers_stand_right_in_both() -> None:
    sheet = Sheet("", ("name", "n"), [("a", "1"), ("long", "1,000")])
    lines = sheet.aligned().splitlines()
    assert lines == ["| name |     n |", "| ---- | ----: |", "| a    |     1 |", "| long | 1,000 |"]


def test_markdown_joins_what_a_terminal_parts() -> None:
    sheet = Sheet("", ("drafter", "accep-\ntance", "GB/\nGPU"), [("a", "1.75\n1.2-2.5", "6")])
    assert sheet.aligned().splitlines() == [
        "| drafter |   acceptance | GB/GPU |",
        "| ------- | -----------: | -----: |",
        "| a       | 1.75 1.2-2.5 |      6 |",
    ]

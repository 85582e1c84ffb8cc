"""A document as one HTML page that refers to nothing outside of it; every text in it is escaped."""

from __future__ import annotations

from itertools import count

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from specsim.report.document.blocks import Bullets, Chart, Document, Listing, Paragraph
from specsim.report.sheet import Sheet

WIDTH = 680  # CSS pixels: A4 less margins of 15 mm, so that figures are as wide on paper as on a screen
SETTINGS = {"displayModeBar": False}
KINDS = {Paragraph: "paragraph", Bullets: "bullets", Listing: "listing", Chart: "chart", Sheet: "table"}


def html_page(document: Document) -> str:
    """The whole page; plotly's script is in it once, before the first figure, if there is any."""
    number = count()

    def drawn(chart: Chart) -> Markup:
        figure = chart.figure.update_layout(width=WIDTH, paper_bgcolor="rgba(0,0,0,0)")
        first = next(number) == 0
        return Markup(figure.to_html(full_html=False, include_plotlyjs=first, config=SETTINGS))

    environment = Environment(
        loader=PackageLoader("specsim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = drawn
    environment.filters["kind"] = lambda block: KINDS[type(block)]
    return environment.get_template("document.html").render(document=document)

"""The site: ``python -m sphinx -W -n docs site``. Pages are Markdown that also reads well in the repository."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from generated import write_pages  # noqa: E402

from specsim.version import __version__  # noqa: E402

project, author, release = "specsim", "the authors of specsim", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"specsim {release}"
exclude_patterns = ["site"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": False}
nitpick_ignore_regex = [(r"py:.*", r".*")]  # types of signatures: this is a guide, not an index of every class
OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?:validation|tests|benchmarks)/[^)]+)\)")


def _name_files_outside(app: object, name: str, source: list[str]) -> None:
    """Files that the site does not hold are named, where the repository's pages link to them."""
    source[0] = OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2].lstrip('./')}`)", source[0])


def setup(app: object) -> None:
    app.connect("builder-inited", lambda _: write_pages(HERE / "reference" / "generated"))  # type: ignore[attr-defined]
    app.connect("source-read", _name_files_outside)  # type: ignore[attr-defined]

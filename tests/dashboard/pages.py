"""The page without a browser: opened by a link, and what it shows."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the page needs the app extra")

from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[2] / "streamlit_app.py"


def opened(**parameters: str) -> AppTest:
    """The page as a link with these parameters opens it; an underscore stands for a dash."""
    app = AppTest.from_file(APP, default_timeout=120)  # of wall time: the machine may be busy
    for key, value in parameters.items():
        app.query_params[key.replace("_", "-")] = value
    return app.run()


def cards(app: AppTest) -> list[str]:
    """The text of each card of a verdict."""
    bodies = [block.proto.body for block in app.get("html") if 'class="verdict"' in block.proto.body]
    return [unescape(re.sub(r"<[^>]+>", " ", body.replace("&nbsp;", " "))) for body in bodies]


def answered(app: AppTest) -> None:
    """No error of the user's, none of ours."""
    assert not app.exception, app.exception[0].value
    assert not app.error, app.error[0].value


def refusal(app: AppTest) -> str:
    """The one line of a page that answers nothing: no traceback, no figure."""
    assert not app.exception, app.exception[0].value
    assert not app.get("plotly_chart")
    (error,) = app.error
    assert "\n" not in error.value
    return error.value.replace("\\", "")


def command(app: AppTest) -> list[str]:
    """The command line at the page's end, without the program's name."""
    text = [code.value for code in app.code if code.value.startswith("specsim ")][-1]
    return shlex.split(text.replace("\\\n", ""))[1:]


def frames(app: AppTest) -> list[Any]:
    """The page's tables."""
    return [element.value for element in app.dataframe]


def link(app: AppTest) -> dict[str, str]:
    """The address that the page has written."""
    found = app.query_params.items()
    return {key: value[0] if isinstance(value, list) else value for key, value in found}


def text(app: AppTest) -> str:
    """All words that the page shows outside of figures, tables and cards."""
    return " ".join(element.value.replace("\\", "") for kind in ("markdown", "caption") for element in app.get(kind))


def pressed(app: AppTest, label: str) -> AppTest:
    """The page after a button was pressed."""
    return next(button for button in app.button if button.label == label).click().run()


def scenario_file(app: AppTest, folder: Path) -> Path:
    """The scenario that the page offers, written down."""
    path = folder / "scenario.yaml"
    path.write_text(next(code.value for code in app.code if code.value.startswith("# A question")), encoding="utf-8")
    return path

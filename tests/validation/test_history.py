"""What stands in validation/cases is what was committed before each run, and what the run then gave, to the digit."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from specsim.cases import case_names, load_case

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def history() -> dict[str, tuple[list[str], list[str], list[str]]]:
    """Case -> the folders it had, the commit of each one's prediction and of its measurement, as the page tells."""
    page = (ROOT / "validation" / "README.md").read_text().split("<!-- history -->")[1].split("<!-- end -->")[0]
    found = {}
    for case, pattern, predicted, measured in ROW.findall(page):
        head, _, rest = pattern.partition("{")
        names, _, tail = rest.partition("}")
        folders = [f"{head}{name}{tail}" for name in names.split(",")] if names else [pattern]
        found[case] = (folders, _each(predicted, len(folders)), _each(measured, len(folders)))
    return found


def _each(commits: str, count: int) -> list[str]:
    """One commit a folder; a single one is that of all."""
    found = [one.strip() for one in commits.split(",")]
    return found * count if len(found) == 1 else found


def git(*arguments: str) -> str | None:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else None


@cache
def stored(commit: str, path: str) -> str | None:
    return git("show", f"{commit}:validation/{path}")


@pytest.fixture(autouse=True)
def _whole_history() -> None:
    commits = {commit for _, *both in history().values() for found in both for commit in found}
    if any(git("cat-file", "-e", f"{commit}^{{commit}}") is None for commit in commits):
        pytest.skip("not a checkout with its whole history")


def exact(text: str) -> Any:
    """JSON with figures as they are written."""
    return json.loads(text, parse_float=str, parse_int=str)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_page_tells_of_every_case() -> None:
    assert set(history()) == set(case_names())


@pytest.mark.parametrize("name", case_names())
def test_predictions_stand_as_they_were_committed_before_any_row_of_their_run(name: str) -> None:
    case, (folders, predicted, _) = load_case(name), history()[name]
    path = case.predicted if case.predicted.exists() else case.predicted_saturation  # its loads are not measured yet
    now = exact(path.read_text())
    before = []
    for folder, commit in zip(folders, predicted, strict=True):
        assert stored(commit, f"{folder}/measured.csv") is None
        text = stored(commit, f"{folder}/{path.name}")
        assert text is not None
        before.append(exact(text))
    if case.loads is not None:
        assert [_nameless(row) for row in now["rows"]] == [_nameless(row) for one in before for row in one["rows"]]
    elif set(before[0]) == set(case.drafters):
        assert [now] == before
    else:  # a folder a drafter
        stripped = [
            {key: value for key, value in now[drafter].items() if key != "profile"} for drafter in case.drafters
        ]
        assert stripped == before


@pytest.mark.parametrize("name", case_names())
def test_measured_rows_stand_as_they_were_committed(name: str) -> None:
    case, (folders, _, measured) = load_case(name), history()[name]
    for path in (case.measured, case.saturation):
        texts = [stored(commit, f"{folder}/{path.name}") for folder, commit in zip(folders, measured, strict=True)]
        if path.exists():
            apart = len(case.drafters) == len(folders)  # a folder a drafter, whose rows did not name it
            drafters = [{"drafter": name} for name in case.drafters] if apart else [{}] * len(folders)
            before = [row | own for text, own in zip(texts, drafters, strict=True) for row in rows(text or "")]
            assert [_nameless(row) for row in rows(path.read_text())] == [_nameless(row) for row in before]
        else:
            assert texts == [None] * len(folders)


def _nameless(row: dict[str, Any]) -> dict[str, Any]:
    """Without the alternative's name, which tells its drafter now."""
    return {key: value for key, value in row.items() if key != "alternative"}

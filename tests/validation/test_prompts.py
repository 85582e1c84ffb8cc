"""Prompts that no fitted law has seen: which documents they come from, and that they are long enough."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from specsim.scenario.prompts import encoded, read_prompts

VALIDATION = Path(__file__).parents[2] / "validation"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The script, and the folder that it wrote."""
    spec = importlib.util.spec_from_file_location("make_prompts", VALIDATION / "models" / "prompts" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    script, before = importlib.util.module_from_spec(spec), list(sys.path)
    spec.loader.exec_module(script)
    sys.path[:] = before
    folder = tmp_path_factory.mktemp("prompts")
    script.main(folder)
    return script, folder


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def documents(folder: Path, name: str) -> set[str]:
    return {row["name"].rpartition("@")[0] for row in rows(folder, name)}


def test_no_document_is_on_both_sides_and_none_was_trained_on(made: tuple[Any, Path]) -> None:
    script, folder = made
    fit, test = documents(folder, "fit"), documents(folder, "test")
    recorded = script.read_traces(script.RECORDED)
    assert not fit & test
    assert fit <= script.fitting_half(recorded.requests)
    texts = {name: text for found in script.held_out().values() for name, text in found}
    assert fit | test <= set(texts)


@pytest.mark.parametrize("name", ["fit", "test"])
def test_they_are_enough_distinct_and_long_and_domains_take_turns(made: tuple[Any, Path], name: str) -> None:
    script, folder = made
    found = rows(folder, name)
    assert 60 <= len({row["prompt"] for row in found}) == len(found) <= script.MOST
    assert [row["domain"] for row in found] == ["code", "prose", "docstrings"] * (len(found) // 3)
    tokens = encoded(VALIDATION / "models" / "target", read_prompts(folder / f"{name}.jsonl"))
    assert min(map(len, tokens)) >= script.TOKENS


def test_the_same_prompts_come_again(made: tuple[Any, Path], tmp_path: Path) -> None:
    script, folder = made
    script.main(tmp_path)
    for name in ("fit", "test"):
        assert rows(tmp_path, name) == rows(folder, name)

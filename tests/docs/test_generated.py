"""The pages that are printed from the code hold all that the code has."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import specsim
from specsim.profiles.store import profile_names
from specsim.scenario.schema import reference
from specsim.speculation.program import program_names

SCRIPT = Path(__file__).parents[2] / "docs" / "generated.py"


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headings(page: str) -> list[str]:
    return re.findall(r"^## (.*)$", page, re.MULTILINE)


def test_every_technique_profile_section_and_name_has_its_place(generated: ModuleType) -> None:
    assert headings(generated.techniques_page()) == list(program_names())
    assert headings(generated.profiles_page())[2:] == list(profile_names())
    sections = headings(generated.scenario_page())
    assert len(sections) == len(reference())
    assert {"slo", "deployment", "engine"} <= set(sections)
    python = generated.python_page()
    assert all(f"specsim.{name}\n" in python for name in specsim.__all__ if not name.startswith("_"))


def test_every_verb_has_its_options(generated: ModuleType) -> None:
    page = generated.command_page()
    assert {"specsim predict", "specsim profile run", "specsim import trace"} <= set(headings(page))
    predict = page.split("## specsim predict\n")[1].split("\n## ")[0]
    assert all(f"`{option}`" in predict for option in ("--model", "--tp", "--set", "--decode-only", "--json"))
    assert "Decoding alone at this KV length" in predict


def test_pages_are_written_where_the_site_reads_them(generated: ModuleType, tmp_path: Path) -> None:
    generated.write_pages(tmp_path / "pages")
    assert {path.stem for path in (tmp_path / "pages").iterdir()} == set(generated.PAGES)
    index = (SCRIPT.parent / "reference" / "index.md").read_text()
    assert all(f"generated/{name}" in index for name in generated.PAGES)

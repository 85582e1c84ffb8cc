"""The README says what is true of the repository."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from specsim.cases import case_names, load_case
from specsim.cases.scores import measured_at_all
from specsim.cli.main import main
from tests.shipped import ONE_CASE_OF_EACH_KIND

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TREE = (ROOT / "docs" / "layout.md").read_text().split("```text\nspecsim/\n")[1].split("```")[0]


def module_of(path: Path) -> Any:
    """A script that stands beside the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = module_of(ROOT / "validation" / "refresh.py")


def blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_command_one_runs_quickstart_and_command_two_the_tests() -> None:
    one, two = blocks()[:2]
    assert "specsim quickstart" in one
    assert 'torch==2.13.0 -e ".[dev,profile,models,app,engines]"' in two
    assert "pytest" in two


def test_the_output_shown_is_what_quickstart_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart"]) == 0
    printed = capsys.readouterr().out.strip()
    assert "\n".join(line.rstrip() for line in printed.splitlines()) in README


PAGES = ("validation/README.md",)


def shown(page: str, name: str) -> str:
    """A page's table of accuracy."""
    found = re.search(f"<!-- {name} -->\n(.*?)\n<!-- end -->", (ROOT / page).read_text(), re.DOTALL)
    assert found, f"{page} has no block {name}"
    return found[1]


@pytest.mark.parametrize("name", ONE_CASE_OF_EACH_KIND)
def test_a_row_of_each_kind_is_what_validate_prints(name: str) -> None:
    document = json.loads(refresh.printed("validate", name, "--json"))
    case = document["cases"][name]
    assert_sources(case)
    kind = "accuracy" if case["kind"] == "map" else "served"
    row = getattr(refresh, kind)(document).splitlines()[-1]
    for page in PAGES:
        assert row in shown(page, kind).splitlines(), "run validation/refresh.py"


def assert_sources(case: dict[str, Any]) -> None:
    """Every row of a score says where its price is from."""
    drafters = case["drafters"].values() if case["kind"] == "map" else ()
    rows = [cell for one in drafters for cell in one["cells"]] if case["kind"] == "map" else case["rows"]
    sources = {"measured", "interpolated", "extrapolated", "roofline"} if case["kind"] == "map" else {"kernels"}
    assert rows
    assert {row["source"] for row in rows} <= sources


def test_every_measured_case_has_a_row() -> None:
    measured = [case for case in map(load_case, case_names()) if measured_at_all(case)]
    assert measured
    for page in PAGES:
        for kind, served in (("accuracy", False), ("served", True)):
            names = [line.split("|")[1].strip(" `") for line in shown(page, kind).splitlines()[2:]]
            wanted = [case.name for case in measured if (case.loads is not None) is served]
            assert [name for name in names if not name.startswith("**")] == wanted


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(refresh.printed("validate", "--json"))
    return document


GPU_PAGE = "validation/gpu/README.md"


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_front_pages_figures_are_those_of_the_pages_of_evidence() -> None:
    gpu, cases = (ROOT / GPU_PAGE).read_text(), (ROOT / "validation" / "README.md").read_text()
    assert shown("README.md", "front") == refresh.front(gpu, cases), "run validation/refresh.py front"
    figures = [row[0] for row in refresh.table_rows(README, "front")]
    assert figures == [
        "GPUs: speed-up",
        "GPUs: output tokens/s",
        "GPUs: ITL and TPOT, p50",
        "GPUs: TTFT, p50",
        "CPUs: round time, reference engine",
        "CPUs: speed-up, vLLM",
    ]


def test_the_picture_is_what_its_command_draws() -> None:
    figures = module_of(ROOT / "docs" / "figures.py")
    for name, picture in figures.PICTURES.items():
        assert (ROOT / "docs" / "images" / name).read_text() == picture(), "run docs/figures.py"


@pytest.mark.full
@pytest.mark.slow
def test_the_table_of_gpu_runs_is_what_validate_prints() -> None:
    scores = refresh.scored(None)
    assert shown(GPU_PAGE, "headline") == refresh.headline_table(scores), "run validation/refresh.py gpu"
    assert shown(GPU_PAGE, "gpu") == refresh.gpu_tables(scores), "run validation/refresh.py gpu"


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", ["accuracy", "served"])
def test_the_accuracy_shown_is_what_validate_prints(page: str, name: str, scores: dict[str, Any]) -> None:
    assert shown(page, name) == getattr(refresh, name)(scores), "run validation/refresh.py"


@pytest.mark.full
@pytest.mark.slow
def test_validate_scores_every_measured_case(scores: dict[str, Any]) -> None:
    assert set(scores["cases"]) == {name for name in case_names() if measured_at_all(load_case(name))}
    for case in scores["cases"].values():
        assert_sources(case)


def test_the_wheel_carries_every_case_and_what_it_names() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    carried = [Path(path) for path in settings["force-include"]]
    assert Path("validation/cases") in carried
    named = {
        (path.parent / found).resolve().relative_to(ROOT)
        for path in (ROOT / "validation" / "cases").glob("*/*.yaml")
        for found in re.findall(r"\.\./[\w./-]+\.(?:yaml|jsonl)", path.read_text())
    }
    named = {path for path in named if path.parent.name != "prompts"}  # written by a command, for text is not stored
    assert len(named) > 10
    assert {path for path in named if not any(path.is_relative_to(folder) for folder in carried)} == set()
    for folder in carried:
        assert named_at(settings["force-include"][str(folder)]) == folder, "relative paths must hold in the wheel"


def named_at(place: str) -> Path:
    """Where the checkout has what the wheel holds at ``place``."""
    return Path(place).relative_to("specsim/bundled")


def test_the_tree_names_every_package_folder() -> None:
    folders = {p.name for p in (ROOT / "specsim").iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    missing = {name for name in folders if not re.search(rf"\b{name}/", TREE)}
    assert not missing


def test_the_tree_names_nothing_that_does_not_exist() -> None:
    names = re.findall(r"^\s*([\w.]+(?:/[\w.]+)*/?)\s", TREE, re.MULTILINE)
    known = {p.name for p in ROOT.rglob("*") if ".venv" not in p.parts and ".git" not in p.parts}
    assert names
    assert [name for name in names if name.rstrip("/").split("/")[-1] not in known] == []


def test_links_between_pages_lead_somewhere() -> None:
    folders = [ROOT / name for name in ("docs", "validation", "tests")]
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    links = [
        (page, link.partition("#")[0])
        for page in pages
        if "generated" not in page.parts  # written by the site's build
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not link.startswith(("http", "#"))
    ]
    assert len(links) > 10
    assert [(str(page), link) for page, link in links if not (page.parent / link).exists()] == []


def test_nothing_names_the_place_it_was_written_in() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listing:
        pytest.skip("not a git checkout, so there is no list of files")
    banned = re.compile(r"/wor[k]/|\.\./share[d]|far[m]-(bench|studio)|/roo[t]/")
    texts = [ROOT / name for name in listing if name.endswith((".py", ".md", ".yaml", ".toml", ".html", ".json"))]
    assert [str(path) for path in texts if path.exists() and banned.search(path.read_text())] == []

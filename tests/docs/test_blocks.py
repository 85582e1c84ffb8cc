"""Every block of the pages runs: commands in one process, Python in one namespace a page, files written as they stand.

A comment before a block says what is special about it:

    <!-- file: NAME -->        the block is that file
    <!-- exit: N -->           its command ends with that status
    <!-- full: WHY -->         it takes long and runs under the marker full
    <!-- not run: WHY -->      it needs what a test has not: it is listed as skipped, with the reason
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from specsim.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if "generated" not in path.parts)
BLOCK = re.compile(r"(?:^<!-- ([a-z ]+): (.*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKS = {"", "file", "exit", "full", "not run"}
NEEDS = {"a GPU", "an engine", "a network", "a cluster", "torch", "another package"}


@dataclass(frozen=True)
class Block:
    """``mark``: what the comment before it says, and ``why``."""

    mark: str
    why: str
    language: str
    text: str

    def run(self, names: dict[str, object]) -> None:
        """In the working directory; ``names``: the page's Python."""
        if self.mark == "file":
            path = Path(self.why)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text)
        elif self.language == "python":
            exec(compile(self.text, "page", "exec"), names)
        elif self.language == "bash":
            wanted = int(self.why) if self.mark == "exit" else 0
            for command in self.commands():
                program, *arguments = shlex.split(command)
                assert program == "specsim", f"mark {command!r} as not run, or write it as a specsim command"
                assert main(arguments) == wanted, command

    def commands(self) -> list[str]:
        """One a line, continued lines joined."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks(page: str) -> list[Block]:
    return [Block(mark or "", why, *rest) for mark, why, *rest in BLOCK.findall((DOCS / page).read_text())]


def run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, full: bool) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.mark != "not run" and (full or block.mark != "full"):
            block.run(names)


@pytest.mark.parametrize("page", PAGES)
def test_its_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, tmp_path, monkeypatch, full=False)


@pytest.mark.full
@pytest.mark.parametrize("page", [page for page in PAGES if any(one.mark == "full" for one in blocks(page))])
def test_its_long_blocks_run_too(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, tmp_path, monkeypatch, full=True)


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(page, one, id=f"{page}-{i}")
        for page in PAGES
        for i, one in enumerate(blocks(page))
        if one.mark == "not run"
    ],
)
def test_what_is_not_run_says_why(page: str, block: Block) -> None:
    assert block.why == "starts a server" or block.why.removeprefix("needs ") in NEEDS
    pytest.skip(f"{page} {block.why}: {block.commands()[0]}")


def test_every_fence_is_a_block_and_every_mark_is_known() -> None:
    for page in PAGES:
        found, text = blocks(page), (DOCS / page).read_text()
        directives = len(re.findall(r"^```\{", text, re.MULTILINE))
        assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * (len(found) + directives), page
        assert {one.mark for one in found} <= MARKS, page
        assert {one.language for one in found} <= {"bash", "python", "yaml", "json", "text"}, page
        assert all(one.mark == "file" or one.language not in ("yaml", "json") for one in found), (
            f"{page}: name the file"
        )
        assert text.count("<!-- ") == sum(bool(one.mark) for one in found) + text.count('"<!-- '), page

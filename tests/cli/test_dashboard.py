"""Who can open the page."""

from __future__ import annotations

import subprocess

import pytest

from specsim.cli.main import main

pytest.importorskip("streamlit", reason="the page needs the app extra")


@pytest.mark.parametrize(
    ("asked", "listens", "told"),
    [
        ([], "127.0.0.1", "http://127.0.0.1:8501"),
        (["--host", "0.0.0.0", "--port", "9000"], "0.0.0.0", "http://here:9000"),
    ],
)
def test_the_page_is_open_to_this_machine_alone_unless_asked(
    asked: list[str], listens: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda words: started.append(words) or 0)
    monkeypatch.setattr("specsim.cli.dashboard.gethostname", lambda: "here")
    assert main(["dashboard", *asked]) == 0
    (words,) = started
    assert f"--server.address={listens}" in words
    assert told in capsys.readouterr().err

"""Who can open the page."""

from __future__ import annotations

import socket
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
    monkeypatch.setattr("specsim.cli.dashboard._refuse_unusable", lambda *_: None)  # whichever ports are free here
    monkeypatch.setattr(subprocess, "call", lambda words: started.append(words) or 0)
    monkeypatch.setattr("specsim.cli.dashboard.gethostname", lambda: "here")
    assert main(["dashboard", *asked]) == 0
    (words,) = started
    assert f"--server.address={listens}" in words
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (["--host", ""], "it is empty"),
        (["--host", "999.1.1.1"], "--host '999.1.1.1' --port 8501"),
        (["--host", "192.0.2.1"], "Cannot assign"),
        (["--host", "a" * 70], "nothing can listen"),
        (["--port", "70000"], "65535"),
    ],
)
def test_where_nothing_can_listen_one_line_says_so(
    asked: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", *asked]) == 2
    told = capsys.readouterr().err
    assert why in told
    assert "Traceback" not in told


def test_a_port_in_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["dashboard", "--port", str(port)]) == 2
    assert f"--port {port}" in capsys.readouterr().err

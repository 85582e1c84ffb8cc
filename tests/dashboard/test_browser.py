"""The page in headless Chromium, driven as a user would; skipped where playwright or a browser is missing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("streamlit", reason="the page needs the app extra")
sync_api = pytest.importorskip("playwright.sync_api", reason="driving a browser needs the browser extra")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install -y chromium"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ROOT = Path(__file__).parents[2]
CONFIG = (
    '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, '
    '"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, '
    '"max_position_embeddings": 131072}'
)
TRACE = "timestamp,input_length,output_length\n" + "".join(f"{n * 500},{100 + n},{10 + n}\n" for n in range(40))
COMMAND = "vllm serve meta-llama/Llama-3.3-70B-Instruct --tensor-parallel-size 4 --max-num-seqs 64"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page as ``specsim dashboard`` serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "specsim.cli.main", "dashboard", "--port", str(port)]
    server = subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True)
    found = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urlopen(f"{found}/_stcore/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.3)
        yield found
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        opened = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        opened.set_default_timeout(WAIT_MS)
        opened.goto(address)
        yield opened
        browser.close()


def chosen(page: Any, label: str, option: str) -> None:
    """Choose in a box of the sidebar."""
    page.get_by_role("combobox", name=label).first.click()
    page.keyboard.type(option)
    page.get_by_role("option", name=option, exact=True).first.click()


def settled(page: Any) -> str:
    """The verdict's words, once the page stands still."""
    page.wait_for_selector(".verdict b")
    page.wait_for_timeout(700)
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    return str(page.locator(".verdict").first.inner_text())


def test_a_user_asks_changes_shares_and_takes_along(page: Any, tmp_path: Path) -> None:
    first = settled(page)
    chosen(page, "Model", "llama-3.3-70b")
    chosen(page, "Tensor parallel", "4")
    page.get_by_role("spinbutton", name="Requests/s").first.fill("4")
    page.keyboard.press("Enter")
    page.get_by_text("the mean at 4 requests/s").first.wait_for()
    page.get_by_role("textbox", name="TPOT p95").first.fill("40ms")
    page.keyboard.press("Enter")
    second = settled(page)
    assert second != first
    page.get_by_role("button", name="Simulate this load").click()
    page.get_by_text("speculation on: SLO met").first.wait_for()
    chosen(page, "Drafter", "ngram")
    page.get_by_text("drafter ngram").first.wait_for()
    assert settled(page) != second
    other = page.context.new_page()
    other.goto(page.url)
    assert settled(other) == settled(page)
    with page.expect_download() as taken:
        page.get_by_role("button", name="Report (HTML)").first.click()
    taken.value.save_as(tmp_path / "report.html")
    assert "Llama-3.3-70B" in (tmp_path / "report.html").read_text()


def test_a_user_gives_files_and_a_command(page: Any) -> None:
    settled(page)
    page.get_by_text("Files and pasted text").click()
    files = {"name": "config.json", "mimeType": "application/json", "buffer": CONFIG.encode()}
    page.locator('input[type="file"]').set_input_files(files)
    page.get_by_text("8.03B parameters").first.wait_for()
    chosen(page, "What is it?", "Trace of requests")
    page.locator('input[type="file"][accept*="csv"]').set_input_files(
        {"name": "mine.csv", "mimeType": "text/csv", "buffer": TRACE.encode()}
    )
    page.get_by_text("mine.csv: 40 requests").first.wait_for()
    settled(page)
    page.get_by_role("textbox", name="Or an engine's command line").fill(COMMAND)
    page.keyboard.press("Control+Enter")
    page.wait_for_timeout(700)
    page.get_by_role("button", name="Read it").click()
    page.get_by_text("Llama-3.3-70B on 4 x").first.wait_for()


def test_twenty_sessions_at_once_each_get_their_own_answer(page: Any, address: str) -> None:
    settled(page)
    rates = range(1, 21)
    sessions = [page.context.new_page() for _ in rates]
    for rate, session in zip(rates, sessions, strict=True):
        session.goto(f"{address}/?model=qwen3-8b&gpu=h100-sxm&drafter=eagle3&rate={rate}", wait_until="commit")
    for rate, session in zip(rates, sessions, strict=True):
        session.get_by_text(f"the mean at {rate} requests/s").first.wait_for(timeout=WAIT_MS)

"""The page in headless Chromium, driven as a user would; skipped where playwright or a browser is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the page needs the app extra")
sync_api = pytest.importorskip("playwright.sync_api", reason="driving a browser needs the browser extra")
NAMES = ("chromium-headless-shell", "chromium", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium-headless-shell"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
CONFIG = (
    '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, '
    '"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, '
    '"max_position_embeddings": 131072}'
)
TRACE = "timestamp,input_length,output_length\n" + "".join(f"{n * 500},{100 + n},{10 + n}\n" for n in range(40))
COMMAND = "vllm serve meta-llama/Llama-3.3-70B-Instruct --tensor-parallel-size 4 --max-num-seqs 64"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    opened.goto(address)
    yield opened
    context.close()


def chosen(page: Any, label: str, option: str) -> None:
    """Choose in a box of the sidebar."""
    page.get_by_role("combobox", name=label).first.click()
    page.keyboard.type(option)
    page.get_by_role("option", name=option, exact=True).first.click()


def typed(page: Any, role: str, label: str, text: str) -> None:
    """Write into an input of the sidebar."""
    page.get_by_role(role, name=label).first.fill(text)
    page.keyboard.press("Enter")


def settled(page: Any) -> list[str]:
    """The verdict's words and figures, once the page stands still."""
    page.wait_for_selector(".verdict b")
    still(page)
    return [*page.locator(".verdict").all_inner_texts(), *page.get_by_test_id("stMetricValue").all_inner_texts()]


def still(page: Any) -> None:
    """Once the script has run: what it draws anew takes no clicks."""
    page.wait_for_timeout(500)  # until a change has reached the server
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def downloaded(page: Any, label: str, path: Path) -> str:
    """The text of the file that a button gives."""
    still(page)
    with page.expect_download() as taken:
        page.get_by_role("button", name=label).first.click()
    taken.value.save_as(path)
    return path.read_text()


def simulated(page: Any, *, rate: str, tpot: str, told: str) -> list[str]:
    """Ask at a rate and a limit, and simulate; the verdict by formula, once the simulation's is ``told``."""
    typed(page, "spinbutton", "Requests/s", rate)
    page.get_by_text(f"the mean at {rate} requests/s").first.wait_for()
    typed(page, "textbox", "TPOT p95", tpot)
    verdict = settled(page)
    page.get_by_role("button", name="Simulate this load").click()
    page.get_by_text(told).first.wait_for()
    return verdict


def test_a_user_asks_changes_takes_along_and_shares(page: Any, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/?set=workload.requests=200")  # few, so that simulations end soon
    first = settled(page)
    chosen(page, "Model", "llama-3.3-70b")
    chosen(page, "Tensor parallel", "4")
    second = simulated(page, rate="4", tpot="40ms", told="speculation on: SLO met")
    assert second != first
    still(page)
    page.get_by_role("button", name="Tune vllm").click()
    schedule = downloaded(page, "Engine configuration", tmp_path / "speculation.sh")
    assert schedule.startswith("vllm serve ")
    assert '"method": "eagle3"' in schedule

    chosen(page, "Drafter", "ngram")
    page.get_by_text("drafter ngram").first.wait_for()
    third = simulated(page, rate="8", tpot="5ms", told="speculation on: SLO missed")
    assert third != second
    assert "Llama-3.3-70B" in downloaded(page, "Report (HTML)", tmp_path / "report.html")

    other = page.context.new_page()
    other.goto(page.url)
    for _ in range(40):  # a slow machine stands still between the verdict and its figures
        if settled(other) == third:
            break
        other.wait_for_timeout(500)
    assert settled(other) == third


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
    still(page)
    page.get_by_role("button", name="Read it").click()
    page.get_by_text("Llama-3.3-70B on 4 x").first.wait_for()

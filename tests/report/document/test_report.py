"""The report's figures are those of the other verbs, in HTML as in Markdown; what is not asked is left out."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from specsim.cli.main import main
from specsim.planning.plan.growth import Growth
from specsim.planning.plan.named import Named
from specsim.report.document import Document, answers, capacity_report
from specsim.report.document.blocks import Listing, Section
from specsim.report.document.evidence import comparable_line
from specsim.report.served import number
from specsim.report.sheet import Sheet
from specsim.report.validation.study_errors import read_study_errors
from specsim.scenario import Asked, ShortOptions, ask
from specsim.specs.catalog import load_hardware

NAME = "<b>night & day</b>"
SMALL = ("cost.source=roofline", "workload.requests=150", "engine.max_num_seqs=16", f"name='{NAME}'")
OPTIONS = ["--price", "l40s=1.1", "--growth", "30", "--months", "3"]


def question(*settings: str, **options: object) -> Asked:
    short = {"model": "llama-3.1-8b", "gpu": "l40s", "tensor_parallel": 1, "prompt_tokens": 300, "output_tokens": 60}
    return ask(None, ShortOptions(**(short | options)), (*SMALL, *settings))  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="module")
def _two_drafters() -> object:
    """Instead of all that engines serve, whose maps take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "usual_drafters", lambda model, named=None: (["eagle3", "ngram"], {"mtp": "no layers"}))
        yield


@pytest.fixture(scope="module")
def report() -> Document:
    asked = question(
        "usd_per_gpu_hour=1.1", drafter="eagle-3", draft_tokens=2, rate_per_s=4, ttft_p95="500ms", tpot_p95="30ms"
    )
    return capacity_report(asked, named=Named(usd={"L40S": 1.1}), growth=Growth(30.0, 3), options=OPTIONS)


def section(document: Document, title: str) -> Section:
    return next(one for one in document.sections if one.title.startswith(title))


def sheets(document: Document, title: str) -> list[Sheet]:
    return [block for block in section(document, title).blocks if isinstance(block, Sheet)]


def test_every_part_of_a_whole_question_is_there_in_order(report: Document) -> None:
    assert [one.title for one in report.sections] == [
        "Service levels",
        "GPUs and cost",
        "Draft length, and what to paste",
        "Latency against load",
        "If it is otherwise",
        "Risks",
        "Throughput against a user's speed",
        "Speed-up by batch size and draft length",
        "Drafters",
        "Memory",
        "Where the time goes",
        "Measured error of comparable cases",
        "Assumptions, and where each is from",
        "To repeat it",
    ]
    assert re.match(r"(ON|OFF).*; the SLO is (met|missed)\.$", report.verdict)


def test_the_verdict_tells_what_comparable_runs_were_off_by(report: Document) -> None:
    """Of the model on the card where such runs were published; else of the card; else that nobody knows."""
    errors = [one for one in read_study_errors() if one.split == "test" and one.figure == "speed-up"]
    h100 = [one for one in errors if (one.gpu, one.model) == ("H100-SXM", "Llama-3.1-8B")]
    rows = sum(one.rows for one in h100)
    told = comparable_line(question(gpu="h100").scenario)
    assert told.startswith("Published runs of Llama-3.1-8B on H100-SXM: ")
    assert f"off by {sum(one.rows * one.mean for one in h100) / rows:.0%} in the mean" in told
    assert f"over {rows} test rows" in told
    missing = next(name for name in ("l4", "rtx-3090") if load_hardware(name).name not in {one.gpu for one in errors})
    assert "errors are not known" in comparable_line(question(gpu=missing).scenario)
    assert report.lead[-1] == comparable_line(question().scenario)


def test_its_own_commands_repeat_its_figures(
    report: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands, scenario = (one.text for one in section(report, "To repeat it").blocks if isinstance(one, Listing))
    Path("scenario.yaml").write_text(scenario)
    asked = {words[1]: words[1:] for words in map(shlex.split, commands.splitlines())}
    assert asked["report"][-len(OPTIONS) :] == OPTIONS

    assert main([*asked["predict"], "--json"]) == 0
    cells = {(one["batch"], one["draft_tokens"]): one for one in json.loads(capsys.readouterr().out)["grid"]}
    (table,) = sheets(report, "Speed-up")
    for row in table.rows:
        told = [float(cell.strip("[]")) for cell in row[1:-1]]
        assert told == [float(f"{cells[int(row[0]), k]['speedup']:.2f}") for k in range(len(told))]

    assert main([*asked["simulate"], "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["alternatives"]
    figures = {row[0]: row[1:] for row in sheets(report, "Service levels")[-1].rows}
    for label, key in (
        ("TTFT p95, ms", "p95_ttft_ms"),
        ("TPOT p99, ms", "p99_tpot_ms"),
        ("output tokens/s", "output_throughput"),
    ):
        assert list(figures[label][:2]) == [number(runs[name][key]) for name in ("speculation off", "speculation on")]
    loads = {row[0]: row for row in sheets(report, "Latency against load")[0].rows}
    assert loads["4"][2] == number(runs["speculation off"]["p95_ttft_ms"])

    assert main([*asked["plan"], "--no-what-if", "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table, growth = sheets(report, "GPUs and cost")
    assert [(row[0], row[5]) for row in table.rows] == [
        (str(one["gpus"]), f"{one['usd_per_month']:,.0f}") for one in found["options"]
    ]
    assert [list(row[:3]) for row in growth.rows[1:]] == [
        [str(one["month"]), f"{one['rate_per_s']:.3g}", str(one["gpus"])]
        for one in found["growth"]["fleets"][0]["months"]
    ]


def test_both_renderings_hold_the_same_numbers(report: Document) -> None:
    page = re.sub(r"<(script|style|title).*?</\1>", "", report.html(), flags=re.DOTALL)
    page = re.sub(r"<[^>]+>", " ", page)

    def numbers(text: str) -> Counter[str]:
        return Counter(re.findall(r"\d[\d.,]*\d|\d", html.unescape(text)))

    assert numbers(page) == numbers(report.markdown())


def test_tables_of_markdown_hold_each_row_in_one_line(report: Document) -> None:
    text = report.markdown()
    assert "```text" not in text
    found = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    wanted = [one for part in report.sections for one in part.blocks if isinstance(one, Sheet)]
    assert [len(lines) - 2 for lines in found] == [len(one.rows) for one in wanted]
    for lines, sheet in zip(found, wanted, strict=True):
        assert {len(re.findall(r"(?<!\\)\|", line)) - 1 for line in lines} == {len(sheet.header)}


def test_a_schedule_ends_at_the_engine_s_most_sequences_everywhere(report: Document) -> None:
    """In the table, in what the engine is given and in the commands that repeat the report."""
    rows = sheets(report, "Draft length")[1].rows
    assert re.fullmatch(r"(\d+-)?16", rows[-1][0])
    for listing in (section(report, title).blocks for title in ("Draft length", "To repeat it")):
        text = "".join(one.text for one in listing if isinstance(one, Listing))
        for ranges in re.findall(r"\[\[[\d, \[\]]+\]\]", text):
            assert json.loads(ranges)[-1][1] == 16


def test_a_name_is_text_in_both(report: Document) -> None:
    assert NAME not in report.html()
    assert html.escape(NAME) in report.html()
    outside = re.sub(r"^```.*?^```$", "", report.markdown(), flags=re.DOTALL | re.MULTILINE)
    assert "&lt;b>night & day&lt;/b>" in outside
    assert "<b>" not in outside


def test_a_fifth_less_load_or_acceptance_moves_latency_the_way_it_must(report: Document) -> None:
    (table,) = sheets(report, "If it is otherwise")
    seconds = {row[0]: (float(row[1]), float(row[2])) for row in table.rows if row[1]}
    assert seconds["load -20%"] <= seconds["as expected"] <= seconds["load +20%"]
    assert seconds["output tokens -20%"] < seconds["as expected"] < seconds["output tokens +20%"]
    fewer, more = seconds["accepted drafts -20%"], seconds["accepted drafts +20%"]
    assert fewer[1] > seconds["as expected"][1] > more[1]
    assert fewer[0] == more[0] == seconds["as expected"][0]  # off drafts nothing


def test_without_drafter_slo_and_rate_it_says_what_to_give() -> None:
    report = capacity_report(question(concurrency=4))
    titles = [one.title for one in report.sections]
    assert not any(title.startswith("Draft length") for title in titles)
    assert report.tone == "neutral"
    assert report.verdict.startswith("NO DRAFTER: mean E2E")
    text = report.markdown()
    assert "No SLO is given" in text
    assert "give the rate of an open loop" in text
    assert [row[0] for row in sheets(report, "Latency against load")[0].rows] == ["1", "2", "4", "8", "16", "32"]


def test_by_formula_nothing_is_simulated() -> None:
    report = capacity_report(question(concurrency=4, drafter="eagle-3", draft_tokens=2), simulated=False)
    assert [one.title for one in report.sections] == [
        "Speed-up by batch size and draft length",
        "Where the time goes",
        "Memory",
        "Assumptions, and where each is from",
        "To repeat it",
    ]
    assert report.verdict.startswith(("ON at batch 4", "OFF at batch 4"))

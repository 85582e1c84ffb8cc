"""Drafters side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.cli.main import main
from specsim.planning.compare import Comparison, compare
from specsim.planning.longer import drafting, trying_longer
from specsim.report.comparison import at_load_table, by_batch_table, comparison_lines
from specsim.scenario import Scenario, ShortOptions, ask
from specsim.serving.simulate import simulate

SETTINGS = ["cost.source=roofline", "workload.requests=40", "engine.max_num_seqs=16"]
ASKED = ShortOptions("llama-3.1-8b", "h100", concurrency=4, prompt_tokens=64, output_tokens=48)


def scenario(drafter: str, *settings: str) -> Scenario:
    return ask(None, ASKED, [*SETTINGS, f"speculation.program={drafter}", *settings]).scenario


@pytest.fixture(scope="module")
def found() -> Comparison:
    useless = scenario("draft-model", "speculation.acceptance={kind: constant, rate: 0.01}")
    drafters = {"useless": useless, "eagle3": scenario("eagle3"), "ngram": scenario("ngram")}
    return compare(drafters, batches=[1, 8], simulated=2)


def test_the_best_at_the_load_comes_first(found: Comparison) -> None:
    assert [one.name for one in found.drafters] == ["eagle3", "ngram", "useless"]
    assert found.load_batch == 4
    first = comparison_lines(found)[0]
    assert first.startswith("eagle3 with ")
    assert "cited (MT-bench), not measured" in first


def test_figures_are_those_of_the_map_and_of_the_simulation(found: Comparison) -> None:
    eagle = found.drafters[0]
    longer = trying_longer(scenario("eagle3"))
    cells = [cell for cell in speedup_map(assemble(longer), batches=[8]).cells if cell.draft_tokens]
    assert eagle.best_drafting(8).speedup == pytest.approx(max(cell.speedup for cell in cells))
    run = simulate(assemble(drafting(longer, eagle.draft_tokens))).summary()
    assert eagle.served is not None
    assert eagle.served["mean_e2el_ms"] == run["mean_e2el_ms"]
    assert found.plain["mean_e2el_ms"] > run["mean_e2el_ms"]
    assert found.drafters[2].served is None


def test_a_drafter_that_fits_fewer_sequences_leaves_large_batches_to_the_others(found: Comparison) -> None:
    eagle, ngram, useless = found.drafters
    few = replace(eagle.speedups, cells=tuple(cell for cell in eagle.speedups.cells if cell.batch < 8))
    fewer = replace(found, drafters=(replace(eagle, speedups=few), ngram, useless))
    assert (fewer.winner(1), fewer.winner(8)) == (fewer.drafters[0], ngram)
    assert by_batch_table(fewer).row_count == 4


def test_what_the_best_is_not_surely_better_than_is_level_with_it(found: Comparison) -> None:
    """Intervals that share one speed-up tie, those apart do not; nor does a drafter that is never right."""
    eagle, ngram, useless = found.drafters
    touching = replace(ngram, at_load=replace(ngram.at_load, low=0.5, high=eagle.at_load.low))
    below = replace(ngram, at_load=replace(ngram.at_load, low=0.5, high=eagle.at_load.low - 0.01))
    assert useless.at_load.high < eagle.at_load.low
    assert replace(found, drafters=(eagle, touching, useless)).level_at_load() == [touching]
    assert replace(found, drafters=(eagle, below, useless)).level_at_load() == []
    told = comparison_lines(replace(found, drafters=(eagle, touching, useless)))
    assert "Level with eagle3" in told[1]
    assert told[1].endswith(": ngram")
    assert useless not in found.level(1)


def test_what_drafts_nothing_is_left_out() -> None:
    both = {"none": scenario("none"), "eagle3": scenario("eagle3")}
    assert compare(both, batches=[1], simulated=0).left_out == {"none": "it drafts nothing"}


def test_a_drafter_that_is_never_right_loses_everywhere(found: Comparison) -> None:
    useless = compare({"useless": found.drafters[2].scenario}, batches=[1, 8])
    assert useless.winner(1) is None
    assert comparison_lines(useless) == [
        "Off is best at your load: useless with 1 drafts, the best of all, loses to it", "By batch size: off at 1 to 8"
    ]  # fmt: skip


def test_tables_fit_eighty_columns(found: Comparison) -> None:
    console = Console(width=80)
    slo = ask(None, ShortOptions("llama-3.1-8b", "h100", ttft_p95="1")).scenario.slo
    with console.capture() as capture:
        console.print(by_batch_table(found))
        console.print(at_load_table(found, slo))
    text = capture.get()
    assert "…" not in text
    eagle = next(line for line in text.splitlines() if line.startswith("eagle3") and "cited" in line)
    assert len(eagle.split()) == 11
    assert "useless" in text
    assert "missed" not in text


def test_longer_drafts_are_tried_as_far_as_acceptance_is_known() -> None:
    known = scenario("eagle3", "speculation.acceptance={kind: unconditional, rates: [0.7, 0.5, 0.4, 0.3]}")
    tree = scenario("eagle3-tree")
    assert tree.speculation is not None
    for one, k in ((scenario("eagle3"), 7), (known, 4), (tree, tree.speculation.max_draft_tokens)):
        longer = trying_longer(one).speculation
        assert longer is not None
        assert longer.max_draft_tokens == k
    assert trying_longer(known.without_speculation()).speculation is None


LOG = {
    "backend": "vllm", "spec_decode_num_drafts": 1000, "spec_decode_draft_tokens": 3000,
    "spec_decode_accepted_tokens": 2100, "spec_decode_per_position_acceptance_rates": [0.9, 0.7, 0.5],
}  # fmt: skip


def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any, str]:
    words = ["--model", "llama-3.1-8b", "--gpu", "h100", "--concurrency", "4", "--prompt", "64", "--output", "48"]
    settings = [word for one in SETTINGS for word in ("--set", one)]
    status = main(["compare", *words, *settings, "--batches", "1,4", "--json", *options])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def test_acceptance_from_the_users_own_log_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "bench.json"
    log.write_text(json.dumps(LOG))
    status, document, err = asked(tmp_path, capsys, "--drafters", "eagle3,ngram", "--fit", f"eagle3={log}")
    assert status == 0, err
    bases = {one["drafter"]: one["acceptance"]["basis"] for one in document["drafters"]}
    assert bases == {"eagle3": "measured", "ngram": "cited"}
    eagle = next(one for one in document["drafters"] if one["drafter"] == "eagle3")
    assert eagle["acceptance"]["source"] == str(log)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--drafters", "eagle3,ngram", "--fit", "log.json"), "whose log"),
        (("--drafters", "eagle3", "--fit", "ngram=log.json"), "not compared"),
        (("--drafters", "eagel"), "did you mean"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], fault: str
) -> None:
    status, _, err = asked(tmp_path, capsys, *options)
    assert status == 2
    assert fault in err
    assert err.count("\n") == 1
